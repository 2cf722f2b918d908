//! What a door asks of a volume and what it gets back.
//!
//! A door has already decided that a request is legal: it lies inside the attachment, and a read-only attachment is not
//! written. Offsets and lengths may be any; what is not whole blocks goes the slow way. Nothing behind the door checks
//! again, except by assertion.

use crate::attachment::Attachment;
use blockstore::{Buffer, Durability};

/// One guest request. `tag` comes back in the [`Reply`]; the engine gives it no meaning.
#[derive(Debug)]
pub struct Request {
    pub tag: u64,
    pub attachment: Attachment,
    pub action: Action,
}

/// What to do; offsets and lengths in bytes.
#[derive(Debug)]
pub enum Action {
    /// Fills the buffer from `offset`.
    Read { offset: u64, buffer: Buffer },
    /// Stores the buffer at `offset`. `Through` survives power loss once acknowledged.
    Write { offset: u64, buffer: Buffer, durability: Durability },
    /// Everything acknowledged before this request was submitted survives power loss once acknowledged.
    Flush,
    /// Whole blocks inside the range read as zeros afterwards and give their space back; partial blocks stay.
    Trim { offset: u64, length: u64, durability: Durability },
    /// The range reads as zeros afterwards. `Allocate` keeps or takes a block for every part of the range.
    WriteZeroes { offset: u64, length: u64, durability: Durability, space: ZeroSpace },
    /// What of the range is mapped: at most `limit` runs, the first starting at `offset`. They may end before the range
    /// does, but not at its start.
    Extents { offset: u64, length: u64, limit: usize, depths: Depths },
    /// Which parts of the range are mapped otherwise than in a snapshot; the same of the runs.
    Changes { since: Attachment, offset: u64, length: u64, limit: usize },
}

/// What write-zeroes does with the space of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroSpace {
    Release,
    Allocate,
}

/// Whether [`Action::Extents`] tells how far up the lineage the owners of shared blocks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depths {
    Told,
    /// All of them count as the nearest: what they have in common is one run.
    Alike,
}

/// The answer to one [`Request`].
#[derive(Debug)]
pub struct Reply {
    pub tag: u64,
    pub result: Result<Payload, RequestError>,
}

/// What a successful request returns.
#[derive(Debug)]
pub enum Payload {
    None,
    Buffer(Buffer),
    Extents(Vec<ExtentStatus>),
    Changes(Vec<ChangeStatus>),
}

/// One run of a volume as [`Action::Extents`] reports it; lengths in bytes, neighbours differ in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentStatus {
    pub length: u64,
    pub kind: ExtentKind,
}

/// Where the bytes of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// Never written or trimmed: reads as zeros.
    Hole,
    /// Mapped to a block of this volume's own layer.
    Own,
    /// Mapped to a block another layer owns: so many layers up, the nearest being 2.
    Shared { depth: u32 },
}

/// One run of a volume as [`Action::Changes`] reports it; length in bytes, neighbours differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeStatus {
    pub length: u64,
    pub changed: bool,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("the device failed")]
    Io,
    #[error("the pool has no free space")]
    OutOfSpace,
    #[error("the pool is read-only after a failed flush")]
    Poisoned,
    #[error("the volume or the pool is closing")]
    ShuttingDown,
}
