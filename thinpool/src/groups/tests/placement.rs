use super::{Disk, geometry, tiny};
use crate::geometry::GroupIndex;
use crate::groups::{GroupKind, GroupSettings, Groups, NoRun, Placement, Run};
use cow_tree::units::{BlockAddress, BlockCount};
use std::collections::HashMap;

const WINDOW: u64 = 256;

/// A small generator of its own: one seed, one run (xorshift64, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % cow_tree::units::length_of(bound)).expect("below a usize")
    }
}

fn at(hint: BlockAddress) -> Placement {
    Placement { hint: Some(hint), offset_in_window: 0 }
}

fn window_of_group(groups: &Groups, group: u32, window: u64) -> BlockAddress {
    groups.geometry.first_block(GroupIndex(group)).offset_by(window * 8)
}

fn reserve(groups: &mut Groups, wanted: u64, placement: Placement) -> Run {
    Disk::default().reserve(groups, GroupKind::Data, wanted, placement).expect("there is room")
}

#[test]
fn four_volumes_written_in_random_order_keep_every_mebibyte_contiguous() {
    let settings = GroupSettings { geometry: geometry(4 * 32_256, 32_256), window_blocks: 256, ..tiny() };
    let mut groups = Groups::open(&settings, []).expect("an empty table");
    let mut dice = Dice(0x5eed);
    let mut writes: Vec<(u64, u64)> =
        (0..4).flat_map(|volume| (0..8192).map(move |block| (volume, block))).collect();
    for last in (1..writes.len()).rev() {
        writes.swap(last, dice.below(last + 1));
    }
    let mut bases: HashMap<(u64, u64), BlockAddress> = HashMap::new();
    for (volume, block) in writes {
        let offset = block % WINDOW;
        let base = bases.get(&(volume, block / WINDOW)).copied();
        let placement = Placement {
            hint: base.map(|base| base.offset_by(offset)),
            offset_in_window: u32::try_from(offset).expect("less than a window"),
        };
        let run = reserve(&mut groups, 1, placement);
        groups.commit(run);
        let found = BlockAddress(run.address.0 - offset);
        assert_eq!(
            *bases.entry((volume, block / WINDOW)).or_insert(found),
            found,
            "block {block} of {volume}"
        );
    }
    assert_eq!(bases.len(), 4 * 32);
}

#[test]
fn a_hint_that_is_free_is_taken_exactly_with_what_follows() {
    let mut groups = Groups::open(&tiny(), []).expect("an empty table");
    groups.activate(GroupIndex(0), GroupKind::Data);
    let start = window_of_group(&groups, 0, 1);
    let run = reserve(&mut groups, 3, at(start.offset_by(2)));
    assert_eq!(run, Run { address: start.offset_by(2), length: BlockCount(3) });
    let before = reserve(&mut groups, 8, at(start));
    assert_eq!(before, Run { address: start, length: BlockCount(2) }, "a shorter run than wanted");
}

#[test]
fn a_taken_hint_gives_another_place_of_its_window() {
    let mut groups = Groups::open(&tiny(), []).expect("an empty table");
    groups.activate(GroupIndex(0), GroupKind::Data);
    let start = window_of_group(&groups, 0, 1);
    reserve(&mut groups, 2, at(start.offset_by(3)));
    assert_eq!(reserve(&mut groups, 1, at(start.offset_by(3))).address, start.offset_by(5), "after it");
    reserve(&mut groups, 2, at(start.offset_by(6)));
    assert_eq!(reserve(&mut groups, 1, at(start.offset_by(7))).address, start, "else from the start");
}

#[test]
fn a_run_ends_at_a_window_that_somebody_uses_and_goes_through_free_ones() {
    let mut groups = Groups::open(&tiny(), []).expect("an empty table");
    groups.activate(GroupIndex(0), GroupKind::Data);
    let (second, fourth) = (window_of_group(&groups, 0, 1), window_of_group(&groups, 0, 3));
    reserve(&mut groups, 1, at(fourth.offset_by(7)));
    let run = reserve(&mut groups, 100, at(second.offset_by(1)));
    assert_eq!(run, Run { address: second.offset_by(1), length: BlockCount(15) });
}

#[test]
fn a_first_block_goes_to_its_offset_in_a_free_window() {
    let mut groups = Groups::open(&tiny(), []).expect("an empty table");
    let placement = Placement { hint: None, offset_in_window: 5 };
    let first = reserve(&mut groups, 1, placement);
    assert_eq!(first.address, window_of_group(&groups, 0, 1).offset_by(5), "window 0 has the bitmap slots");
    assert_eq!(reserve(&mut groups, 1, placement).address, window_of_group(&groups, 0, 2).offset_by(5));
    assert_eq!(reserve(&mut groups, 1, placement).address, window_of_group(&groups, 0, 3).offset_by(5));
    assert_eq!(
        reserve(&mut groups, 1, placement).address,
        window_of_group(&groups, 1, 1).offset_by(5),
        "a new group"
    );
}

#[test]
fn hints_that_lead_nowhere_are_ignored() {
    let mut groups = Groups::open(&tiny(), []).expect("an empty table");
    groups.activate(GroupIndex(3), GroupKind::Metadata);
    let metadata = groups.geometry.first_block(GroupIndex(3)).offset_by(4);
    for hint in [BlockAddress(0), BlockAddress(u64::MAX), BlockAddress(1 << 41), metadata] {
        let run = reserve(&mut groups, 1, at(hint));
        assert!(groups.is_data(run.address));
    }
    let slot = groups.geometry.first_block(GroupIndex(0));
    assert!(
        reserve(&mut groups, 1, at(slot)).address > slot.offset_by(1),
        "a bitmap slot is never handed out"
    );
}

#[test]
fn data_is_not_spread_over_the_pool_for_the_sake_of_windows() {
    let settings = GroupSettings { geometry: geometry(40 * 32, 32), ..tiny() };
    let mut groups = Groups::open(&settings, []).expect("an empty table");
    for _ in 0..60 {
        reserve(&mut groups, 1, Placement::default());
    }
    let capacity = groups.counts().data.capacity.0;
    assert!(capacity <= 4 * 60 + 5 * 30, "{capacity} blocks in data groups for 60 blocks");
}

#[test]
fn data_wants_groups_ahead_of_need_as_long_as_the_file_has_room() {
    let settings = GroupSettings { geometry: geometry(40 * 32, 32), ..tiny() };
    let mut groups = Groups::open(&settings, []).expect("an empty table");
    assert_eq!(groups.data_wanted(), None, "a pool without data takes no room");
    groups.activate(GroupIndex(0), GroupKind::Data);
    let take_all = |groups: &mut Groups| {
        while let Some(group) = groups.data_wanted() {
            assert!(groups.activate(group, GroupKind::Data));
        }
        groups.counts().data.groups
    };
    // Three free windows a group, and two groups' worth of blocks are seven windows.
    assert_eq!(take_all(&mut groups), 3);
    for _ in 0..3 {
        reserve(&mut groups, 1, Placement::default());
    }
    assert_eq!(take_all(&mut groups), 4);
    reserve(&mut groups, 1, Placement::default());
    reserve(&mut groups, 1, Placement::default());
    reserve(&mut groups, 1, Placement::default());
    assert!(groups.data_wanted().is_some());
    groups.stop_ahead();
    assert_eq!(groups.data_wanted(), None, "the file had no room");
    groups.activate(GroupIndex(20), GroupKind::Data);
    groups.stop_ahead();
    assert_eq!(groups.data_wanted(), None);
}

#[test]
fn every_block_of_the_pool_can_be_had() {
    let mut groups = Groups::open(&tiny(), []).expect("an empty table");
    let mut seen = std::collections::BTreeSet::new();
    for kind in [GroupKind::Data, GroupKind::Metadata] {
        while let Ok(run) = Disk::default().reserve(&mut groups, kind, 4, Placement::default()) {
            assert!(run.blocks().all(|block| seen.insert(block)), "G2");
        }
    }
    assert_eq!((seen.len(), groups.counts().free()), (120, BlockCount(0)));
    let full = groups.reserve(GroupKind::Metadata, BlockCount(1), Placement::default());
    assert_eq!(full, Err(NoRun::Full { quarantined: BlockCount(0) }));
}
