use super::{Disk, geometry, take, take_and_commit, tiny};
use crate::geometry::GroupIndex;
use crate::groups::{GroupKind, GroupSettings, Groups, NoRun, Placement, Run};
use cow_tree::units::BlockCount;

fn open(metadata_required: u64) -> Groups {
    let settings = GroupSettings { metadata_required: BlockCount(metadata_required), ..tiny() };
    Groups::open(&settings, []).expect("an empty table")
}

fn fill_with_data(groups: &mut Groups) -> u64 {
    let mut taken = 0;
    while let Ok(run) = Disk::default().reserve(groups, GroupKind::Data, 100, Placement::default()) {
        groups.commit(run);
        taken += run.length.0;
    }
    taken
}

/// Reserves nodes, activating the groups that are asked for.
fn reserve_nodes(groups: &mut Groups, count: usize) -> Result<Vec<Run>, NoRun> {
    loop {
        match groups.reserve_nodes(count) {
            Err(NoRun::NeedsAllocation(group)) => assert!(groups.activate(group, GroupKind::Metadata)),
            other => return other,
        }
    }
}

#[test]
fn data_runs_out_while_metadata_still_has_what_it_requires() {
    for (required, data) in [(0, 90), (1, 90), (30, 90), (31, 60), (60, 60), (61, 30), (90, 30), (91, 0)] {
        let mut groups = open(required);
        assert_eq!(groups.data_room(), BlockCount(data), "required {required}");
        assert_eq!(fill_with_data(&mut groups), data, "required {required}");
        assert!(groups.metadata_room() >= BlockCount(required.min(120 - data)));
        assert_eq!(groups.data_room(), BlockCount(0));
        let nodes = usize::try_from(120 - data).expect("small");
        assert!(reserve_nodes(&mut groups, nodes).is_ok(), "metadata may take any unused group");
    }
}

#[test]
fn nodes_in_use_do_not_count_as_room_for_metadata() {
    let mut groups = open(20);
    take_and_commit(&mut groups, GroupKind::Metadata, 8);
    assert_eq!(fill_with_data(&mut groups), 90);
    let mut groups = open(23);
    take_and_commit(&mut groups, GroupKind::Metadata, 8);
    assert_eq!(fill_with_data(&mut groups), 60);
}

#[test]
fn the_smallest_pool_has_a_group_of_each_kind() {
    let settings = GroupSettings { geometry: geometry(32 + 8, 32), ..tiny() };
    let mut groups = Groups::open(&settings, []).expect("an empty table");
    assert_eq!(fill_with_data(&mut groups), 30);
    assert!(reserve_nodes(&mut groups, 6).is_ok());
}

#[test]
fn data_that_was_allowed_a_group_may_have_lost_it_before_the_file_had_space() {
    let mut groups = open(90);
    let wanted = groups.reserve(GroupKind::Data, BlockCount(1), Placement::default());
    assert_eq!(wanted, Err(NoRun::NeedsAllocation(GroupIndex(0))));
    groups.set_metadata_required(BlockCount(120));
    assert!(!groups.activate(GroupIndex(0), GroupKind::Data));
    groups.set_metadata_required(BlockCount(90));
    assert!(groups.activate(GroupIndex(0), GroupKind::Metadata));
    let run = take(&mut groups, GroupKind::Metadata, 1);
    assert!(!groups.activate(GroupIndex(0), GroupKind::Data), "somebody was faster");
    groups.unreserve(run);
}

#[test]
fn a_group_keeps_its_kind_while_anything_of_it_is_taken() {
    let mut groups = open(0);
    let run = take(&mut groups, GroupKind::Data, 1);
    assert!(!groups.activate(GroupIndex(0), GroupKind::Metadata), "reserved");
    groups.commit(run);
    assert!(!groups.activate(GroupIndex(0), GroupKind::Metadata), "allocated");
    groups.free(run);
    assert!(!groups.activate(GroupIndex(0), GroupKind::Metadata), "quarantined");
    groups.release(run);
    assert!(groups.activate(GroupIndex(0), GroupKind::Metadata));
}

#[test]
fn metadata_takes_back_a_group_of_which_all_data_was_freed() {
    let mut groups = open(0);
    fill_with_data(&mut groups);
    assert!(reserve_nodes(&mut groups, 31).is_err());
    let runs = groups.allocated_runs(GroupIndex(1)).expect("loaded");
    runs.iter().for_each(|run| groups.free(*run));
    assert!(reserve_nodes(&mut groups, 31).is_err(), "quarantine is not over");
    runs.iter().for_each(|run| groups.release(*run));
    let nodes = reserve_nodes(&mut groups, 31).expect("group 1 is idle");
    assert!(nodes.iter().any(|run| groups.group_of(run.address) == GroupIndex(1)));
    assert_eq!(groups.counts().metadata.capacity, BlockCount(60));
}

#[test]
fn data_takes_an_idle_metadata_group_only_within_the_rule() {
    let mut groups = open(30);
    let nodes = reserve_nodes(&mut groups, 60).expect("two groups");
    nodes.iter().for_each(|run| groups.unreserve(*run));
    assert_eq!(fill_with_data(&mut groups), 90, "one of the two idle metadata groups is kept");
    assert_eq!(groups.metadata_room(), BlockCount(30));
}

#[test]
fn nodes_come_from_one_group_where_possible() {
    let mut groups = open(0);
    let first = reserve_nodes(&mut groups, 20).expect("room");
    let in_group =
        |groups: &Groups, runs: &[Run], group| runs.iter().all(|run| groups.group_of(run.address) == group);
    assert!(in_group(&groups, &first, GroupIndex(0)));
    let second = reserve_nodes(&mut groups, 20).expect("room");
    assert!(in_group(&groups, &second, GroupIndex(1)), "ten free blocks in group 0 do not suffice");
    let third = reserve_nodes(&mut groups, 10).expect("room");
    assert!(in_group(&groups, &third, GroupIndex(1)), "the current group first");
    let fourth = reserve_nodes(&mut groups, 3).expect("room");
    assert!(in_group(&groups, &fourth, GroupIndex(0)));
    let total: u64 = [first, second, third].iter().flatten().map(|run| run.length.0).sum();
    assert_eq!(total, 50);
    assert_eq!(reserve_nodes(&mut groups, 0), Ok(Vec::new()));
}

#[test]
fn nodes_are_spread_over_few_groups_before_another_is_taken_and_over_all_at_the_end() {
    let settings = GroupSettings { geometry: geometry(8 * 32, 32), ..tiny() };
    let mut groups = Groups::open(&settings, []).expect("an empty table");
    for _ in 0..7 {
        reserve_nodes(&mut groups, 25).expect("a group each");
    }
    assert_eq!(groups.counts().metadata.groups, 7);
    reserve_nodes(&mut groups, 20).expect("five blocks in each of four groups");
    assert_eq!(groups.counts().metadata.groups, 7);
    reserve_nodes(&mut groups, 30).expect("a new group");
    assert_eq!(groups.counts().metadata.groups, 8);
    assert_eq!(groups.reserve_nodes(16), Err(NoRun::Full { quarantined: BlockCount(0) }));
    let last = groups.reserve_nodes(15).expect("five blocks in each of three groups");
    assert_eq!((last.len(), groups.counts().free()), (3, BlockCount(0)));
}

#[test]
fn a_group_the_file_has_no_space_for_makes_the_pool_smaller_until_it_is_offered_again() {
    let mut groups = open(0);
    assert_eq!(
        groups.reserve(GroupKind::Data, BlockCount(1), Placement::default()),
        Err(NoRun::NeedsAllocation(GroupIndex(0)))
    );
    groups.refuse(GroupIndex(0));
    assert_eq!(fill_with_data(&mut groups), 60);
    assert_eq!(groups.counts().withheld, BlockCount(30));
    groups.offer_refused();
    assert_eq!(fill_with_data(&mut groups), 30);
}

/// What a freeze does: a node for every dirty group's entry, whose blocks may make another group dirty.
#[test]
fn the_fixpoint_of_a_checkpoint_ends_within_three_rounds() {
    let settings = GroupSettings { geometry: geometry(8 * 32, 32), ..tiny() };
    let mut groups = Groups::open(&settings, []).expect("an empty table");
    for _ in 0..4 {
        take_and_commit(&mut groups, GroupKind::Data, 24);
    }
    let (mut have, mut rounds) = (0, 0);
    loop {
        let wanted = 5 + groups.dirty_groups().len();
        if have == wanted {
            break;
        }
        for run in reserve_nodes(&mut groups, wanted - have).expect("room") {
            groups.commit(run);
        }
        have = wanted;
        rounds += 1;
        assert!(rounds <= 3);
    }
    assert_eq!(groups.counts().metadata.groups, 1);
}
