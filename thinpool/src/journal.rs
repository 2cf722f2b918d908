//! The journal: a ring of numbered batches.
//!
//! ```text
//!            start: oldest batch still needed          next: where the next one goes
//!              |                                         |
//!   [ old laps | batch 7     | batch 8 | batch 9         | old laps ]      each: header, payload, padding to a block
//! ```
//! * J1 Numbers never repeat in the life of a pool and grow by one; batch n + 1 is submitted when n is durable. So a
//!   batch behind a missing one is damage, never a tail to cut.
//! * J2 A batch names the superblock generation it builds on; a batch newer than the superblock is damage.
//! * J3 What lies between `start` and `next` is never overwritten; whatever else the ring holds has a lower number, or is
//!   the torn beginning of batch `next`, at its very place.
//! * J4 Payloads hold records, never guest data: no guest can write something that looks like a batch.

mod batch;
mod frame;
mod ring;
mod scan;

pub(crate) use frame::{FrameDamage, frame, framed_len, frames};
pub(crate) use ring::Ring;
pub(crate) use scan::{JournalDamage, Scanned, scan};

#[cfg(test)]
pub(crate) use batch::LAYOUT;
#[cfg(test)]
pub(crate) use frame::LAYOUT as FRAME_LAYOUT;

use std::fmt;

/// Number of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchNumber(pub u64);

impl BatchNumber {
    /// # Panics
    /// After 2^64 batches.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a pool does not live for 2^64 commits"))
    }
}

impl fmt::Display for BatchNumber {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// A batch and the ring block it begins in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Position {
    pub number: BatchNumber,
    pub block: u32,
}

impl Position {
    /// Where a new pool's journal begins.
    pub(crate) const FIRST: Position = Position { number: BatchNumber(1), block: 0 };
}

#[cfg(test)]
mod tests;
