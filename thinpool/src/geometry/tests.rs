//! Claims about places.

use super::{
    DEVICES_MAX, FURTHER_START, GROUP_BLOCKS_MAX, GROUP_BLOCKS_MIN, Geometry, GeometryError, GeometryOptions,
    GroupIndex, Slot, superblock_homes, superblock_places,
};
use cow_tree::units::{BlockAddress, BlockCount, Generation};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

const TINY: GeometryOptions = GeometryOptions { journal_blocks: Some(8), group_blocks: Some(32) };

fn blocks(count: u64) -> u64 {
    count * 4096
}

#[test]
fn a_tiny_pool_fits_128_blocks() {
    let geometry = Geometry::plan(blocks(128), TINY).expect("128 blocks are enough");
    assert_eq!((geometry.journal_start(), geometry.journal_blocks()), (8, 8));
    assert_eq!(geometry.groups(), 4);
    assert_eq!(geometry.first_block(GroupIndex(0)), BlockAddress(16));
    assert_eq!(geometry.group_len(GroupIndex(3)), BlockCount(16));
    assert_eq!(geometry.bitmap_slot(GroupIndex(1), Slot::Second), BlockAddress(49));
}

#[test]
fn defaults_scale_with_the_device() {
    let plan = |bytes| Geometry::plan(bytes, GeometryOptions::default()).expect("large enough");
    let small = plan(16 << 20);
    assert_eq!((small.journal_blocks(), small.group_blocks()), (64, 251));
    let middle = plan(1 << 30);
    assert_eq!((middle.journal_blocks(), middle.groups()), (2048, 17));
    let large = plan(1 << 40);
    assert_eq!((large.journal_blocks(), large.group_blocks()), (2048, GROUP_BLOCKS_MAX));
}

#[test]
fn a_device_that_is_too_small_says_how_large_it_must_be() {
    let Err(GeometryError::TooSmall { needed, .. }) = Geometry::plan(blocks(50), TINY) else {
        panic!("50 blocks hold no two groups")
    };
    assert_eq!(needed, blocks(8 + 8 + 32 + 8));
    assert!(Geometry::plan(needed, TINY).is_ok());
    assert!(Geometry::plan(needed - 1, TINY).is_err());
    assert!(Geometry::plan(0, GeometryOptions::default()).is_err());
}

#[test]
fn sizes_out_of_bounds_are_refused() {
    let with = |journal_blocks, group_blocks| {
        Geometry::plan(1 << 30, GeometryOptions { journal_blocks, group_blocks }).map(drop)
    };
    assert_eq!(with(Some(7), None), Err(GeometryError::Journal(7)));
    assert_eq!(with(Some(u64::MAX), None), Err(GeometryError::Journal(u64::MAX)));
    assert_eq!(with(None, Some(7)), Err(GeometryError::Group(7)));
    assert_eq!(with(None, Some(32_257)), Err(GeometryError::Group(32_257)));
    assert!(matches!(Geometry::plan(u64::MAX, TINY), Err(GeometryError::TooLarge(_))));
    assert!(Geometry::stored(1000, 4, 8, 32).is_err(), "a journal over the superblock");
    assert!(Geometry::stored(1000, u64::MAX, 8, 32).is_err());
}

#[test]
fn growing_moves_nothing() {
    let before = Geometry::plan(blocks(128), TINY).expect("enough");
    let after = before.grown(blocks(8 + 8 + 4 * 32 + 7)).expect("longer");
    assert_eq!(after.groups(), 4);
    assert_eq!(after.group_len(GroupIndex(3)), BlockCount(32));
    assert_eq!(after.group_of(BlockAddress(16 + 4 * 32)), None, "the rest is too short for a group");
    assert_eq!(after.grown(blocks(8 + 8 + 4 * 32 + 8)).map(|geometry| geometry.groups()), Ok(5));
    assert_eq!(after.grown(blocks(128)), Err(GeometryError::Shrunk { blocks: 128, used: 151 }));
}

#[test]
fn other_devices_and_what_lies_in_front_belong_to_no_group() {
    let geometry = Geometry::plan(blocks(128), TINY).expect("enough");
    assert_eq!(geometry.group_of(BlockAddress(15)), None);
    assert_eq!(geometry.group_of(BlockAddress(128)), None);
    assert_eq!(geometry.group_of(BlockAddress::new(1, 20).expect("in range")), None);
    assert_eq!(geometry.group_of(BlockAddress((1 << 48) | 20)), None);
}

#[test]
fn copies_of_a_generation_are_two_apart() {
    assert_eq!(superblock_homes(Generation(6)), [BlockAddress(1), BlockAddress(3)]);
    assert_eq!(superblock_homes(Generation(7)), [BlockAddress(2), BlockAddress(4)]);
    assert_eq!(superblock_places(), [1, 2, 3, 4].map(BlockAddress));
}

fn any_geometry() -> impl Strategy<Value = Geometry> {
    (100..20_000u64, 8..64u64, prop_oneof![Just(32), Just(64), GROUP_BLOCKS_MIN..200]).prop_filter_map(
        "a device that is large enough",
        |(device, journal, group)| {
            let options = GeometryOptions { journal_blocks: Some(journal), group_blocks: Some(group) };
            Geometry::plan(blocks(device), options).ok()
        },
    )
}

#[test]
fn groups_are_numbered_device_by_device_and_only_the_last_device_grows() {
    let first = Geometry::plan(blocks(128), TINY).expect("enough");
    let both = first.joined(blocks(8 + 32 + 9)).expect("a second device");
    assert_eq!((first.groups(), both.groups()), (4, 6));
    let second = |block| BlockAddress::new(1, block).expect("few blocks");
    assert_eq!(both.first_block(GroupIndex(3)), first.first_block(GroupIndex(3)));
    assert_eq!(both.group_len(GroupIndex(3)), BlockCount(16), "the first device is as long as it was");
    assert_eq!(both.first_block(GroupIndex(4)), second(8));
    assert_eq!(
        (both.group_len(GroupIndex(4)), both.group_len(GroupIndex(5))),
        (BlockCount(32), BlockCount(9))
    );
    assert_eq!([3, 4, 5].map(|group| both.device_of(GroupIndex(group))), [0, 1, 1]);
    assert_eq!(both.group_of(second(48)), Some(GroupIndex(5)));
    for nowhere in [second(0), second(7), second(49), BlockAddress::new(2, 8).expect("few blocks")] {
        assert_eq!(both.group_of(nowhere), None, "{nowhere}");
    }
    let grown = both.grown(blocks(8 + 2 * 32)).expect("longer");
    assert_eq!((grown.devices(), grown.group_len(GroupIndex(5))), (&[128, 72][..], BlockCount(32)));
    assert_eq!(grown.grown(blocks(71)), Err(GeometryError::Shrunk { blocks: 71, used: 72 }));
}

#[test]
fn a_pool_has_a_bounded_number_of_devices_of_a_least_length() {
    let needed = blocks(FURTHER_START + u64::from(GROUP_BLOCKS_MIN));
    let mut geometry = Geometry::plan(blocks(128), TINY).expect("enough");
    let too_small = GeometryError::TooSmall { bytes: needed - 4096, needed };
    assert_eq!(geometry.joined(needed - 1), Err(too_small));
    for _ in 1..DEVICES_MAX {
        geometry = geometry.joined(needed).expect("one more");
    }
    assert_eq!(geometry.joined(needed), Err(GeometryError::TooManyDevices));
    assert_eq!(geometry.devices().len(), DEVICES_MAX);
}

#[test]
fn the_groups_of_a_pool_of_unequal_devices_fit_the_first_one_twice() {
    let plan = |first, further: &[u64]| Geometry::plan_all(first, further, GeometryOptions::default());
    let unequal = plan(64 << 20, &[1 << 40]).expect("both are used");
    assert!(u64::from(unequal.group_blocks()) * 4096 < 32 << 20);
    assert_eq!(unequal.device_of(GroupIndex(1)), 0);
    let equal = plan(1 << 40, &[1 << 40, 1 << 40]).expect("large");
    assert_eq!(equal.group_blocks(), GROUP_BLOCKS_MAX);
    assert_eq!(plan(1 << 30, &[]), Geometry::plan(1 << 30, GeometryOptions::default()));
}

proptest! {
    #[test]
    fn groups_tile_the_space_behind_the_journal(geometry in any_geometry()) {
        let mut next = geometry.journal_start() + geometry.journal_blocks();
        for index in (0..geometry.groups()).map(GroupIndex) {
            let (first, length) = (geometry.first_block(index), geometry.group_len(index));
            prop_assert_eq!(first, BlockAddress(next));
            prop_assert!(length.0 >= u64::from(GROUP_BLOCKS_MIN));
            prop_assert_eq!(geometry.group_of(first), Some(index));
            prop_assert_eq!(geometry.group_of(first.offset_by(length.0 - 1)), Some(index));
            next += length.0;
        }
        prop_assert!(geometry.devices()[0] - next < u64::from(GROUP_BLOCKS_MIN));
        prop_assert_eq!(geometry.group_of(BlockAddress(next)), None);
    }

    #[test]
    fn any_stored_numbers_are_judged_without_panic(
        device in any::<u64>(), start in any::<u64>(), journal in any::<u64>(), group in any::<u32>(),
    ) {
        if let Ok(geometry) = Geometry::stored(device, start, journal, group) {
            prop_assert!(geometry.groups() >= 2);
        }
        if let Ok(geometry) = Geometry::stored(device, 8, 8, 32) {
            prop_assert!(geometry.groups() >= 2);
        }
    }
}
