//! Identities of the pool's own objects: layers, catalog entries, records, commits, devices.

use std::fmt;

/// Names and layers of a pool are numbered below this: their keys in the catalog tree have room for no more.
pub(crate) const ID_END: u64 = 1 << 47;
/// No pool lives long enough to count this far. What says so is damaged, and is refused before anybody counts on.
pub(crate) const COUNT_END: u64 = 1 << 60;

/// A layer: the unit of ownership. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LayerId(pub(crate) u64);

/// A name in the catalog; keeps its identity when it is renamed. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryId(pub(crate) u64);

impl EntryId {
    /// What the pool itself goes by where a name could be; names are numbered from 1 on.
    pub(crate) const POOL: EntryId = EntryId(0);
}

/// The number of a staged record; grows by one per record for the life of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sequence(pub(crate) u64);

/// The number of a commit of this opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CommitNumber(pub(crate) u64);

/// A device of a pool that is not its first one: random, in its label and in the superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DeviceId(pub [u8; 16]);

impl fmt::Display for DeviceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}
