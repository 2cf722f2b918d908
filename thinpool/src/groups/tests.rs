//! Claims about the allocator; `model` holds it against a naive one.

mod devices;
mod lazy;
mod metadata;
mod model;
mod placement;

use super::books::State;
use super::change::Misuse;
use super::page::PAGE_BYTES;
use super::{GroupEntry, GroupKind, GroupSettings, Groups, NoRun, Placement, Run};
use crate::geometry::{Geometry, GroupIndex, JOURNAL_START};
use cow_tree::units::{BlockAddress, BlockCount, Generation, PoolId};
use std::collections::BTreeMap;

const POOL: PoolId = PoolId([7; 16]);

const JOURNAL_BLOCKS: u64 = 8;

/// Where the first group begins.
const GROUPS_START: u64 = JOURNAL_START + JOURNAL_BLOCKS;

/// `blocks` blocks in groups of `group_blocks`.
fn geometry(blocks: u64, group_blocks: u32) -> Geometry {
    let geometry = Geometry::stored(GROUPS_START + blocks, JOURNAL_START, JOURNAL_BLOCKS, group_blocks);
    geometry.expect("there is room for two groups")
}

/// Four groups of 32 blocks with windows of 8: room for 30 blocks each.
fn tiny() -> GroupSettings {
    GroupSettings {
        pool: POOL,
        geometry: geometry(128, 32),
        window_blocks: 8,
        metadata_required: BlockCount(0),
    }
}

/// What a device would hold: the group table and the bitmap pages.
#[derive(Debug, Default)]
struct Disk {
    table: BTreeMap<GroupIndex, GroupEntry>,
    pages: BTreeMap<BlockAddress, [u8; PAGE_BYTES]>,
    generation: u64,
}

impl Disk {
    /// Loads what is dirty, freezes, writes, and makes the checkpoint durable.
    fn checkpoint(&mut self, groups: &mut Groups) {
        while let Some(group) = groups.dirty_unloaded() {
            self.load(groups, group);
        }
        self.generation += 1;
        let named = groups.dirty_groups();
        let frozen = groups.freeze();
        assert_eq!(named, frozen.iter().map(|group| group.index).collect::<Vec<_>>());
        for group in frozen {
            let page = group.encode(POOL, Generation(self.generation), &groups.geometry);
            let entry = group.entry(&page);
            let counting = self.table.insert(group.index, entry);
            assert_ne!(counting.map(|entry| entry.slot), Some(group.slot), "G6");
            self.pages.insert(groups.geometry.bitmap_slot(group.index, group.slot), page);
        }
        groups.settle();
        assert_eq!(groups.dirty_groups(), []);
    }

    fn load(&self, groups: &mut Groups, group: GroupIndex) {
        let slot = groups.slot_to_load(group).expect("an unread group names its slot");
        let page = &self.pages[&groups.geometry.bitmap_slot(group, slot)];
        groups.load(group, page).expect("the page was written by a checkpoint");
    }

    fn open(&self, settings: &GroupSettings) -> Groups {
        let table = self.table.iter().map(|(index, entry)| (*index, *entry));
        Groups::open(settings, table).expect("the table was written by a checkpoint")
    }

    /// Reserves, doing the I/O that is asked for.
    fn reserve(
        &self,
        groups: &mut Groups,
        kind: GroupKind,
        wanted: u64,
        placement: Placement,
    ) -> Result<Run, NoRun> {
        loop {
            match groups.reserve(kind, BlockCount(wanted), placement) {
                Err(NoRun::NeedsLoad(group)) => self.load(groups, group),
                Err(NoRun::NeedsAllocation(group)) => assert!(groups.activate(group, kind), "G7"),
                other => return other,
            }
        }
    }
}

fn take(groups: &mut Groups, kind: GroupKind, wanted: u64) -> Run {
    Disk::default().reserve(groups, kind, wanted, Placement::default()).expect("there is room")
}

fn take_and_commit(groups: &mut Groups, kind: GroupKind, wanted: u64) -> Run {
    let run = take(groups, kind, wanted);
    groups.commit(run);
    run
}

/// The groups of a pool with `runs` of one block each allocated as data, and nothing else.
fn with_data(settings: &GroupSettings, runs: u64) -> (Groups, Vec<Run>) {
    let mut groups = Groups::open(settings, []).expect("an empty table");
    let taken = (0..runs).map(|_| take_and_commit(&mut groups, GroupKind::Data, 1)).collect();
    (groups, taken)
}

#[test]
fn a_block_comes_back_only_after_its_quarantine() {
    let (mut groups, runs) = with_data(&tiny(), 90);
    let full = groups.reserve(GroupKind::Data, BlockCount(1), Placement::default());
    assert_eq!(full, Err(NoRun::Full { quarantined: BlockCount(0) }), "the fourth group is metadata's");
    groups.free(runs[17]);
    let full = groups.reserve(GroupKind::Data, BlockCount(1), Placement::default());
    assert_eq!(full, Err(NoRun::Full { quarantined: BlockCount(1) }));
    groups.release(runs[17]);
    assert_eq!(take(&mut groups, GroupKind::Data, 1), runs[17]);
}

#[test]
fn kept_blocks_are_taken_first_and_given_back_when_nobody_does() {
    let (mut groups, _) = with_data(&tiny(), 1);
    let freed = take_and_commit(&mut groups, GroupKind::Data, 16);
    assert_eq!(freed.length, BlockCount(16));
    groups.free(freed);
    groups.release_kept(freed);
    assert_eq!(groups.counts().data.kept, BlockCount(16));
    let window = groups.reserve(GroupKind::Data, BlockCount(8), Placement::default()).expect("there is room");
    assert!(window.blocks().all(|block| freed.blocks().any(|freed| freed == block)), "{window:?}");
    assert_eq!(groups.counts().data.kept, BlockCount(8));

    let group = groups.group_of(window.address);
    assert_eq!(groups.calm_kept(), [], "blocks were taken and released");
    assert_eq!(groups.calm_kept(), [group]);
    let recalled = groups.recall(group, 3, BlockCount(2));
    assert_eq!(recalled.iter().map(|run| run.length.0).collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!((groups.counts().data.kept, groups.counts().data.quarantined), (BlockCount(2), BlockCount(6)));
    recalled.iter().for_each(|run| groups.release(*run));
    assert_eq!(groups.calm_kept(), [group], "what the device does with free blocks is no use of them");
}

#[test]
fn counts_follow_a_block_through_its_life() {
    let mut groups = Groups::open(&tiny(), []).expect("an empty table");
    assert_eq!((groups.counts().total(), groups.counts().free()), (BlockCount(120), BlockCount(120)));
    let run = take(&mut groups, GroupKind::Data, 5);
    assert_eq!(groups.counts().data.reserved, BlockCount(5));
    groups.commit(run);
    assert_eq!(groups.counts().data.allocated, BlockCount(5));
    groups.free(run);
    assert_eq!(groups.counts().data.quarantined, BlockCount(5));
    assert!(!groups.counts().quarantined_is_zero());
    assert_eq!(groups.counts().free(), BlockCount(115));
    groups.release(run);
    let again = take(&mut groups, GroupKind::Data, 5);
    groups.unreserve(again);
    assert_eq!(groups.counts().free(), BlockCount(120));
    assert_eq!(groups.counts().data.capacity, BlockCount(30));
}

#[test]
fn a_step_that_does_not_fit_is_found_and_changes_nothing() {
    let (mut groups, runs) = with_data(&tiny(), 3);
    let before = groups.counts();
    let longer = Run { address: runs[0].address, length: BlockCount(9) };
    let expected = State::Allocated;
    assert_eq!(groups.try_free(longer), Err(Misuse::State { run: longer, expected }), "partly allocated");
    groups.free(runs[0]);
    assert_eq!(groups.try_free(runs[0]), Err(Misuse::State { run: runs[0], expected }), "double free");
    groups.release(runs[0]);
    let first = groups.geometry.first_block(GroupIndex(0));
    for (address, length) in
        [(first.0, 1), (first.0 + 1, 1), (first.0 + 31, 2), (first.0 + 2, 0), (1 << 50, 1)]
    {
        let run = Run { address: BlockAddress(address), length: BlockCount(length) };
        assert_eq!(groups.try_free(run), Err(Misuse::Outside(run)));
    }
    groups.mark(GroupKind::Data, runs[0]).expect("it is free");
    assert_eq!(groups.counts(), before);
    let kind = GroupKind::Metadata;
    assert_eq!(groups.mark(kind, runs[0]), Err(Misuse::Kind { run: runs[0], kind }));
}

#[test]
#[should_panic(expected = "are not all Allocated")]
fn a_double_free_is_a_bug() {
    let (mut groups, runs) = with_data(&tiny(), 1);
    groups.free(runs[0]);
    groups.free(runs[0]);
}

#[test]
#[should_panic(expected = "are not all Quarantined")]
fn a_reserved_block_cannot_be_released() {
    let mut groups = Groups::open(&tiny(), []).expect("an empty table");
    let run = take(&mut groups, GroupKind::Data, 1);
    groups.release(run);
}

#[test]
#[should_panic(expected = "waits until the checkpoint before is durable")]
fn two_freezes_never_write_the_slot_that_counts() {
    let (mut groups, _) = with_data(&tiny(), 1);
    groups.freeze();
    groups.freeze();
}

#[test]
fn a_freeze_holds_what_was_committed_before_it_and_nothing_else() {
    let mut groups = Groups::open(&tiny(), []).expect("an empty table");
    let runs: Vec<Run> = (0..5).map(|_| take(&mut groups, GroupKind::Metadata, 1)).collect();
    runs[..4].iter().for_each(|run| groups.commit(*run));
    groups.free(runs[0]);
    let frozen = groups.freeze();
    groups.commit(runs[4]);
    groups.free(runs[1]);
    groups.free(runs[2]);
    assert_eq!((frozen.len(), frozen[0].allocated, frozen[0].bitmap.count()), (1, 3, 3));
    groups.settle();
    assert_eq!(groups.dirty_groups(), [GroupIndex(0)], "what came later waits for the next freeze");
    assert_eq!(groups.freeze()[0].allocated, 2);
}

#[test]
fn growing_lengthens_the_last_group_and_adds_groups() {
    let settings = GroupSettings { geometry: geometry(40, 32), metadata_required: BlockCount(0), ..tiny() };
    let mut disk = Disk::default();
    let mut groups = Groups::open(&settings, []).expect("an empty table");
    assert_eq!(groups.counts().total(), BlockCount(36));
    let full =
        Run { address: groups.geometry.first_block(GroupIndex(0)).offset_by(2), length: BlockCount(30) };
    let first_of_last = Run::single(groups.geometry.first_block(GroupIndex(1)).offset_by(2));
    for run in [full, first_of_last] {
        groups.mark(GroupKind::Data, run).expect("it is free");
    }
    disk.checkpoint(&mut groups);
    let grown = GroupSettings { geometry: geometry(104, 32), ..settings };
    for mut groups in [disk.open(&settings), groups] {
        groups.grow(&grown.geometry);
        assert_eq!(groups.counts().total(), BlockCount(30 + 30 + 30 + 6));
        assert_eq!(groups.counts().data.free(), BlockCount(29));
        for distance in 1..30 {
            let hint = first_of_last.address.offset_by(distance);
            let placement = Placement { hint: Some(hint), offset_in_window: 0 };
            let run = disk.reserve(&mut groups, GroupKind::Data, 1, placement).expect("there is room");
            assert_eq!(run.address, hint);
        }
        assert_eq!(groups.counts().data.free(), BlockCount(0));
    }
}

#[test]
fn a_check_sees_every_allocated_run() {
    let (mut groups, _) = with_data(&tiny(), 0);
    let first = groups.geometry.first_block(GroupIndex(2));
    let run = Run { address: first.offset_by(5), length: BlockCount(7) };
    groups.mark(GroupKind::Data, run).expect("it is free");
    let seen: Vec<Run> =
        groups.indices().flat_map(|group| groups.allocated_runs(group).expect("in memory")).collect();
    assert_eq!(seen, [run]);
    assert_eq!(run.blocks().count(), 7);
}
