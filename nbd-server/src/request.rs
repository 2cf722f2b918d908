//! One request of the transmission phase: parsed, and judged by [`validate`], which alone decides what is legal.
//!
//! "Request types" and "Error values" of the specification. Behind [`validate`] nothing is checked again.

use crate::fields::Fields;
use crate::handshake::Terms;
use crate::limits::{BLOCK_BYTES_MIN, PAYLOAD_BYTES_MAX};
use crate::proto::{
    CMD_BLOCK_STATUS, CMD_DISC, CMD_FLAG_DF, CMD_FLAG_FUA, CMD_FLAG_NO_HOLE, CMD_FLAG_REQ_ONE, CMD_FLUSH,
    CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, Errno, REQUEST_BYTES, REQUEST_MAGIC,
};

/// A request header as the client sent it; nothing in it is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: u16,
    pub(crate) kind: u16,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

impl Header {
    /// `None` when the magic is wrong: the stream is out of step and cannot be followed any more.
    pub(crate) fn parse(raw: &[u8; REQUEST_BYTES]) -> Option<Self> {
        let mut fields = Fields::new(raw);
        if fields.u32()? != REQUEST_MAGIC {
            return None;
        }
        Some(Self {
            flags: fields.u16()?,
            kind: fields.u16()?,
            cookie: fields.u64()?,
            offset: fields.u64()?,
            length: fields.u32()?,
        })
    }

    /// Bytes that follow the header, whether the request is legal or not.
    pub(crate) fn payload(&self) -> u32 {
        if self.kind == CMD_WRITE { self.length } else { 0 }
    }
}

/// A legal part of the export: not empty, inside it, in whole sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) length: u32,
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
pub(crate) fn validate(header: &Header, terms: Terms, size: u64) -> Result<Command, Fault> {
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
            layout: match (terms.structured, flag(CMD_FLAG_DF)) {
                (false, _) => Layout::Simple,
                (true, false) => Layout::Chunks,
                (true, true) => Layout::OneChunk,
            },
        },
        CMD_WRITE => Command::Write { range, force },
        CMD_TRIM => Command::Trim { range, force },
        CMD_WRITE_ZEROES => {
            let holes = if flag(CMD_FLAG_NO_HOLE) { Holes::Forbidden } else { Holes::Allowed };
            Command::WriteZeroes { range, force, holes }
        }
        _ if !terms.status => return Err(fault(Errno::Invalid, "no metadata context was selected")),
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
fn check_flags(header: &Header, terms: Terms) -> Result<(), Fault> {
    let own = match header.kind {
        CMD_READ if terms.structured => CMD_FLAG_DF,
        CMD_READ | CMD_WRITE | CMD_FLUSH | CMD_TRIM => 0,
        CMD_WRITE_ZEROES => CMD_FLAG_NO_HOLE,
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
    if offset.checked_add(u64::from(length)).is_none_or(|end| end > size) {
        let errno =
            if matches!(kind, CMD_WRITE | CMD_WRITE_ZEROES) { Errno::NoSpace } else { Errno::Invalid };
        return Err(fault(errno, "the range ends behind the end of the export"));
    }
    if offset % u64::from(BLOCK_BYTES_MIN) != 0 || length % BLOCK_BYTES_MIN != 0 {
        return Err(fault(Errno::Invalid, "offset and length must be multiples of 512"));
    }
    if length > PAYLOAD_BYTES_MAX && kind == CMD_READ {
        return Err(fault(Errno::Overflow, "a read may have at most 32 MiB"));
    }
    if length > PAYLOAD_BYTES_MAX && kind == CMD_WRITE {
        return Err(fault(Errno::Invalid, "a write may have at most 32 MiB"));
    }
    Ok(Range { offset, length })
}

#[cfg(test)]
mod tests;
