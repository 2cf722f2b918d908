//! One request of a driver: virtio 1.2, section 5.2.6. [`validate`] alone decides what is legal.

use crate::limits::{DISCARD_SECTORS_MAX, SECTOR_BYTES, TRANSFER_BYTES_MAX};
use virtio_bindings::bindings::virtio_blk as blk;

pub(crate) const HEADER_BYTES: usize = 16;
/// Bytes of the range a discard or write-zeroes names.
pub(crate) const SEGMENT_BYTES: usize = 16;
/// Bytes of an identifier.
pub(crate) const ID_BYTES: usize = 20;
const FLAG_UNMAP: u32 = 1;

/// What the last byte of a request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    IoError,
    Unsupported,
}

impl Status {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Status::Ok => 0,
            Status::IoError => 1,
            Status::Unsupported => 2,
        }
    }
}

/// A request header as the driver wrote it; nothing in it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u32,
    pub(crate) sector: u64,
}

/// The range of a discard or write-zeroes, as the driver wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    sector: u64,
    sectors: u32,
    flags: u32,
}

/// The bytes that go with a request, without header and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) readable: u64,
    pub(crate) writable: u64,
}

/// What an export allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) read_only: bool,
}

/// A range of bytes inside the export, in whole sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A legal request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Read(Range),
    Write(Range),
    Flush,
    Discard(Range),
    WriteZeroes { range: Range, may_unmap: bool },
    GetId,
}

impl Command {
    /// A transfer's first bytes, in whole sectors, and what is left of it. Parts of what is legal are legal.
    pub(crate) fn split(self, bytes: u64) -> (Command, Option<Command>) {
        match self {
            Command::Read(range) => range.split(bytes, Command::Read),
            Command::Write(range) => range.split(bytes, Command::Write),
            other => (other, None),
        }
    }
}

impl Range {
    fn split(self, bytes: u64, kind: fn(Range) -> Command) -> (Command, Option<Command>) {
        let first = Range { length: self.length.min(bytes), ..self };
        let rest = Range { offset: self.offset + first.length, length: self.length - first.length };
        (kind(first), (rest.length > 0).then(|| kind(rest)))
    }
}

impl Header {
    pub(crate) fn parse(raw: &[u8; HEADER_BYTES]) -> Self {
        Self { kind: u32_at(raw, 0), sector: u64_at(raw, 8) }
    }

    /// Whether the data for the device begins with a [`Segment`].
    pub(crate) fn has_segment(&self) -> bool {
        matches!(self.kind, blk::VIRTIO_BLK_T_DISCARD | blk::VIRTIO_BLK_T_WRITE_ZEROES)
    }
}

impl Segment {
    pub(crate) fn parse(raw: &[u8; SEGMENT_BYTES]) -> Self {
        Self { sector: u64_at(raw, 0), sectors: u32_at(raw, 8), flags: u32_at(raw, 12) }
    }
}

/// Decides whether a request is legal. `segment` is there for the kinds that have one, if the driver sent it.
pub(crate) fn validate(
    header: Header,
    segment: Option<Segment>,
    data: Data,
    terms: Terms,
) -> Result<Command, Status> {
    let changes = header.kind == blk::VIRTIO_BLK_T_OUT || header.has_segment();
    if changes && terms.read_only {
        return Err(Status::IoError);
    }
    match header.kind {
        blk::VIRTIO_BLK_T_IN if data.readable == 0 => {
            transfer(header.sector, data.writable, terms).map(Command::Read)
        }
        blk::VIRTIO_BLK_T_OUT if data.writable == 0 => {
            transfer(header.sector, data.readable, terms).map(Command::Write)
        }
        blk::VIRTIO_BLK_T_FLUSH => Ok(Command::Flush),
        blk::VIRTIO_BLK_T_DISCARD => {
            let segment = segment.filter(|_| data == Data { readable: 0, writable: 0 });
            let segment = segment.ok_or(Status::IoError)?;
            if segment.flags != 0 {
                return Err(Status::Unsupported);
            }
            extent(segment, terms).map(Command::Discard)
        }
        blk::VIRTIO_BLK_T_WRITE_ZEROES => {
            let segment = segment.filter(|_| data == Data { readable: 0, writable: 0 });
            let segment = segment.ok_or(Status::IoError)?;
            if segment.flags & !FLAG_UNMAP != 0 {
                return Err(Status::Unsupported);
            }
            let may_unmap = segment.flags & FLAG_UNMAP != 0;
            extent(segment, terms).map(|range| Command::WriteZeroes { range, may_unmap })
        }
        blk::VIRTIO_BLK_T_GET_ID if data.writable > 0 => Ok(Command::GetId),
        blk::VIRTIO_BLK_T_IN | blk::VIRTIO_BLK_T_OUT | blk::VIRTIO_BLK_T_GET_ID => Err(Status::IoError),
        _ => Err(Status::Unsupported),
    }
}

fn transfer(sector: u64, length: u64, terms: Terms) -> Result<Range, Status> {
    if length == 0 || length > u64::from(TRANSFER_BYTES_MAX) || !length.is_multiple_of(SECTOR_BYTES) {
        return Err(Status::IoError);
    }
    inside(sector, length, terms)
}

fn extent(segment: Segment, terms: Terms) -> Result<Range, Status> {
    if segment.sectors == 0 || segment.sectors > DISCARD_SECTORS_MAX {
        return Err(Status::IoError);
    }
    inside(segment.sector, u64::from(segment.sectors) * SECTOR_BYTES, terms)
}

fn inside(sector: u64, length: u64, terms: Terms) -> Result<Range, Status> {
    let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Status::IoError)?;
    match offset.checked_add(length) {
        Some(end) if end <= terms.size => Ok(Range { offset, length }),
        _ => Err(Status::IoError),
    }
}

fn u32_at(raw: &[u8; 16], at: usize) -> u32 {
    u32::from_le_bytes(raw[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(raw: &[u8; 16], at: usize) -> u64 {
    u64::from_le_bytes(raw[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
