//! The space allocator: which block is free, and which free block a request or a checkpoint gets.
//!
//! The pool is cut into allocation groups. A group is unused, or holds data, or holds metadata (tree nodes). Its first
//! two blocks are the slots of its bitmap page; all others can be handed out. This module keeps the books; whoever owns
//! it does the I/O it asks for ([`NoRun::NeedsLoad`], [`NoRun::NeedsAllocation`]) and holds the lock around it.
//!
//! ```text
//!            reserve            commit             free               release
//!   free ------------> reserved -------> allocated -----> quarantined --------> free
//!     ^  <------------  unreserve            ^
//!     +-------------------- mark (replay) ---+
//! ```
//!
//! and from free to quarantined and back once more, while the device takes back the space it still holds for freed blocks.
//!
//! Invariants:
//!
//! * G1 A block is in exactly one of the four states, and only moves along the arrows above.
//! * G2 Only a free block is handed out: never one that a request in flight or a quarantine still holds (A4).
//! * G3 The persistent bitmap of a group is the set of blocks that records made up to now hold; a reservation is never
//!   in it, a quarantined block is never in it.
//! * G4 Counts are exact after every call, also for groups whose bitmap was never read.
//! * G5 A group's kind changes only while nothing of it is taken, and its first block is handed out only after
//!   [`Groups::activate`], that is, after the file holds space for it (A11) or can still find it.
//! * G6 A freeze names the bitmap slot that does not count in the last durable checkpoint, never the one that does.
//! * G7 Data takes a group only if the metadata groups' free blocks, and the groups still unused, cover
//!   `metadata_required` afterwards, and are at least one block: data runs out first (A10).
//!
//! G7 in a tiny pool: with four groups and a requirement of at most one group's capacity, data gets three groups and
//! metadata one, whoever asks first; with two groups, one each. A group of which everything was freed may
//! change its kind: metadata takes an idle data group when no group is unused, and data an idle metadata group within
//! the same rule.

mod bitmap;
mod books;
mod by_device;
mod change;
mod counts;
mod entry;
mod frozen;
mod group;
mod kept;
mod nodes;
mod page;
mod presumption;
mod reserve;
mod search;
mod shelves;
#[cfg(test)]
mod tests;

pub(crate) use change::Misuse;
pub(crate) use counts::Counts;
pub(crate) use entry::GroupEntry;
pub(crate) use frozen::FrozenGroup;

use crate::geometry::{Geometry, GroupIndex, Slot};
use books::Window;
use by_device::ByDevice;

use cow_tree::units::{BlockAddress, BlockCount, PoolId};
use group::Group;
use page::{PageError, PageIdentity};
use shelves::{Shelf, Shelves};

/// Blocks at the start of every group that are its bitmap slots.
pub(crate) const SLOT_BLOCKS: usize = 2;

/// What a group holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum GroupKind {
    Data,
    Metadata,
}

/// Neighbouring blocks of one group: `length` blocks from `address` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Run {
    pub(crate) address: BlockAddress,
    pub(crate) length: BlockCount,
}

impl Run {
    pub(crate) fn single(address: BlockAddress) -> Self {
        Self { address, length: BlockCount(1) }
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockAddress> + use<> {
        let address = self.address;
        (0..self.length.0).map(move |distance| address.offset_by(distance))
    }
}

/// Where a request would like its blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Exactly here, or else in the same window.
    pub(crate) hint: Option<BlockAddress>,
    /// In a new window: this many blocks after its start.
    pub(crate) offset_in_window: u32,
}

/// Why there is no run; nothing was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRun {
    /// Read the group's bitmap, [`Groups::load`] it and ask again.
    NeedsLoad(GroupIndex),
    /// Find space for the group in the file, [`Groups::activate`] it and ask again.
    NeedsAllocation(GroupIndex),
    /// Every block of the kind is taken; so many of them will become free when their quarantine is over.
    Full { quarantined: BlockCount },
}

/// How a pool's groups are opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupSettings {
    pub(crate) pool: PoolId,
    pub(crate) geometry: Geometry,
    /// A power of two: 256 in production, less in tests with tiny groups.
    pub(crate) window_blocks: u32,
    pub(crate) metadata_required: BlockCount,
}

/// The group table contradicts itself or the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TableError {
    #[error("the group table names group {}, which the pool does not have, or names it twice", .0.0)]
    Group(GroupIndex),
    #[error("the group table says that group {} holds {allocated} blocks, more than it has", .group.0)]
    Count { group: GroupIndex, allocated: u32 },
}

/// A group's bitmap cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("the bitmap of group {} is damaged: {source}", .group.0)]
    Page { group: GroupIndex, source: PageError },
    #[error("the bitmap of group {} contradicts the records made since it was written", .0.0)]
    Contradiction(GroupIndex),
}

/// The books of all groups.
#[derive(Debug)]
pub(crate) struct Groups {
    pool: PoolId,
    geometry: Geometry,
    window: Window,
    metadata_required: BlockCount,
    groups: Vec<Group>,
    counts: Counts,
    /// Only where there are several devices.
    by_device: Option<ByDevice>,
    shelves: Shelves,
    /// The group that was last allocated from, where the next search begins.
    data_cursor: usize,
    metadata_cursor: usize,
    /// Between a freeze and its superblock.
    freezing: bool,
    /// The file has no room for a group that nobody needs yet.
    ahead_stopped: bool,
}

fn index_at(number: usize) -> GroupIndex {
    GroupIndex(u32::try_from(number).expect("groups are numbered in 32 bits"))
}

fn number_of(index: GroupIndex) -> usize {
    cow_tree::units::index_of(index.0)
}

impl Groups {
    /// The groups of a pool, of which the table names `entries`; all others are unused. Reads no bitmap.
    pub(crate) fn open(
        settings: &GroupSettings,
        entries: impl IntoIterator<Item = (GroupIndex, GroupEntry)>,
    ) -> Result<Self, TableError> {
        let mut groups = Self {
            pool: settings.pool,
            geometry: settings.geometry,
            window: Window::of_blocks(settings.window_blocks),
            metadata_required: settings.metadata_required,
            groups: Vec::new(),
            counts: Counts::default(),
            by_device: None,
            shelves: Shelves::new(),
            data_cursor: 0,
            metadata_cursor: 0,
            freezing: false,
            ahead_stopped: false,
        };
        groups.add_unused();
        groups.count_by_device();
        for (index, entry) in entries {
            groups.adopt_entry(index, entry)?;
        }
        Ok(groups)
    }

    fn adopt_entry(&mut self, index: GroupIndex, entry: GroupEntry) -> Result<(), TableError> {
        let number = number_of(index);
        let window = self.window;
        let group = self.groups.get(number).filter(|group| group.kind().is_none());
        let (length, capacity) =
            group.map(|group| (group.length(), group.capacity())).ok_or(TableError::Group(index))?;
        if entry.allocated > capacity {
            return Err(TableError::Count { group: index, allocated: entry.allocated });
        }
        self.change(number, |group| *group = Group::stored(entry, length, window));
        Ok(())
    }

    fn add_unused(&mut self) {
        for number in self.groups.len()..number_of(GroupIndex(self.geometry.groups())) {
            let group = Group::unused(self.length_of(number), self.window);
            self.counts.add(group.share());
            self.shelves.shift(number, Default::default(), group.standing());
            self.groups.push(group);
        }
    }

    fn length_of(&self, number: usize) -> usize {
        let length = usize::try_from(self.geometry.group_len(index_at(number)).0).expect("a group is short");
        assert!(length <= bitmap::BLOCKS_MAX, "a group is no longer than its bitmap page");
        length
    }

    /// The pool became longer: the last group may have, and there may be more of them, also on a new device.
    pub(crate) fn grow(&mut self, geometry: &Geometry) {
        self.geometry = *geometry;
        if let Some(last) = self.groups.len().checked_sub(1) {
            let length = self.length_of(last);
            self.change(last, |group| group.grow(length));
        }
        self.add_unused();
        self.count_by_device();
    }

    fn count_by_device(&mut self) {
        self.by_device = ByDevice::of(&self.geometry, self.groups.iter().map(Group::share));
    }

    /// Lets one group change, and keeps counts and shelves in step with it (G4).
    fn change<R>(&mut self, number: usize, act: impl FnOnce(&mut Group) -> R) -> R {
        let group = &mut self.groups[number];
        let (share, standing) = (group.share(), group.standing());
        let result = act(group);
        let after = (group.share(), group.standing());
        self.counts.subtract(share);
        self.counts.add(after.0);
        if let Some(by_device) = &mut self.by_device {
            by_device.shift(number, share, after.0);
        }
        if after.1 != standing {
            self.shelves.shift(number, standing, after.1);
        }
        result
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// The same of each device, in order.
    pub(crate) fn counts_by_device(&self) -> Vec<Counts> {
        match &self.by_device {
            Some(by_device) => by_device.counts().collect(),
            None => vec![self.counts],
        }
    }

    /// Sets what G7 must keep: dirty-node limit, worst path of every admitted request, floor for deletes.
    pub(crate) fn set_metadata_required(&mut self, required: BlockCount) {
        self.metadata_required = required;
    }

    /// The slot that must be read before anything can be looked for in the group; `None` if it is in memory.
    pub(crate) fn slot_to_load(&self, index: GroupIndex) -> Option<Slot> {
        self.groups[number_of(index)].unread().map(|entry| entry.slot)
    }

    /// Takes in the page of [`Groups::slot_to_load`]; does nothing when the group is in memory already.
    ///
    /// After an error nothing is handed out of the group any more, and it cannot be frozen.
    pub(crate) fn load(&mut self, index: GroupIndex, page: &[u8]) -> Result<(), LoadError> {
        let number = number_of(index);
        let group = &self.groups[number];
        let Some(entry) = group.unread() else { return Ok(()) };
        let identity = PageIdentity {
            pool: self.pool,
            group: index,
            address: self.geometry.bitmap_slot(index, entry.slot),
            generation: entry.generation,
        };
        let decoded = page::decode(page, &identity, entry, group.length());
        self.change(number, |group| match decoded {
            Ok(bitmap) => group.load(&bitmap).map_err(|_| LoadError::Contradiction(index)),
            Err(source) => {
                group.withhold();
                Err(LoadError::Page { group: index, source })
            }
        })
    }

    /// The file holds or finds space for the group: gives it its kind. Says whether it has that kind now: somebody else may have
    /// been faster, and data may have lost its right to it (G7).
    pub(crate) fn activate(&mut self, index: GroupIndex, kind: GroupKind) -> bool {
        let number = number_of(index);
        let group = &self.groups[number];
        let is_allowed = group.kind() == Some(kind) || kind == GroupKind::Metadata || self.may_take(number);
        let has_it = is_allowed && self.change(number, |group| group.adopt(kind));
        self.ahead_stopped &= !has_it;
        has_it
    }

    /// No group is wanted ahead of need until one that was needed has been had.
    pub(crate) fn stop_ahead(&mut self) {
        self.ahead_stopped = true;
    }

    /// The file cannot be given space for the group, or its bitmap cannot be read: it is not offered any more.
    pub(crate) fn refuse(&mut self, index: GroupIndex) {
        self.change(number_of(index), Group::withhold);
    }

    /// Offers every refused group again.
    pub(crate) fn offer_refused(&mut self) {
        let refused: Vec<usize> = self.shelves.all(Shelf::Withheld).collect();
        refused.into_iter().for_each(|number| self.change(number, Group::offer));
    }

    /// The next freeze holds the group even if nothing in it changes.
    pub(crate) fn touch(&mut self, index: GroupIndex) {
        self.change(number_of(index), Group::touch);
    }

    /// The group of an address.
    ///
    /// Panics if the address lies in no group.
    pub(crate) fn group_of(&self, address: BlockAddress) -> GroupIndex {
        self.geometry.group_of(address).expect("the address of a data or node block lies in a group")
    }

    /// Whether the address lies in a group that holds data.
    pub(crate) fn is_data(&self, address: BlockAddress) -> bool {
        self.kind_of(self.group_of(address)) == Some(GroupKind::Data)
    }

    /// What the group holds; `None` if it is unused.
    pub(crate) fn kind_of(&self, index: GroupIndex) -> Option<GroupKind> {
        self.groups[number_of(index)].kind()
    }

    /// For checks: the allocated blocks of a group, as maximal runs; `None` if its bitmap must be loaded first.
    pub(crate) fn allocated_runs(&self, index: GroupIndex) -> Option<Vec<Run>> {
        let group = &self.groups[number_of(index)];
        match group.persistent() {
            Some(bitmap) => {
                let first = self.geometry.first_block(index);
                Some(bitmap.runs().map(|range| run_at(first, range)).collect())
            }
            None => group.kind().is_none().then(Vec::new),
        }
    }

    /// For checks: every group of the pool.
    pub(crate) fn indices(&self) -> impl Iterator<Item = GroupIndex> + use<> {
        (0..self.groups.len()).map(index_at)
    }
}

fn run_at(first: BlockAddress, range: std::ops::Range<usize>) -> Run {
    Run {
        address: first.offset_by(cow_tree::units::length_of(range.start)),
        length: BlockCount(cow_tree::units::length_of(range.len())),
    }
}
