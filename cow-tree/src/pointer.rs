//! What links one node to another, and what changes report: pointers, mappings, dropped blocks, missing nodes.
//!
//! Ownership is judged from a pointer alone, never by reading the block it names (ownership rule 1), so a pointer
//! carries its block's tag and, for a node, the first key the node had when it was written.

use crate::units::{BlockAddress, LogicalBlock, Tag};
use thiserror::Error;

/// A node on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pointer {
    pub address: BlockAddress,
    /// Who allocated the node's block.
    pub tag: Tag,
    /// CRC-32C of the page; 0 in a [`Dropped::Node`] whose page was still on its way to the device.
    pub checksum: u32,
    /// First key of the node when it was written; it never changes while the node is stored.
    pub low: u64,
    /// Distance from the leaves.
    pub level: u8,
}

/// A node that is not resident: read its page, decode it, keep it where [`Nodes`](crate::Nodes) finds it, ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the tree node at block {} is not in memory", .0.address)]
pub struct Missing(pub Pointer);

/// A run of logical blocks mapped to a run of physical blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mapping {
    pub start: LogicalBlock,
    /// Blocks; never 0.
    pub length: u32,
    pub address: BlockAddress,
    /// Who allocated the blocks.
    pub tag: Tag,
    /// Whether the data checksum tree knows the blocks' checksums.
    pub checksummed: bool,
}

impl Mapping {
    /// First logical block after the run.
    #[must_use]
    pub fn end(&self) -> LogicalBlock {
        self.start + u64::from(self.length)
    }

    /// Physical block of the logical block `at`.
    ///
    /// # Panics
    /// If `at` is outside the run.
    #[must_use]
    pub fn address_of(&self, at: LogicalBlock) -> BlockAddress {
        assert!(self.start <= at && at < self.end(), "the block is inside the mapping");
        self.address.offset_by(at.blocks_since(self.start))
    }

    /// The part of the run inside `[from, to)`, if any.
    #[must_use]
    pub fn within(&self, from: LogicalBlock, to: LogicalBlock) -> Option<Mapping> {
        let (start, end) = (self.start.max(from), self.end().min(to));
        if start >= end {
            return None;
        }
        let length = u32::try_from(end.blocks_since(start)).expect("a part is no longer than the whole");
        Some(Mapping { start, length, address: self.address_of(start), ..*self })
    }

    /// Whether `next` continues this run logically and physically, with the same owner and flags.
    #[must_use]
    pub fn is_continued_by(&self, next: &Mapping) -> bool {
        self.end() == next.start
            && self.tag == next.tag
            && self.checksummed == next.checksummed
            && self.address.can_hold(u64::from(self.length) + u64::from(next.length))
            && self.address.0 + u64::from(self.length) == next.address.0
            && self.length.checked_add(next.length).is_some()
    }
}

/// A block or run that a tree stopped pointing at. What becomes of it is ownership rule 5, the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    Data(Mapping),
    Node(Pointer),
}
