//! Which group a request's blocks come from: placement across groups, and the rule that keeps room for metadata.
//!
//! Data goes, in this order: where the hint says; into the hint's window; into a wholly free window of a loaded group, of
//! a group worth loading, or of a new group as long as data is not spread too thin; into any free block. Of the groups with
//! a free window, those go first in which the device holds space for free blocks already. A hint into a
//! group that is not loaded asks for it to be loaded: otherwise every window would be torn in two by a restart. With several
//! devices a new window is first of all on the device whose turn it is.

use super::by_device::ByDevice;
use super::search::Wanted;
use super::shelves::Shelf;
use super::{GroupIndex, GroupKind, Groups, NoRun, Placement, Run, index_at, number_of, run_at};
use cow_tree::units::{self, BlockAddress, BlockCount};
use std::ops::Range;

/// A new group is opened for the sake of a free window while data takes at least one block in this many ...
const SPREAD_PART: u64 = 4;

/// ... or while no more than this many groups' worth of blocks is free in data groups.
const SPREAD_GROUPS: u64 = 4;

/// A request waits for a large group only while less than one part in this many of that is free: the group is on its
/// way already ([`Groups::data_wanted`]).
const PATIENCE_PART: u64 = 2;

/// Blocks of a group for which a file finds room in an instant: 16 MiB.
const LARGE_BLOCKS: usize = 4096;

/// Groups' worth of free windows that data should have at any time.
const AHEAD_GROUPS: usize = 2;

/// Groups with a free window that are looked at; with more of them data has enough.
const AHEAD_LOOK_MAX: usize = 64;

/// Groups that are not taken ahead of need, so that the last ones go to who needs them first.
const AHEAD_UNUSED: u64 = 3;

impl Groups {
    /// Takes up to `wanted` free blocks, at least one, for a request in flight.
    pub(crate) fn reserve(
        &mut self,
        kind: GroupKind,
        wanted: BlockCount,
        placement: Placement,
    ) -> Result<Run, NoRun> {
        assert!(wanted.0 > 0, "a request reserves at least one block");
        let wanted = Wanted(usize::try_from(wanted.0).unwrap_or(usize::MAX));
        if let Some((number, at)) = placement.hint.and_then(|hint| self.place_of(kind, hint)) {
            if let Some(run) = self.reserve_near(number, at, wanted) {
                return Ok(run);
            }
            if self.shelves.is_on(Shelf::Asleep(kind), number) {
                return Err(NoRun::NeedsLoad(index_at(number)));
            }
            self.set_cursor(kind, number);
        }
        if kind == GroupKind::Data {
            if let Some(outcome) = self.reserve_in_turn(wanted, placement.offset_in_window) {
                return outcome;
            }
            if let Some(run) = self.reserve_new_window(wanted, placement.offset_in_window) {
                return Ok(run);
            }
            if let Some(number) = self.next(Shelf::Promising(kind), kind) {
                return Err(NoRun::NeedsLoad(index_at(number)));
            }
            if let Some(number) = self.new_group(kind).filter(|_| self.is_worth_waiting()) {
                return Err(NoRun::NeedsAllocation(index_at(number)));
            }
        }
        match self.next(Shelf::Room(kind), kind) {
            Some(number) => Ok(self.reserve_anywhere(number, wanted)),
            None => Err(self.next_step(kind)),
        }
    }

    /// What must happen before a group of the kind can have room.
    pub(super) fn next_step(&self, kind: GroupKind) -> NoRun {
        if let Some(number) = self.next(Shelf::Asleep(kind), kind) {
            return NoRun::NeedsLoad(index_at(number));
        }
        match self.new_group(kind) {
            Some(number) => NoRun::NeedsAllocation(index_at(number)),
            None => NoRun::Full { quarantined: self.counts.of(kind).quarantined },
        }
    }

    /// A group that may become one of the kind: an unused one, else an idle one of the other kind.
    pub(super) fn new_group(&self, kind: GroupKind) -> Option<usize> {
        let other = match kind {
            GroupKind::Data => GroupKind::Metadata,
            GroupKind::Metadata => GroupKind::Data,
        };
        let unused = self.shelves.next(Shelf::Unused, 0);
        let candidate = unused.or_else(|| self.shelves.next(Shelf::Idle(other), 0))?;
        (kind == GroupKind::Metadata || self.may_take(candidate)).then_some(candidate)
    }

    /// G7. Whether what is left for metadata without the group is enough.
    pub(super) fn may_take(&self, number: usize) -> bool {
        let group = &self.groups[number];
        if !group.is_offered() {
            return false;
        }
        let left = self.metadata_room().0 - u64::from(group.free());
        left >= self.metadata_required.0.max(1)
    }

    /// A group that should become one of metadata before data takes another: the file may have no room for it later.
    pub(crate) fn metadata_wanted(&self) -> Option<GroupIndex> {
        let is_short = self.counts.metadata.free() < self.metadata_required;
        is_short.then(|| self.new_group(GroupKind::Metadata).map(index_at)).flatten()
    }

    /// A group that should become one of data before it is needed: a file system takes its time to give a file room.
    pub(crate) fn data_wanted(&self) -> Option<GroupIndex> {
        if self.ahead_stopped {
            return None;
        }
        let is_early = self.counts.data.groups == 0 || self.counts.unused_groups < AHEAD_UNUSED;
        let may_load = self.shelves.next(Shelf::Promising(GroupKind::Data), 0).is_some();
        if is_early || may_load {
            return None;
        }
        if let Some(by_device) = &self.by_device {
            return by_device.in_turn().into_iter().find_map(|device| self.data_wanted_on(by_device, device));
        }
        if !self.is_data_crowded(1) || self.has_windows_ahead(0..self.groups.len()) {
            return None;
        }
        self.shelves.next(Shelf::Unused, 0).filter(|number| self.may_take(*number)).map(index_at)
    }

    /// Whether there are windows enough for a while in these groups.
    fn has_windows_ahead(&self, groups: Range<usize>) -> bool {
        let wanted = AHEAD_GROUPS * self.longest_group() / self.window.blocks();
        let mut free = 0;
        for (looked_at, number) in self.shelves.all_in(Shelf::Windows(GroupKind::Data), groups).enumerate() {
            free += self.groups[number].windows_free();
            if free >= wanted || looked_at >= AHEAD_LOOK_MAX {
                return true;
            }
        }
        false
    }

    /// The same for the groups of one of several devices, which share what is kept ahead.
    fn data_wanted_on(&self, by_device: &ByDevice, device: usize) -> Option<GroupIndex> {
        let data = by_device.counts_of(device).data;
        let devices = units::length_of(by_device.len());
        let floor = units::length_of(self.longest_group()) * SPREAD_GROUPS.div_ceil(devices);
        let is_crowded = data.free().0 < data.taken().0 * (SPREAD_PART - 1) + floor;
        let groups = by_device.groups_of(device);
        if !is_crowded || self.has_windows_ahead(groups.clone()) {
            return None;
        }
        let unused = self.shelves.next_in(Shelf::Unused, groups.start, groups)?;
        self.may_take(unused).then(|| index_at(unused))
    }

    /// Whether only changes that need no further nodes should be made: what is left is for them, and for deletes.
    pub(crate) fn is_metadata_short(&self) -> bool {
        self.metadata_room().0 < self.metadata_required.0 / 2
    }

    /// Blocks that metadata has or can still get without data giving anything up.
    pub(crate) fn metadata_room(&self) -> BlockCount {
        self.counts.metadata.free() + self.counts.unused
    }

    /// Blocks that data has or can still get within G7, in whole groups.
    pub(crate) fn data_room(&self) -> BlockCount {
        let capacity = units::length_of(self.longest_group());
        let spare = self.metadata_room().0.saturating_sub(self.metadata_required.0.max(1));
        let groups = spare.checked_div(capacity).unwrap_or(0);
        self.counts.data.free() + BlockCount(self.counts.unused.0.min(groups * capacity))
    }

    fn longest_group(&self) -> usize {
        self.groups.first().map_or(0, |group| units::index_of(group.capacity()))
    }

    /// Whether a free window in a group that the file has no room for yet is better than any free block.
    fn is_worth_waiting(&self) -> bool {
        self.is_data_crowded(if self.longest_group() > LARGE_BLOCKS { PATIENCE_PART } else { 1 })
    }

    /// Whether less than one part in so many of what data may spread over is free.
    fn is_data_crowded(&self, part: u64) -> bool {
        let data = self.counts.data;
        let floor = units::length_of(self.longest_group()) * SPREAD_GROUPS;
        data.free().0 < (data.taken().0 * (SPREAD_PART - 1) + floor) / part
    }

    /// Whether two addresses lie in one placement window.
    pub(crate) fn is_one_window(&self, one: BlockAddress, other: BlockAddress) -> bool {
        let window = |address: BlockAddress| {
            let (number, at) = self.place_of(GroupKind::Data, address)?;
            Some((number, self.window.number_of(at)))
        };
        window(one).is_some() && window(one) == window(other)
    }

    /// The place of an address in a group of the kind.
    fn place_of(&self, kind: GroupKind, address: BlockAddress) -> Option<(usize, usize)> {
        let index = self.geometry.group_of(address)?;
        let number = number_of(index);
        let group = self.groups.get(number)?;
        let at = usize::try_from(address.0.checked_sub(self.geometry.first_block(index).0)?).ok()?;
        (group.kind() == Some(kind) && at < group.length()).then_some((number, at))
    }

    fn reserve_near(&mut self, number: usize, at: usize, wanted: Wanted) -> Option<Run> {
        let range = self.change(number, |group| {
            group.reserve(|books| books.find_at(at, wanted).or_else(|| books.find_beside(at, wanted)))
        });
        range.map(|range| self.run_in(number, range))
    }

    /// A window on the device that is owed most and can have one; `None` when there is one device, or none has a free
    /// window.
    fn reserve_in_turn(&mut self, wanted: Wanted, offset: u32) -> Option<Result<Run, NoRun>> {
        let by_device = self.by_device.as_ref()?;
        let (device, step) = by_device
            .in_turn()
            .into_iter()
            .find_map(|device| self.next_window_on(by_device, device).map(|step| (device, step)))?;
        let number = match step {
            Ok(number) => number,
            Err(no_run) => return Some(Err(no_run)),
        };
        if let Some(by_device) = &mut self.by_device {
            by_device.charge(device, number);
        }
        Some(Ok(self.reserve_window_in(number, wanted, offset)))
    }

    /// The group of a device that has a free window, or how it gets one; `None` when it has none.
    fn next_window_on(&self, by_device: &ByDevice, device: usize) -> Option<Result<usize, NoRun>> {
        const DATA: GroupKind = GroupKind::Data;
        let (groups, cursor) = (by_device.groups_of(device), by_device.cursor_of(device));
        let next = |shelf| self.shelves.next_in(shelf, cursor, groups.clone());
        if let Some(number) = next(Shelf::KeptWindows).or_else(|| next(Shelf::Windows(DATA))) {
            return Some(Ok(number));
        }
        if let Some(number) = next(Shelf::Promising(DATA)) {
            return Some(Err(NoRun::NeedsLoad(index_at(number))));
        }
        let unused = next(Shelf::Unused).filter(|number| self.may_take(*number))?;
        Some(Err(NoRun::NeedsAllocation(index_at(unused))))
    }

    fn reserve_new_window(&mut self, wanted: Wanted, offset: u32) -> Option<Run> {
        let shelves = [Shelf::KeptWindows, Shelf::Windows(GroupKind::Data)];
        let number = shelves.into_iter().find_map(|shelf| self.next(shelf, GroupKind::Data))?;
        self.set_cursor(GroupKind::Data, number);
        Some(self.reserve_window_in(number, wanted, offset))
    }

    fn reserve_window_in(&mut self, number: usize, wanted: Wanted, offset: u32) -> Run {
        let offset = units::index_of(offset);
        let find = |group: &mut super::Group| group.reserve(|books| books.find_in_new_window(offset, wanted));
        let range = self.change(number, find).expect("a group on the shelf has a free window");
        self.run_in(number, range)
    }

    pub(super) fn reserve_anywhere(&mut self, number: usize, wanted: Wanted) -> Run {
        let kind = self.groups[number].kind().expect("a group with room has a kind");
        self.set_cursor(kind, number);
        let find = |group: &mut super::Group| group.reserve(|books| books.find_anywhere(wanted));
        let range = self.change(number, find).expect("a group on the shelf has a free block");
        self.run_in(number, range)
    }

    fn run_in(&self, number: usize, range: Range<usize>) -> Run {
        run_at(self.geometry.first_block(index_at(number)), range)
    }

    /// The next group on the shelf, beginning with the one the kind was last allocated from.
    fn next(&self, shelf: Shelf, kind: GroupKind) -> Option<usize> {
        self.shelves.next(shelf, self.cursor(kind))
    }

    pub(super) fn cursor(&self, kind: GroupKind) -> usize {
        match kind {
            GroupKind::Data => self.data_cursor,
            GroupKind::Metadata => self.metadata_cursor,
        }
    }

    pub(super) fn set_cursor(&mut self, kind: GroupKind, number: usize) {
        match kind {
            GroupKind::Data => self.data_cursor = number,
            GroupKind::Metadata => self.metadata_cursor = number,
        }
    }
}
