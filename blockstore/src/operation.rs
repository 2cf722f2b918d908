//! What is asked of a device and what comes back: submissions and completions.

use crate::buffer::Buffer;
use crate::error::IoError;

/// The caller's own mark on an operation; devices give it back unchanged and attach no meaning to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// It may sit in a volatile cache until a flush (B2).
    Cached,
    /// It survives power loss by itself; the field says FUA.
    Through,
}

/// One operation. Offsets and lengths are in bytes and multiples of the device's alignment.
#[derive(Debug)]
pub enum Operation {
    Read {
        offset: u64,
        buffer: Buffer,
    },
    Write {
        offset: u64,
        buffer: Buffer,
        durability: Durability,
    },
    /// Makes durable what had completed when this was submitted (B2).
    Flush,
    /// Gives the range back to the medium (B7).
    Discard {
        offset: u64,
        length: u64,
    },
    /// The range reads as zeros afterwards and keeps its place on the medium (B7).
    WriteZeroes {
        offset: u64,
        length: u64,
    },
    /// Reserves a place for the range, so that a write into it cannot run out of space. Contents stay.
    Allocate {
        offset: u64,
        length: u64,
    },
    /// Sets the device's size; what is new reads as zeros. A block device is made longer by others: it takes the size
    /// that it has by then, and no other.
    Resize {
        length: u64,
    },
}

/// An operation's name, without its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperationKind {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    Allocate,
    Resize,
}

impl Operation {
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Read { .. } => OperationKind::Read,
            Self::Write { .. } => OperationKind::Write,
            Self::Flush => OperationKind::Flush,
            Self::Discard { .. } => OperationKind::Discard,
            Self::WriteZeroes { .. } => OperationKind::WriteZeroes,
            Self::Allocate { .. } => OperationKind::Allocate,
            Self::Resize { .. } => OperationKind::Resize,
        }
    }

    /// The buffer a completion gives back.
    pub fn into_buffer(self) -> Option<Buffer> {
        match self {
            Self::Read { buffer, .. } | Self::Write { buffer, .. } => Some(buffer),
            _ => None,
        }
    }
}

/// An operation on its way to a device, which owns its buffer until the completion (B4).
#[derive(Debug)]
pub struct Submission {
    pub token: Token,
    pub operation: Operation,
}

/// The one answer to a submission (B6). Reads and writes get their buffer back whatever the result.
#[derive(Debug)]
pub struct Completion {
    pub token: Token,
    pub buffer: Option<Buffer>,
    pub result: Result<(), IoError>,
}

impl Completion {
    pub(crate) fn of(submission: Submission, result: Result<(), IoError>) -> Self {
        Self { token: submission.token, buffer: submission.operation.into_buffer(), result }
    }
}
