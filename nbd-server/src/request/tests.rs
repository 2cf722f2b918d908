use super::{Command, Descriptors, Force, Header, Holes, Layout, Range, validate};
use crate::handshake::Terms;
use crate::proto::Errno::{self, Invalid, NoSpace, NotPermitted, Overflow};
use crate::proto::{
    CMD_BLOCK_STATUS, CMD_DISC, CMD_FLAG_DF, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLAG_REQ_ONE, CMD_FLUSH,
    CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, REQUEST_BYTES,
};
use proptest::prelude::{any, proptest};

const TERMS: Terms = Terms { read_only: false, structured: true, status: true };
const SIZE: u64 = 1 << 20;

fn header(kind: u16, flags: u16, offset: u64, length: u32) -> Header {
    Header { flags, kind, cookie: 7, offset, length }
}

fn errno(terms: Terms, size: u64, header: Header) -> Errno {
    validate(&header, terms, size).map(|command| panic!("{command:?} is legal")).expect_err("refused").errno
}

#[test]
fn each_command_is_understood() {
    let range = Range { offset: 512, length: 1024 };
    let legal =
        |kind, flags| validate(&header(kind, flags, 512, 1024), TERMS, SIZE).expect("a legal request");
    assert_eq!(legal(CMD_READ, 0), Command::Read { range, layout: Layout::Chunks });
    assert_eq!(legal(CMD_READ, CMD_FLAG_DF), Command::Read { range, layout: Layout::OneChunk });
    assert_eq!(legal(CMD_WRITE, 0), Command::Write { range, force: Force::No });
    assert_eq!(legal(CMD_WRITE, CMD_FLAG_FUA), Command::Write { range, force: Force::Yes });
    assert_eq!(legal(CMD_TRIM, CMD_FLAG_FUA), Command::Trim { range, force: Force::Yes });
    assert_eq!(
        legal(CMD_WRITE_ZEROES, CMD_FLAG_NO_HOLE),
        Command::WriteZeroes { range, force: Force::No, holes: Holes::Forbidden }
    );
    assert_eq!(
        legal(CMD_BLOCK_STATUS, CMD_FLAG_REQ_ONE),
        Command::Status { range, descriptors: Descriptors::One }
    );
    assert_eq!(validate(&header(CMD_FLUSH, 0, 0, 0), TERMS, SIZE), Ok(Command::Flush));
    assert_eq!(validate(&header(CMD_DISC, 0xffff, 1, 1), TERMS, SIZE), Ok(Command::Disconnect));
}

#[test]
fn force_unit_access_is_accepted_on_every_command() {
    for kind in [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS] {
        assert!(validate(&header(kind, CMD_FLAG_FUA, 0, 512), TERMS, SIZE).is_ok());
    }
    assert!(validate(&header(CMD_FLUSH, CMD_FLAG_FUA, 0, 0), TERMS, SIZE).is_ok());
}

#[test]
fn flags_of_other_commands_and_unknown_flags_are_refused() {
    for kind in [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS] {
        let own = match kind {
            CMD_READ => CMD_FLAG_DF,
            CMD_WRITE_ZEROES => CMD_FLAG_NO_HOLE,
            CMD_BLOCK_STATUS => CMD_FLAG_REQ_ONE,
            _ => 0,
        };
        for bit in (1..16).map(|bit| 1 << bit).filter(|bit| *bit != own) {
            assert_eq!(errno(TERMS, SIZE, header(kind, bit, 0, 512)), Invalid, "kind {kind} flag {bit:#x}");
        }
    }
    let simple = Terms { structured: false, ..TERMS };
    assert_eq!(errno(simple, SIZE, header(CMD_READ, CMD_FLAG_DF, 0, 512)), Invalid);
}

#[test]
fn what_lies_behind_the_end_has_the_error_of_its_command() {
    for (offset, length) in [(SIZE - 512, 1024), (SIZE, 512), (u64::MAX - 511, 512), (u64::MAX, u32::MAX)] {
        for (kind, expected) in [
            (CMD_READ, Invalid),
            (CMD_TRIM, Invalid),
            (CMD_BLOCK_STATUS, Invalid),
            (CMD_WRITE, NoSpace),
            (CMD_WRITE_ZEROES, NoSpace),
        ] {
            assert_eq!(errno(TERMS, SIZE, header(kind, 0, offset, length)), expected);
        }
    }
}

#[test]
fn requests_are_whole_sectors_and_not_empty() {
    for kind in [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS] {
        for (offset, length) in [(1, 512), (0, 511), (256, 256), (0, 0), (512, 0)] {
            assert_eq!(errno(TERMS, SIZE, header(kind, 0, offset, length)), Invalid);
        }
    }
    assert_eq!(errno(TERMS, SIZE, header(CMD_FLUSH, 0, 0, 512)), Invalid);
    assert_eq!(errno(TERMS, SIZE, header(CMD_FLUSH, 0, 512, 0)), Invalid);
}

#[test]
fn payloads_are_bounded_and_effects_are_not() {
    let (most, size) = (32 << 20, 8 << 30);
    assert!(validate(&header(CMD_READ, 0, 0, most), TERMS, size).is_ok());
    assert!(validate(&header(CMD_WRITE, 0, 0, most), TERMS, size).is_ok());
    assert_eq!(errno(TERMS, size, header(CMD_READ, 0, 0, most + 512)), Overflow);
    assert_eq!(errno(TERMS, size, header(CMD_WRITE, 0, 0, most + 512)), Invalid);
    let longest = u32::MAX - 511;
    for kind in [CMD_TRIM, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS] {
        assert!(validate(&header(kind, 0, 512, longest), TERMS, size).is_ok());
        assert_eq!(errno(TERMS, size, header(kind, 0, 512, u32::MAX)), Invalid);
    }
}

#[test]
fn a_read_only_export_is_not_changed() {
    let terms = Terms { read_only: true, ..TERMS };
    for kind in [CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES] {
        assert_eq!(errno(terms, SIZE, header(kind, 0, 0, 512)), NotPermitted);
    }
    assert!(validate(&header(CMD_READ, 0, 0, 512), terms, SIZE).is_ok());
    assert!(validate(&header(CMD_FLUSH, 0, 0, 0), terms, SIZE).is_ok());
}

#[test]
fn block_status_needs_a_selected_context_and_unknown_commands_are_refused() {
    let terms = Terms { status: false, ..TERMS };
    assert_eq!(errno(terms, SIZE, header(CMD_BLOCK_STATUS, 0, 0, 512)), Invalid);
    for kind in [5, 8, 9, 0xffff] {
        assert_eq!(errno(TERMS, SIZE, header(kind, 0, 0, 512)), Invalid);
    }
}

proptest! {
    #[test]
    fn a_legal_range_lies_inside_the_export(
        kind in 0u16..9, flags in 0u16..32, offset in any::<u64>(), length in any::<u32>(), size in any::<u64>(),
        read_only in any::<bool>(), structured in any::<bool>(), status in any::<bool>(),
    ) {
        let terms = Terms { read_only, structured, status };
        let range = match validate(&header(kind, flags, offset, length), terms, size) {
            Ok(Command::Read { range, .. } | Command::Write { range, .. } | Command::Trim { range, .. }
                | Command::WriteZeroes { range, .. } | Command::Status { range, .. }) => range,
            Ok(Command::Flush | Command::Disconnect) | Err(_) => return Ok(()),
        };
        assert!(range.length > 0 && range.length % 512 == 0 && range.offset % 512 == 0);
        assert!(u128::from(range.offset) + u128::from(range.length) <= u128::from(size));
    }

    #[test]
    fn any_bytes_are_a_header_or_out_of_step(raw in any::<[u8; REQUEST_BYTES]>()) {
        assert_eq!(Header::parse(&raw).is_some(), raw[..4] == [0x25, 0x60, 0x95, 0x13]);
    }
}
