//! Claims about several devices.

use super::{Disk, geometry, tiny};
use crate::geometry::Geometry;
use crate::groups::{GroupKind, GroupSettings, Groups, NoRun, Placement};
use cow_tree::units::BlockCount;

/// Windows of 8 blocks in groups of 32; a first device of so many blocks of groups, and others.
fn settings(first: u64, further: &[u64]) -> GroupSettings {
    let join = |geometry: Geometry, blocks: &u64| geometry.joined((blocks + 8) * 4096).expect("large enough");
    GroupSettings { geometry: further.iter().fold(geometry(first, 32), join), ..tiny() }
}

/// Takes a window of data `count` times; how many came from each device.
fn windows(groups: &mut Groups, disk: &Disk, count: u64) -> Vec<u64> {
    let mut taken = vec![0; groups.counts_by_device().len()];
    for _ in 0..count {
        let run =
            disk.reserve(groups, GroupKind::Data, 8, Placement::default()).expect("there are free windows");
        groups.commit(run);
        taken[usize::from(run.address.device())] += run.length.0;
    }
    taken
}

#[test]
fn new_windows_go_to_each_device_in_proportion_to_what_it_has_free() {
    let mut groups = Groups::open(&settings(3200, &[3200, 6400]), []).expect("an empty table");
    let disk = Disk::default();
    let taken = windows(&mut groups, &disk, 400);
    assert_eq!(taken.iter().sum::<u64>(), 3200);
    for (device, share) in taken.iter().zip([800, 800, 1600]) {
        assert!(device.abs_diff(share) <= 64, "{taken:?}");
    }
}

#[test]
fn an_empty_device_that_joined_gets_more_than_the_full_ones_and_nobody_is_left_out() {
    let mut groups = Groups::open(&settings(3200, &[]), []).expect("an empty table");
    let disk = Disk::default();
    assert_eq!(windows(&mut groups, &disk, 150), [1200]);
    groups.grow(&settings(3200, &[3200]).geometry);
    // 1,800 blocks are free on the one, 3,000 on the other.
    let taken = windows(&mut groups, &disk, 100);
    assert!(taken[0].abs_diff(300) <= 40 && taken[0] + taken[1] == 800, "{taken:?}");
}

#[test]
fn the_figures_of_the_devices_are_those_of_the_pool() {
    let mut groups = Groups::open(&settings(320, &[320, 64]), []).expect("an empty table");
    let disk = Disk::default();
    windows(&mut groups, &disk, 20);
    disk.reserve(&mut groups, GroupKind::Metadata, 5, Placement::default()).expect("room");
    let (all, each) = (groups.counts(), groups.counts_by_device());
    let sum = |figure: fn(&crate::groups::Counts) -> BlockCount| {
        each.iter().map(|counts| figure(counts).0).sum::<u64>()
    };
    assert_eq!(sum(|counts| counts.data.allocated), all.data.allocated.0);
    assert_eq!(sum(|counts| counts.data.free()), all.data.free().0);
    assert_eq!(sum(|counts| counts.metadata.capacity), all.metadata.capacity.0);
    assert_eq!(sum(|counts| counts.unused), all.unused.0);
    assert_eq!(each.len(), 3);
}

#[test]
fn when_one_device_is_full_the_others_go_on_until_all_are() {
    let mut groups = Groups::open(&settings(128, &[32, 320]), []).expect("an empty table");
    let disk = Disk::default();
    let mut taken = 0;
    loop {
        match disk.reserve(&mut groups, GroupKind::Data, 64, Placement::default()) {
            Ok(run) => {
                groups.commit(run);
                taken += run.length.0;
            }
            Err(NoRun::Full { .. }) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    let all = groups.counts();
    assert_eq!(taken, all.data.capacity.0, "every block of data is taken");
    assert_eq!(groups.counts_by_device()[1].unused, BlockCount(0), "also of the small device");
}
