//! What a power cut and a kill leave: durability, subsets, tears, order.

use super::{
    PAGE, SECTOR, byte, device, drain, last, observed, open, run, sectors, submit, write, write_through,
};
use crate::operation::{Operation, OperationKind};
use crate::simulated::{Atomicity, Choice, CompletionOrder, CrashPoint, Profile, SimulatedDevice, Tear};
use std::collections::BTreeSet;

fn with(atomicity: Atomicity) -> SimulatedDevice {
    device(Profile { atomicity, ..Profile::default() })
}

/// A device on which page 1 is durable with 1 and then written with 2.
fn rewritten(atomicity: Atomicity) -> CrashPoint {
    let device = with(atomicity);
    let points = observed(&device);
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    run(&mut *channel, Operation::Flush).expect("a flush");
    run(&mut *channel, write(1, 2)).expect("a write");
    last(&points)
}

#[test]
fn a_flush_covers_what_completed_before_it_was_submitted_and_nothing_else() {
    let device = device(Profile { order: CompletionOrder::Any, ..Profile::default() });
    let points = observed(&device);
    let (mut first, mut second) = (open(&device), open(&device));
    run(&mut *first, write(1, 1)).expect("a write");
    submit(&mut *second, 0, write(2, 2));
    submit(&mut *first, 0, Operation::Flush);
    drain(&mut *second);
    drain(&mut *first);
    let point = last(&points);
    assert_eq!((byte(point.durable(), 1), byte(point.durable(), 2)), (Some(1), Some(0)));
    assert_eq!(point.pending().map(|operation| operation.offset).collect::<Vec<_>>(), vec![2 * PAGE]);
    run(&mut *first, Operation::Flush).expect("a flush");
    assert_eq!(last(&points).pending().count(), 0);
    assert_eq!(byte(&device.durable(), 2), Some(2));
}

#[test]
fn a_write_through_the_cache_is_durable_by_itself_and_no_older_one_comes_back_over_it() {
    let device = with(Atomicity::Sector);
    let points = observed(&device);
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    run(&mut *channel, write(2, 1)).expect("a write");
    run(&mut *channel, write_through(1, 2)).expect("a write");
    let point = last(&points);
    for choice in [Choice::none(), point.all()] {
        assert_eq!(byte(&point.power_cut(&choice), 1), Some(2));
    }
    assert_eq!(byte(&point.power_cut(&Choice::none()), 2), Some(0), "it says nothing about others");
}

#[test]
fn a_durable_write_is_not_hidden_by_one_that_took_effect_before_it() {
    let device = device(Profile { order: CompletionOrder::Any, ..Profile::default() });
    let points = observed(&device);
    let (mut slow, mut fast) = (open(&device), open(&device));
    submit(&mut *fast, 0, write(1, 2));
    drain(&mut *fast);
    submit(&mut *fast, 1, Operation::Flush);
    submit(&mut *slow, 0, write(1, 3));
    drain(&mut *slow);
    run(&mut *fast, write(1, 4)).expect("a write, and the flush before it");
    run(&mut *fast, Operation::Flush).expect("a flush");
    let point = last(&points);
    assert_eq!(byte(&point.power_cut(&point.all()), 1), Some(4));
    assert_eq!(point.pending().count(), 0);
}

#[test]
fn a_write_through_to_a_device_that_grew_keeps_its_place() {
    let device = with(Atomicity::Sector);
    let points = observed(&device);
    let mut channel = open(&device);
    run(&mut *channel, Operation::Resize { length: 80 * PAGE }).expect("a resize");
    assert_eq!(last(&points).power_cut(&Choice::none()).size(), 64 * PAGE);
    run(&mut *channel, write(70, 1)).expect("a write");
    let lost_growth = last(&points).power_cut(&Choice::of([1]));
    assert_eq!(
        (lost_growth.size(), lost_growth.pages()),
        (64 * PAGE, 0),
        "without its place a write is lost"
    );
    run(&mut *channel, write_through(71, 1)).expect("a write");
    assert_eq!(byte(&last(&points).power_cut(&Choice::none()), 71), Some(1));
}

#[test]
fn a_power_cut_keeps_any_subset() {
    let device = with(Atomicity::Sector);
    let points = observed(&device);
    let mut channel = open(&device);
    (0..4).for_each(|page| drop(run(&mut *channel, write(page, 9)).expect("a write")));
    submit(&mut *channel, 0, write(4, 9));
    let point = last(&points);
    assert_eq!(point.pending().len(), 5);
    let mut states = BTreeSet::new();
    for mask in 0..32 {
        let disk = point.power_cut(&Choice::mask(mask));
        for page in 0..5 {
            let expected = if mask >> page & 1 == 1 { 9 } else { 0 };
            assert_eq!(byte(&disk, page), Some(expected), "page {page} of subset {mask:b}");
        }
        states.insert(disk.hash());
    }
    assert_eq!(states.len(), 32, "each subset is another state");
}

#[test]
fn keeping_everything_that_completed_is_what_reads_see() {
    let mut compared = 0;
    for seed in 0..20 {
        let device = SimulatedDevice::new(super::SimulatedDisk::new(64 * PAGE), Profile::drawn(seed), seed);
        let points = observed(&device);
        let mut channel = open(&device);
        for step in 0..30_u8 {
            let page = u64::from(step % 4);
            let operation = match step % 10 {
                3 => Operation::Flush,
                5 => Operation::WriteZeroes { offset: page * PAGE, length: SECTOR },
                7 => Operation::Resize { length: (64 - page) * PAGE },
                8 => write_through(page, step + 1),
                _ => write(page, step + 1),
            };
            submit(&mut *channel, 0, operation);
            channel.poll(&mut Vec::new());
        }
        drain(&mut *channel);
        for point in points.lock().iter() {
            let completed = Choice::of(0..point.in_flight_start());
            assert_eq!(point.power_cut(&completed), *point.current());
            assert_eq!(point.kill(&Choice::none()), *point.current());
            compared += 1;
        }
    }
    assert_eq!(compared, 20 * 60);
}

#[test]
fn a_kill_loses_nothing_that_completed_and_any_subset_of_what_is_in_flight() {
    let device = device(Profile { latency_polls_max: 3, ..Profile::default() });
    let points = observed(&device);
    let mut channel = open(&device);
    run(&mut *channel, write(0, 1)).expect("a write");
    (1..4).for_each(|page| submit(&mut *channel, page, write(page, 1)));
    let point = last(&points);
    assert_eq!(point.in_flight_start(), 1);
    for mask in 0..8 {
        let disk = point.kill(&Choice::mask(mask << 1));
        let pages: Vec<u64> = disk.written_pages().collect();
        let expected = (0..4).filter(|page| *page == 0 || mask >> (page - 1) & 1 == 1).collect::<Vec<_>>();
        assert_eq!(pages, expected);
    }
}

#[test]
fn a_tear_leaves_a_prefix_or_a_subset_of_sectors() {
    let point = rewritten(Atomicity::Sector);
    assert_eq!(point.sectors(0), 8);
    let torn = |tear| sectors(&point.power_cut(&Choice::of([0]).tearing(0, tear)), 1);
    assert_eq!(torn(Tear::Prefix { sectors: 3 }), vec![2, 2, 2, 1, 1, 1, 1, 1]);
    assert_eq!(torn(Tear::Prefix { sectors: 0 }), vec![1; 8]);
    assert_eq!(torn(Tear::Prefix { sectors: 8 }), vec![2; 8]);
    let subsets: BTreeSet<Vec<u8>> = (0..200).map(|seed| torn(Tear::Subset { seed })).collect();
    assert!(subsets.len() > 50, "{} subsets", subsets.len());
    assert!(subsets.iter().flatten().all(|byte| [1, 2].contains(byte)));
}

#[test]
fn only_a_device_without_atomicity_leaves_garbage_and_only_in_the_torn_sector() {
    let garbage = |atomicity, seed| {
        let point = rewritten(atomicity);
        let disk = point.power_cut(&Choice::of([0]).tearing(0, Tear::Garbage { seed }));
        let mut contents = [0; 4096];
        disk.read(PAGE, &mut contents);
        let odd =
            |sector: &&[u8]| !sector.iter().all(|byte| *byte == 1) && !sector.iter().all(|byte| *byte == 2);
        contents.chunks(512).filter(odd).count()
    };
    for seed in 0..20 {
        assert_eq!(garbage(Atomicity::Nothing, seed), 1);
        assert_eq!(garbage(Atomicity::Sector, seed), 0);
        assert_eq!(garbage(Atomicity::Block, seed), 0);
    }
}

#[test]
fn a_device_with_atomic_blocks_tears_between_blocks() {
    let device = with(Atomicity::Block);
    let points = observed(&device);
    let mut channel = open(&device);
    let buffer = crate::buffer::Buffer::from_slice(&[3; 3 * 4096]);
    let durability = crate::operation::Durability::Cached;
    run(&mut *channel, Operation::Write { offset: PAGE, buffer, durability }).expect("a write");
    let point = last(&points);
    let tears = (0..30)
        .flat_map(|seed| [Tear::Subset { seed }, Tear::Garbage { seed }])
        .chain((0..24).map(|sectors| Tear::Prefix { sectors }));
    let mut states = BTreeSet::new();
    for tear in tears {
        let disk = point.power_cut(&Choice::of([0]).tearing(0, tear));
        states.insert((1..4).map(|page| byte(&disk, page).expect("no block is torn")).collect::<Vec<_>>());
    }
    assert_eq!(states.len(), 8, "every subset of three blocks");
}

#[test]
fn writes_in_flight_together_may_change_places_and_others_not() {
    let device = device(Profile { latency_polls_max: 3, ..Profile::default() });
    let points = observed(&device);
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    assert!(!last(&points).has_races());
    submit(&mut *channel, 0, write(1, 2));
    assert!(!last(&points).has_races(), "the first had completed");
    submit(&mut *channel, 1, write(1, 3));
    let point = last(&points);
    assert!(point.has_races());
    let results: BTreeSet<_> =
        (0..50).map(|seed| byte(&point.power_cut(&point.reordered(point.all(), seed)), 1)).collect();
    assert_eq!(results, BTreeSet::from([Some(2), Some(3)]));
}

#[test]
fn zeroes_and_discards_are_pending_like_writes() {
    let device = with(Atomicity::Sector);
    let points = observed(&device);
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    run(&mut *channel, write(2, 1)).expect("a write");
    run(&mut *channel, Operation::Flush).expect("a flush");
    run(&mut *channel, Operation::Discard { offset: PAGE, length: PAGE }).expect("a discard");
    run(&mut *channel, Operation::WriteZeroes { offset: 2 * PAGE, length: SECTOR }).expect("zeroes");
    let point = last(&points);
    let kinds: Vec<_> = point.pending().map(|operation| operation.kind).collect();
    assert_eq!(kinds, vec![OperationKind::Discard, OperationKind::WriteZeroes]);
    assert_eq!(byte(&point.power_cut(&Choice::mask(0b10)), 1), Some(1));
    assert_eq!(byte(&point.power_cut(&Choice::mask(0b01)), 1), Some(0));
    assert_eq!(sectors(&point.power_cut(&point.all()), 2), vec![0, 1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_crash_point_does_not_change_when_its_device_goes_on() {
    let device = with(Atomicity::Sector);
    let points = observed(&device);
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    let point = last(&points);
    let before = (point.durable().hash(), point.power_cut(&point.all()).hash());
    run(&mut *channel, write_through(1, 2)).expect("a write");
    run(&mut *channel, Operation::Flush).expect("a flush");
    assert_eq!((point.durable().hash(), point.power_cut(&point.all()).hash()), before);
}

#[test]
fn after_a_kill_what_was_not_flushed_can_still_be_lost_until_the_next_process_flushes() {
    let device = device(Profile { latency_polls_max: 3, ..Profile::default() });
    let points = observed(&device);
    let mut channel = open(&device);
    run(&mut *channel, write(0, 1)).expect("a write");
    submit(&mut *channel, 1, write(1, 1));
    submit(&mut *channel, 2, write(2, 1));
    let killed = last(&points);
    let next = SimulatedDevice::after_kill(&killed, &Choice::of([2]), Profile::default(), 1);
    assert_eq!(next.disk().written_pages().collect::<Vec<_>>(), vec![0, 2]);
    let point = next.crash_point();
    assert_eq!(point.power_cut(&Choice::none()).pages(), 0);
    assert_eq!(point.power_cut(&point.all()), next.disk());
    run(&mut *open(&next), Operation::Flush).expect("a flush");
    assert_eq!(next.durable(), next.disk());
}
