//! What can be wrong with the page of a node. Every variant says what was found, so that `check` can name it.

use crate::units::{BlockAddress, PoolId, Tag};
use thiserror::Error;

/// A page that is not the node its parent points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damage {
    #[error("a node is one block of 4096 bytes, not {0} bytes")]
    Length(usize),
    #[error("the block is not a tree node")]
    Magic,
    #[error("the node's checksum is {stored:#010x} but its bytes have {computed:#010x}")]
    Checksum { stored: u32, computed: u32 },
    #[error(
        "the block holds another state of the node: its parent knows checksum {expected:#010x}, it has {found:#010x}"
    )]
    Stale { expected: u32, found: u32 },
    #[error("the node has format {0}, which this version cannot read")]
    Format(u8),
    #[error("the node belongs to another pool, {0}")]
    Pool(PoolId),
    #[error("the node belongs to a tree of kind {found} instead of kind {expected}")]
    Kind { expected: u8, found: u8 },
    #[error("the node says it is block {found} but was read from block {expected}")]
    Address { expected: BlockAddress, found: BlockAddress },
    #[error("the node has level {found} where its parent expects level {expected}")]
    Level { expected: u8, found: u8 },
    #[error("the node was allocated by {found} where its parent says {expected}")]
    Tag { expected: Tag, found: Tag },
    #[error("the node starts at key {found} where its parent says {expected}")]
    Low { expected: u64, found: u64 },
    #[error("the node holds {0} entries, which no node may")]
    Count(usize),
    #[error("entry {0} of the node is not behind the one before it")]
    Order(usize),
    #[error("entry {0} of the node overlaps the next one, or ends outside the address space")]
    Range(usize),
    #[error("entry {0} of the node names a block that cannot exist")]
    Target(usize),
    #[error("entry {0} of the node has flags this version does not know")]
    Flags(usize),
    #[error("bytes of the node that must be zero are not")]
    Padding,
}
