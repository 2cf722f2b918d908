use super::{Disk, POOL, geometry, tiny, with_data};
use crate::geometry::GroupIndex;
use crate::groups::books::State;
use crate::groups::change::Misuse;
use crate::groups::page::{PAGE_BYTES, PageError};
use crate::groups::{GroupKind, GroupSettings, Groups, LoadError, NoRun, Placement, Run, TableError};
use cow_tree::units::{BlockCount, Generation};

/// Three full groups of data on disk, opened again: no bitmap is read.
fn reopened() -> (Disk, Groups, Vec<Run>) {
    let (mut groups, runs) = with_data(&tiny(), 90);
    let mut disk = Disk::default();
    disk.checkpoint(&mut groups);
    let groups = disk.open(&tiny());
    (disk, groups, runs)
}

fn first_of(groups: &Groups, runs: &[Run], group: u32) -> Run {
    *runs.iter().find(|run| groups.group_of(run.address) == GroupIndex(group)).expect("every group is full")
}

#[test]
fn counts_are_exact_without_reading_a_bitmap() {
    let (disk, mut groups, runs) = reopened();
    let [one, other] = [0, 2].map(|group| first_of(&groups, &runs, group));
    groups.free(one);
    groups.free(other);
    groups.release(other);
    groups.mark(GroupKind::Data, other).expect("it is free again");
    groups.free(other);
    let counts = groups.counts().data;
    assert_eq!((counts.allocated, counts.quarantined), (BlockCount(88), BlockCount(2)));
    while let Some(group) = groups.dirty_unloaded() {
        disk.load(&mut groups, group);
    }
    assert_eq!(groups.counts().data, counts);
    assert_eq!(groups.dirty_groups().len(), 2);
}

#[test]
fn a_double_free_is_found_before_the_bitmap_is_read() {
    let (_, mut groups, runs) = reopened();
    groups.free(runs[0]);
    let twice = groups.try_free(runs[0]);
    assert_eq!(twice, Err(Misuse::State { run: runs[0], expected: State::Allocated }));
    let full_group = groups.mark(GroupKind::Data, runs[1]);
    assert_eq!(full_group, Err(Misuse::State { run: runs[1], expected: State::Free }), "by count");
}

#[test]
fn freed_blocks_of_an_unread_group_are_handed_out_after_loading() {
    let (disk, mut groups, runs) = reopened();
    groups.free(runs[50]);
    assert_eq!(
        groups.reserve(GroupKind::Data, BlockCount(1), Placement::default()),
        Err(NoRun::Full { quarantined: BlockCount(1) })
    );
    groups.release(runs[50]);
    let group = groups.group_of(runs[50].address);
    assert_eq!(
        groups.reserve(GroupKind::Data, BlockCount(1), Placement::default()),
        Err(NoRun::NeedsLoad(group))
    );
    assert_eq!(disk.reserve(&mut groups, GroupKind::Data, 1, Placement::default()), Ok(runs[50]));
    assert_eq!(groups.slot_to_load(group), None);
    groups.load(group, &[]).expect("a second load is harmless");
}

#[test]
fn a_hint_into_an_unread_group_asks_for_it_although_a_loaded_one_has_room() {
    let (disk, mut groups, runs) = reopened();
    let [loaded, unread] = [0, 2].map(|group| first_of(&groups, &runs, group));
    for run in [loaded, unread] {
        groups.free(run);
        groups.release(run);
    }
    disk.load(&mut groups, GroupIndex(0));
    let placement = Placement { hint: Some(unread.address), offset_in_window: 0 };
    let stop = groups.reserve(GroupKind::Data, BlockCount(1), placement);
    assert_eq!(stop, Err(NoRun::NeedsLoad(GroupIndex(2))));
    assert_eq!(groups.reserve(GroupKind::Data, BlockCount(1), Placement::default()), Ok(loaded));
    assert_eq!(disk.reserve(&mut groups, GroupKind::Data, 1, placement), Ok(unread));
}

#[test]
fn a_page_that_contradicts_the_records_is_damage_and_nothing_is_handed_out_of_its_group() {
    let settings = GroupSettings { geometry: geometry(128, 32), ..tiny() };
    let (mut groups, runs) = with_data(&settings, 10);
    groups.free(runs[3]);
    groups.release(runs[3]);
    let mut disk = Disk::default();
    disk.checkpoint(&mut groups);
    let mut groups = disk.open(&settings);
    groups.try_free(runs[3]).expect("nothing is known of it yet");
    let group = groups.group_of(runs[3].address);
    let slot = groups.slot_to_load(group).expect("unread");
    let page = disk.pages[&groups.geometry.bitmap_slot(group, slot)];
    assert_eq!(groups.load(group, &page), Err(LoadError::Contradiction(group)));
    let next = groups.reserve(GroupKind::Data, BlockCount(1), Placement::default());
    assert_ne!(next, Err(NoRun::NeedsLoad(group)));
    assert_eq!(groups.dirty_unloaded(), Some(group), "and it cannot be frozen");
}

#[test]
fn a_damaged_page_is_named() {
    let (_, mut groups, _) = reopened();
    let error = groups.load(GroupIndex(0), &[0; PAGE_BYTES]).expect_err("not a bitmap");
    assert_eq!(error, LoadError::Page { group: GroupIndex(0), source: PageError::Magic });
}

#[test]
fn the_other_slot_of_the_same_group_is_not_taken_for_the_one_that_counts() {
    let (mut disk, mut groups, runs) = reopened();
    let group = groups.group_of(runs[0].address);
    let old = groups.slot_to_load(group).expect("unread");
    let old_page = disk.pages[&groups.geometry.bitmap_slot(group, old)];
    groups.free(runs[0]);
    disk.checkpoint(&mut groups);
    let mut groups = disk.open(&tiny());
    assert_eq!(groups.slot_to_load(group), Some(old.other()));
    let error = groups.load(group, &old_page).expect_err("the older page");
    assert_eq!(error, LoadError::Page { group, source: PageError::Stale });
}

#[test]
fn a_table_that_cannot_be_is_refused() {
    let (disk, groups, _) = reopened();
    let entry = disk.table[&GroupIndex(0)];
    let open = |entries: Vec<_>| Groups::open(&tiny(), entries).map(drop);
    assert_eq!(open(vec![(GroupIndex(4), entry)]), Err(TableError::Group(GroupIndex(4))));
    let twice = vec![(GroupIndex(0), entry), (GroupIndex(0), entry)];
    assert_eq!(open(twice), Err(TableError::Group(GroupIndex(0))));
    let too_many = crate::groups::GroupEntry { allocated: 31, ..entry };
    let group = GroupIndex(0);
    assert_eq!(open(vec![(group, too_many)]), Err(TableError::Count { group, allocated: 31 }));
    assert_eq!(groups.placeholder(group).encode().len(), entry.encode().len());
}

#[test]
fn an_emptied_unread_group_changes_its_kind_without_being_read() {
    let (mut disk, mut groups, runs) = reopened();
    let of_group: Vec<Run> =
        runs.iter().copied().filter(|run| groups.group_of(run.address) == GroupIndex(1)).collect();
    for run in &of_group {
        groups.free(*run);
        groups.release(*run);
    }
    assert!(groups.activate(GroupIndex(1), GroupKind::Metadata));
    assert_eq!(groups.slot_to_load(GroupIndex(1)), None);
    groups.activate(GroupIndex(3), GroupKind::Metadata);
    assert_eq!(groups.reserve_nodes(60).map(|runs| runs.iter().map(|run| run.length.0).sum()), Ok(60_u64));
    let frozen = groups.freeze();
    assert_eq!(frozen.len(), 2);
    assert_eq!(frozen[0].encode(POOL, Generation(9), &groups.geometry)[64..], [0; PAGE_BYTES - 64]);
    groups.settle();
    disk.checkpoint(&mut groups);
}
