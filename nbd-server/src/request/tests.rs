use super::{Command, Descriptors, Force, Front, Header, Holes, Layout, Range, validate};
use crate::contexts::Context;
use crate::handshake::{Dialect, Terms};
use crate::proto::Errno::{self, Invalid, NoSpace, NotPermitted, Overflow};
use crate::proto::{
    CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLAG_DF, CMD_FLAG_FAST_ZERO, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE,
    CMD_FLAG_REQ_ONE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, EXTENDED_REQUEST_BYTES,
    REQUEST_BYTES,
};
use proptest::prelude::{any, proptest};

const SIZE: u64 = 1 << 20;

fn terms() -> Terms {
    Terms { read_only: false, dialect: Dialect::Structured, contexts: vec![Context::Allocation] }
}

fn header(kind: u16, flags: u16, offset: u64, length: u64) -> Header {
    Header { flags, kind, cookie: 7, offset, length, payload: 0 }
}

fn errno(terms: &Terms, size: u64, header: Header) -> Errno {
    validate(&header, terms, size).map(|command| panic!("{command:?} is legal")).expect_err("refused").errno
}

#[test]
fn each_command_is_understood() {
    let range = Range { offset: 512, length: 1024 };
    let legal =
        |kind, flags| validate(&header(kind, flags, 512, 1024), &terms(), SIZE).expect("a legal request");
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
    assert_eq!(validate(&header(CMD_FLUSH, 0, 0, 0), &terms(), SIZE), Ok(Command::Flush));
    assert_eq!(validate(&header(CMD_DISC, 0xffff, 1, 1), &terms(), SIZE), Ok(Command::Disconnect));
}

#[test]
fn force_unit_access_is_accepted_on_every_command() {
    for kind in [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS, CMD_CACHE] {
        assert!(validate(&header(kind, CMD_FLAG_FUA, 0, 512), &terms(), SIZE).is_ok());
    }
    assert!(validate(&header(CMD_FLUSH, CMD_FLAG_FUA, 0, 0), &terms(), SIZE).is_ok());
}

#[test]
fn flags_of_other_commands_and_unknown_flags_are_refused() {
    for kind in [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS, CMD_CACHE] {
        let own = match kind {
            CMD_READ => CMD_FLAG_DF,
            CMD_WRITE_ZEROES => CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
            CMD_BLOCK_STATUS => CMD_FLAG_REQ_ONE,
            _ => 0,
        };
        for bit in (1..16).map(|bit| 1 << bit).filter(|bit| bit & own == 0) {
            assert_eq!(
                errno(&terms(), SIZE, header(kind, bit, 0, 512)),
                Invalid,
                "kind {kind} flag {bit:#x}"
            );
        }
    }
    let simple = Terms { dialect: Dialect::Simple, ..terms() };
    assert_eq!(errno(&simple, SIZE, header(CMD_READ, CMD_FLAG_DF, 0, 512)), Invalid);
}

#[test]
fn what_lies_behind_the_end_has_the_error_of_its_command() {
    for (offset, length) in
        [(SIZE - 512, 1024), (SIZE, 512), (u64::MAX - 511, 512), (u64::MAX, u64::from(u32::MAX))]
    {
        for (kind, expected) in [
            (CMD_READ, Invalid),
            (CMD_TRIM, Invalid),
            (CMD_BLOCK_STATUS, Invalid),
            (CMD_CACHE, Invalid),
            (CMD_WRITE, NoSpace),
            (CMD_WRITE_ZEROES, NoSpace),
        ] {
            assert_eq!(errno(&terms(), SIZE, header(kind, 0, offset, length)), expected);
        }
    }
}

#[test]
fn requests_are_not_empty_and_may_be_of_any_bytes() {
    for kind in [CMD_READ, CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS, CMD_CACHE] {
        for (offset, length) in [(1, 512), (0, 511), (256, 256), (SIZE - 1, 1)] {
            assert!(validate(&header(kind, 0, offset, length), &terms(), SIZE).is_ok());
        }
        for offset in [0, 1, 512] {
            assert_eq!(errno(&terms(), SIZE, header(kind, 0, offset, 0)), Invalid);
        }
    }
    assert_eq!(errno(&terms(), SIZE, header(CMD_FLUSH, 0, 0, 512)), Invalid);
    assert_eq!(errno(&terms(), SIZE, header(CMD_FLUSH, 0, 512, 0)), Invalid);
}

#[test]
fn payloads_are_bounded_and_effects_are_not() {
    let (most, size) = (32 << 20, 8 << 30);
    assert!(validate(&header(CMD_READ, 0, 0, most), &terms(), size).is_ok());
    assert!(validate(&header(CMD_WRITE, 0, 0, most), &terms(), size).is_ok());
    assert_eq!(errno(&terms(), size, header(CMD_READ, 0, 0, most + 512)), Overflow);
    assert_eq!(errno(&terms(), size, header(CMD_WRITE, 0, 0, most + 512)), Invalid);
    let longest = u64::from(u32::MAX) - 511;
    for kind in [CMD_TRIM, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS] {
        assert!(validate(&header(kind, 0, 512, longest), &terms(), size).is_ok());
        assert!(validate(&header(kind, 0, 512, u64::from(u32::MAX)), &terms(), size).is_ok());
    }
}

#[test]
fn a_read_only_export_is_not_changed() {
    let read_only = Terms { read_only: true, ..terms() };
    for kind in [CMD_WRITE, CMD_TRIM, CMD_WRITE_ZEROES] {
        assert_eq!(errno(&read_only, SIZE, header(kind, 0, 0, 512)), NotPermitted);
    }
    assert!(validate(&header(CMD_READ, 0, 0, 512), &read_only, SIZE).is_ok());
    assert!(validate(&header(CMD_FLUSH, 0, 0, 0), &read_only, SIZE).is_ok());
}

#[test]
fn block_status_needs_a_selected_context_and_unknown_commands_are_refused() {
    let none = Terms { contexts: Vec::new(), ..terms() };
    assert_eq!(errno(&none, SIZE, header(CMD_BLOCK_STATUS, 0, 0, 512)), Invalid);
    for kind in [8, 9, 0xffff] {
        assert_eq!(errno(&terms(), SIZE, header(kind, 0, 0, 512)), Invalid);
    }
}

proptest! {
    #[test]
    fn a_legal_range_lies_inside_the_export(
        kind in 0u16..9, flags in 0u16..64, offset in any::<u64>(), length in any::<u64>(), size in any::<u64>(),
        read_only in any::<bool>(), dialect in 0..3_u8, status in any::<bool>(),
    ) {
        let dialect = [Dialect::Simple, Dialect::Structured, Dialect::Extended][usize::from(dialect)];
        let contexts = if status { vec![Context::Depth] } else { Vec::new() };
        let terms = Terms { read_only, dialect, contexts };
        let range = match validate(&header(kind, flags, offset, length), &terms, size) {
            Ok(Command::Read { range, .. } | Command::Write { range, .. } | Command::Trim { range, .. }
                | Command::WriteZeroes { range, .. } | Command::Status { range, .. } | Command::Cache { range }) => range,
            Ok(Command::Flush | Command::Disconnect) | Err(_) => return Ok(()),
        };
        assert!(range.length > 0);
        assert!(u128::from(range.offset) + u128::from(range.length) <= u128::from(size));
    }

    #[test]
    fn any_bytes_are_a_header_or_out_of_step(raw in any::<[u8; EXTENDED_REQUEST_BYTES]>()) {
        for (dialect, magic, bytes) in [
            (Dialect::Simple, [0x25, 0x60, 0x95, 0x13], REQUEST_BYTES),
            (Dialect::Structured, [0x25, 0x60, 0x95, 0x13], REQUEST_BYTES),
            (Dialect::Extended, [0x21, 0xe4, 0x1c, 0x71], EXTENDED_REQUEST_BYTES),
        ] {
            let mut right = raw;
            right[..4].copy_from_slice(&magic);
            let mut input = right.as_slice();
            assert!(matches!(Header::take(&mut input, dialect), Front::Header(_)));
            assert_eq!(input.len(), raw.len() - bytes);
            assert_eq!(Header::take(&mut &right[..bytes - 1], dialect), Front::Hungry);
            let found = Header::take(&mut raw.as_slice(), dialect);
            assert_eq!(found == Front::Lost, raw[..4] != magic);
        }
    }
}
