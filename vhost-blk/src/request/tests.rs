use super::{Command, Data, Header, Range, Segment, Status, Terms, validate};

const TERMS: Terms = Terms { size: 1 << 20, read_only: false };
const NOTHING: Data = Data { readable: 0, writable: 0 };

fn ask(kind: u32, sector: u64, readable: u64, writable: u64) -> Result<Command, Status> {
    validate(Header { kind, sector }, None, Data { readable, writable }, TERMS)
}

fn zap(kind: u32, sector: u64, sectors: u32, flags: u32) -> Result<Command, Status> {
    validate(Header { kind, sector: 0 }, Some(Segment { sector, sectors, flags }), NOTHING, TERMS)
}

#[test]
fn transfers_are_whole_sectors_inside_the_export() {
    let range = Range { offset: 512, length: 4096 };
    assert_eq!(ask(0, 1, 0, 4096), Ok(Command::Read(range)));
    assert_eq!(ask(1, 1, 4096, 0), Ok(Command::Write(range)));
    for (kind, sector, readable, writable) in [
        (0, 0, 0, 0),
        (0, 0, 0, 511),
        (0, 2047, 0, 1024),
        (0, u64::MAX, 0, 512),
        (0, u64::MAX / 512, 0, 512),
        (0, 0, 512, 512),
        (1, 0, 512, 512),
        (1, 0, 0, 0),
        (1, 2048, 512, 0),
        (1, 0, 1 << 32, 0),
    ] {
        assert_eq!(ask(kind, sector, readable, writable), Err(Status::IoError), "{kind} {sector}");
    }
}

#[test]
fn discards_and_zeroes_name_one_range_inside_the_export() {
    let range = Range { offset: 4096, length: 8192 };
    assert_eq!(zap(11, 8, 16, 0), Ok(Command::Discard(range)));
    assert_eq!(zap(13, 8, 16, 0), Ok(Command::WriteZeroes { range, may_unmap: false }));
    assert_eq!(zap(13, 8, 16, 1), Ok(Command::WriteZeroes { range, may_unmap: true }));
    assert_eq!(zap(11, 8, 16, 1), Err(Status::Unsupported), "a discard has no flags");
    assert_eq!(zap(13, 8, 16, 2), Err(Status::Unsupported));
    for (sector, sectors) in [(0, 0), (2047, 2), (u64::MAX, 1), (0, u32::MAX)] {
        assert_eq!(zap(11, sector, sectors, 0), Err(Status::IoError));
    }
    let header = Header { kind: 11, sector: 0 };
    assert_eq!(validate(header, None, NOTHING, TERMS), Err(Status::IoError), "no range");
    let segment = Some(Segment { sector: 0, sectors: 8, flags: 0 });
    let two = Data { readable: 16, writable: 0 };
    assert_eq!(validate(header, segment, two, TERMS), Err(Status::IoError), "more ranges than offered");
}

#[test]
fn unknown_kinds_are_unsupported_and_read_only_is_kept() {
    for kind in [2, 3, 5, 7, 9, 10, 12, 14, 16, 0x8000_0000, u32::MAX] {
        assert_eq!(ask(kind, 0, 512, 0), Err(Status::Unsupported), "{kind}");
    }
    let terms = Terms { read_only: true, ..TERMS };
    let data = Data { readable: 512, writable: 0 };
    let segment = Some(Segment { sector: 0, sectors: 8, flags: 0 });
    assert_eq!(validate(Header { kind: 1, sector: 0 }, None, data, terms), Err(Status::IoError));
    assert_eq!(validate(Header { kind: 11, sector: 0 }, segment, NOTHING, terms), Err(Status::IoError));
    assert_eq!(validate(Header { kind: 13, sector: 0 }, segment, NOTHING, terms), Err(Status::IoError));
    assert_eq!(validate(Header { kind: 4, sector: 0 }, None, NOTHING, terms), Ok(Command::Flush));
}
