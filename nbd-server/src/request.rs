//! One request of the transmission phase: parsed, and judged by [`validate`], which alone decides what is legal.
//!
//! "Request types" and "Error values" of the specification. Behind [`validate`] nothing is checked again.

use crate::fields::Fields;
use crate::handshake::{Dialect, Terms};
use crate::limits::{BLOCK_BYTES_PREFERRED, PAYLOAD_BYTES_MAX};
use crate::proto::{
    CMD_BLOCK_STATUS, CMD_CACHE, CMD_DISC, CMD_FLAG_DF, CMD_FLAG_FAST_ZERO, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE,
    CMD_FLAG_PAYLOAD_LEN, CMD_FLAG_REQ_ONE, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES,
    EXTENDED_REQUEST_BYTES, EXTENDED_REQUEST_MAGIC, Errno, REQUEST_BYTES, REQUEST_MAGIC,
};

/// A request header as the client sent it; nothing in it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: u16,
    pub(crate) kind: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Bytes that follow the header, whether the request is legal or not.
    pub(crate) payload: u64,
}

/// What stands at the front of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// More bytes are needed.
    Hungry,
    /// The magic is wrong: the stream is out of step and cannot be followed any more.
    Lost,
    Header(Header),
}

impl Header {
    /// Takes a header off the front of `input`, if it is there whole.
    pub(crate) fn take(input: &mut &[u8], dialect: Dialect) -> Front {
        let is_extended = dialect == Dialect::Extended;
        let bytes = if is_extended { EXTENDED_REQUEST_BYTES } else { REQUEST_BYTES };
        let Some((raw, rest)) = input.split_at_checked(bytes) else { return Front::Hungry };
        *input = rest;
        Self::parse(raw, is_extended).map_or(Front::Lost, Front::Header)
    }

    fn parse(raw: &[u8], is_extended: bool) -> Option<Self> {
        let mut fields = Fields::new(raw);
        let magic = if is_extended { EXTENDED_REQUEST_MAGIC } else { REQUEST_MAGIC };
        if fields.u32()? != magic {
            return None;
        }
        let (flags, kind) = (fields.u16()?, fields.u16()?);
        let (cookie, offset) = (fields.u64()?, fields.u64()?);
        let length = if is_extended { fields.u64()? } else { u64::from(fields.u32()?) };
        let has_payload = kind == CMD_WRITE || (is_extended && flags & CMD_FLAG_PAYLOAD_LEN != 0);
        Some(Self { flags, kind, cookie, offset, length, payload: if has_payload { length } else { 0 } })
    }
}

/// A legal part of the export: not empty, inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Range {
    pub(crate) fn is_whole_blocks(self) -> bool {
        let block = u64::from(BLOCK_BYTES_PREFERRED);
        self.offset.is_multiple_of(block) && self.length.is_multiple_of(block)
    }

    /// The length of what is in memory: a payload.
    pub(crate) fn payload_bytes(self) -> usize {
        usize::try_from(self.length).expect("payloads are bounded")
    }
}

/// How the data of a read may be laid out in its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One simple reply.
    Simple,
    /// Structured: any number of chunks.
    Chunks,
    /// Structured: one chunk with content.
    OneChunk,
}

/// When a change is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Force {
    No,
    /// FUA: it survives power loss by then.
    Yes,
}

/// A legal request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Read { range: Range, layout: Layout },
    Write { range: Range, force: Force },
    Flush,
    Trim { range: Range, force: Force },
    WriteZeroes { range: Range, force: Force, holes: Holes },
    Status { range: Range, descriptors: Descriptors },
    Cache { range: Range },
    Disconnect,
}

/// Whether zeroes may be stored as a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    Allowed,
    Forbidden,
}

/// How many descriptors a block status reply may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descriptors {
    Many,
    One,
}

/// What an illegal request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) errno: Errno,
    pub(crate) text: &'static str,
}

fn fault(errno: Errno, text: &'static str) -> Fault {
    Fault { errno, text }
}

/// Decides whether a request is legal on an export of `size` bytes.
pub(crate) fn validate(header: &Header, terms: &Terms, size: u64) -> Result<Command, Fault> {
    if header.kind == CMD_DISC {
        return Ok(Command::Disconnect);
    }
    check_flags(header, terms)?;
    if changes(header.kind) && terms.read_only {
        return Err(fault(Errno::NotPermitted, "the export is read-only"));
    }
    if header.kind == CMD_FLUSH {
        return match (header.offset, header.length) {
            (0, 0) => Ok(Command::Flush),
            _ => Err(fault(Errno::Invalid, "a flush has no offset and no length")),
        };
    }
    let range = check_range(header, size)?;
    let flag = |bit| header.flags & bit != 0;
    let force = if flag(CMD_FLAG_FUA) { Force::Yes } else { Force::No };
    Ok(match header.kind {
        CMD_READ => Command::Read {
            range,
            layout: match (terms.dialect, flag(CMD_FLAG_DF)) {
                (Dialect::Simple, _) => Layout::Simple,
                (_, false) => Layout::Chunks,
                (_, true) => Layout::OneChunk,
            },
        },
        CMD_WRITE => Command::Write { range, force },
        CMD_TRIM => Command::Trim { range, force },
        CMD_WRITE_ZEROES => {
            let holes = if flag(CMD_FLAG_NO_HOLE) { Holes::Forbidden } else { Holes::Allowed };
            if flag(CMD_FLAG_FAST_ZERO) && !is_fast(range, holes) {
                return Err(fault(Errno::NotSupported, "zeroing this range is no faster than writing it"));
            }
            Command::WriteZeroes { range, force, holes }
        }
        CMD_CACHE => Command::Cache { range },
        _ if terms.contexts.is_empty() => {
            return Err(fault(Errno::Invalid, "no metadata context was selected"));
        }
        _ => {
            let descriptors = if flag(CMD_FLAG_REQ_ONE) { Descriptors::One } else { Descriptors::Many };
            Command::Status { range, descriptors }
        }
    })
}

fn changes(kind: u16) -> bool {
    matches!(kind, CMD_WRITE | CMD_TRIM | CMD_WRITE_ZEROES)
}

/// FUA is legal everywhere once it is advertised; the other flags belong to one command each.
fn check_flags(header: &Header, terms: &Terms) -> Result<(), Fault> {
    let own = match header.kind {
        CMD_READ if terms.dialect != Dialect::Simple => CMD_FLAG_DF,
        CMD_WRITE if terms.dialect == Dialect::Extended => CMD_FLAG_PAYLOAD_LEN,
        CMD_READ | CMD_WRITE | CMD_FLUSH | CMD_TRIM | CMD_CACHE => 0,
        CMD_WRITE_ZEROES => CMD_FLAG_NO_HOLE | CMD_FLAG_FAST_ZERO,
        CMD_BLOCK_STATUS => CMD_FLAG_REQ_ONE,
        _ => return Err(fault(Errno::Invalid, "this command is not known")),
    };
    if header.flags & !(own | CMD_FLAG_FUA) != 0 {
        return Err(fault(Errno::Invalid, "a flag does not belong to this command"));
    }
    Ok(())
}

fn check_range(header: &Header, size: u64) -> Result<Range, Fault> {
    let Header { kind, offset, length, .. } = *header;
    if length == 0 {
        return Err(fault(Errno::Invalid, "the length is zero"));
    }
    if offset.checked_add(length).is_none_or(|end| end > size) {
        let errno =
            if matches!(kind, CMD_WRITE | CMD_WRITE_ZEROES) { Errno::NoSpace } else { Errno::Invalid };
        return Err(fault(errno, "the range ends behind the end of the export"));
    }
    if length > u64::from(PAYLOAD_BYTES_MAX) && kind == CMD_READ {
        return Err(fault(Errno::Overflow, "a read may have at most 32 MiB"));
    }
    if length > u64::from(PAYLOAD_BYTES_MAX) && kind == CMD_WRITE {
        return Err(fault(Errno::Invalid, "a write may have at most 32 MiB"));
    }
    Ok(Range { offset, length })
}

/// Whether zeroing is quicker than writing zeros: where nothing but whole blocks becomes holes.
fn is_fast(range: Range, holes: Holes) -> bool {
    holes == Holes::Allowed && range.is_whole_blocks()
}

#[cfg(test)]
mod tests;
