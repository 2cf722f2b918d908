//! How many blocks are what: exact at every moment, and read without looking at a bitmap.

use super::GroupKind;
use cow_tree::units::BlockCount;

/// The blocks of one group that are not free, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) allocated: u32,
    pub(super) reserved: u32,
    pub(super) quarantined: u32,
}

impl Taken {
    pub(super) fn total(&self) -> u32 {
        self.allocated + self.reserved + self.quarantined
    }
}

/// The blocks of all groups of one kind. Bitmap slots are not counted anywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KindCounts {
    pub(crate) groups: u64,
    pub(crate) capacity: BlockCount,
    /// Held by records made up to now.
    pub(crate) allocated: BlockCount,
    /// Held by requests in flight.
    pub(crate) reserved: BlockCount,
    /// Freed, not yet reusable.
    pub(crate) quarantined: BlockCount,
    /// Of the free ones, those for which the device holds space.
    pub(crate) kept: BlockCount,
}

impl KindCounts {
    pub(crate) fn taken(&self) -> BlockCount {
        BlockCount(self.allocated.0 + self.reserved.0 + self.quarantined.0)
    }

    pub(crate) fn free(&self) -> BlockCount {
        BlockCount(self.capacity.0 - self.taken().0)
    }

    fn add(&mut self, share: Share) {
        let Share { capacity, taken, kept, .. } = share;
        self.groups += 1;
        self.capacity.0 += u64::from(capacity);
        self.allocated.0 += u64::from(taken.allocated);
        self.reserved.0 += u64::from(taken.reserved);
        self.quarantined.0 += u64::from(taken.quarantined);
        self.kept.0 += u64::from(kept);
    }

    fn subtract(&mut self, share: Share) {
        let Share { capacity, taken, kept, .. } = share;
        self.groups -= 1;
        self.capacity.0 -= u64::from(capacity);
        self.allocated.0 -= u64::from(taken.allocated);
        self.reserved.0 -= u64::from(taken.reserved);
        self.quarantined.0 -= u64::from(taken.quarantined);
        self.kept.0 -= u64::from(kept);
    }
}

/// The blocks of the pool, by the kind of the group they are in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) data: KindCounts,
    pub(crate) metadata: KindCounts,
    pub(crate) unused_groups: u64,
    /// Blocks of groups that have no kind yet.
    pub(crate) unused: BlockCount,
    /// Blocks of groups that the file could not be given space for.
    pub(crate) withheld: BlockCount,
}

/// What one group adds to the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) kind: Option<GroupKind>,
    pub(super) withheld: bool,
    pub(super) capacity: u32,
    pub(super) taken: Taken,
    pub(super) kept: u32,
}

impl Counts {
    pub(crate) fn of(&self, kind: GroupKind) -> &KindCounts {
        match kind {
            GroupKind::Data => &self.data,
            GroupKind::Metadata => &self.metadata,
        }
    }

    pub(super) fn add(&mut self, share: Share) {
        match share.kind {
            Some(GroupKind::Data) => self.data.add(share),
            Some(GroupKind::Metadata) => self.metadata.add(share),
            None if share.withheld => self.withheld.0 += u64::from(share.capacity),
            None => {
                self.unused_groups += 1;
                self.unused.0 += u64::from(share.capacity);
            }
        }
    }

    pub(super) fn subtract(&mut self, share: Share) {
        match share.kind {
            Some(GroupKind::Data) => self.data.subtract(share),
            Some(GroupKind::Metadata) => self.metadata.subtract(share),
            None if share.withheld => self.withheld.0 -= u64::from(share.capacity),
            None => {
                self.unused_groups -= 1;
                self.unused.0 -= u64::from(share.capacity);
            }
        }
    }
}

/// What tests compare with their models.
#[cfg(test)]
impl Counts {
    /// Every block that is not a bitmap slot.
    pub(crate) fn total(&self) -> BlockCount {
        let kinds = self.data.capacity.0 + self.metadata.capacity.0;
        BlockCount(kinds + self.unused.0 + self.withheld.0)
    }

    /// Blocks that are nobody's, whether or not the metadata rule lets data have them.
    pub(crate) fn free(&self) -> BlockCount {
        BlockCount(self.data.free().0 + self.metadata.free().0 + self.unused.0)
    }

    /// Whether no freed block waits for its quarantine to end.
    pub(crate) fn quarantined_is_zero(&self) -> bool {
        self.data.quarantined.0 + self.metadata.quarantined.0 == 0
    }
}
