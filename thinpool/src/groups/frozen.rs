//! What a checkpoint writes of the groups: frozen bitmaps, and the pages and table entries made of them.

use super::bitmap::Bitmap;
use super::entry::GroupEntry;
use super::page::{self, PAGE_BYTES, PageIdentity};
use super::shelves::Shelf;
use super::{GroupKind, Groups, index_at, number_of};
use crate::geometry::{Geometry, GroupIndex, Slot};
use cow_tree::units::{Generation, PoolId};
use std::sync::Arc;

/// One changed group as it was at the freeze.
#[derive(Debug, Clone)]
pub(crate) struct FrozenGroup {
    pub(crate) index: GroupIndex,
    pub(crate) kind: GroupKind,
    pub(crate) bitmap: Arc<Bitmap>,
    /// The slot to write: not the one that counts in the last durable checkpoint.
    pub(crate) slot: Slot,
    pub(crate) allocated: u32,
}

impl FrozenGroup {
    /// The bitmap page, to be written to [`Geometry::bitmap_slot`] of `index` and `slot`.
    pub(crate) fn encode(
        &self,
        pool: PoolId,
        generation: Generation,
        geometry: &Geometry,
    ) -> [u8; PAGE_BYTES] {
        let address = geometry.bitmap_slot(self.index, self.slot);
        page::encode(&PageIdentity { pool, group: self.index, address, generation }, &self.bitmap)
    }

    /// The group table's entry that makes `page`, which [`FrozenGroup::encode`] made, count.
    pub(crate) fn entry(&self, page: &[u8; PAGE_BYTES]) -> GroupEntry {
        GroupEntry {
            kind: self.kind,
            slot: self.slot,
            allocated: self.allocated,
            checksum: page::checksum_of(page),
            generation: page::generation_of(page),
        }
    }
}

impl Groups {
    /// Groups that the next freeze will hold.
    pub(crate) fn dirty_groups(&self) -> Vec<GroupIndex> {
        self.shelves.all(Shelf::Dirty).map(index_at).collect()
    }

    /// A dirty group whose bitmap must be loaded before it can be frozen.
    pub(crate) fn dirty_unloaded(&self) -> Option<GroupIndex> {
        self.shelves.next(Shelf::DirtyUnread, 0).map(index_at)
    }

    /// An entry as long as the one the group will get: what it says is not final.
    pub(crate) fn placeholder(&self, index: GroupIndex) -> GroupEntry {
        let group = &self.groups[number_of(index)];
        GroupEntry {
            kind: group.kind().expect("a dirty group has a kind"),
            slot: group.next_slot(),
            allocated: group.share().taken.allocated,
            checksum: 0,
            generation: Generation(0),
        }
    }

    /// G6. The groups changed since the last freeze, with the blocks allocated up to now.
    ///
    /// Panics if a dirty group is not loaded, and if the freeze before was not [`Groups::settle`]d.
    pub(crate) fn freeze(&mut self) -> Vec<FrozenGroup> {
        assert!(!self.freezing, "a freeze waits until the checkpoint before is durable");
        self.freezing = true;
        let dirty: Vec<usize> = self.shelves.all(Shelf::Dirty).collect();
        dirty.into_iter().map(|number| self.freeze_group(number)).collect()
    }

    fn freeze_group(&mut self, number: usize) -> FrozenGroup {
        let index = index_at(number);
        let held = self.change(number, |group| group.freeze());
        FrozenGroup {
            index,
            kind: held.kind,
            bitmap: held.bitmap,
            slot: held.slot,
            allocated: held.allocated,
        }
    }

    /// The superblock of the checkpoint that froze the groups is durable: the slots it left may be written again.
    pub(crate) fn settle(&mut self) {
        assert!(self.freezing, "a checkpoint freezes before it settles");
        self.freezing = false;
    }
}
