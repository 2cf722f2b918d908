//! What the explorer has found once, told as directly as possible.

use crate::chance::Chance;
use crate::model::Expectation;
use crate::pool::{self, BLOCK, Running};
use crate::recorder::{Moment, Recorder};
use crate::world::Start;
use blockstore::OperationKind;
use blockstore::simulated::{Atomicity, Choice, Profile, SimulatedDevice, SimulatedDisk, Tear};
use std::sync::Arc;

/// The moments of an opening, on a medium that may leave garbage in a sector.
fn moments_of_opening(disk: &SimulatedDisk, start: &Start, chance: &mut Chance) -> Vec<Moment> {
    let profile = Profile { atomicity: Atomicity::Nothing, ..Profile::default() };
    let device = SimulatedDevice::new(disk.clone(), profile, 0);
    let tail = pool::new_tail();
    let expectation = Arc::new(Expectation::of(&start.model, None, false));
    let recorder = Recorder::new(tail.clone(), expectation, pool::journal());
    let observer = recorder.clone();
    device.observe(move |point| observer.observe(point));
    Running::open(&device, tail, pool::opening(chance.id(), chance)).expect("the pool opens");
    recorder.take()
}

/// Indexes of pending writes of superblock copies.
fn copies(moment: &Moment) -> Vec<usize> {
    let is_copy = |label: &blockstore::simulated::OperationLabel| {
        label.kind == OperationKind::Write && (1..=4).contains(&(label.offset / BLOCK))
    };
    moment.point.pending().enumerate().filter(|(_, label)| is_copy(label)).map(|(index, _)| index).collect()
}

/// The first copy of a superblock is torn, the power comes back, and the same generation is written again, by another
/// opener: torn once more, the first copy must not come out whole as the first opener's beside the second opener's.
#[test]
fn a_superblock_that_is_torn_twice_is_never_the_first_writers() {
    let start = Start::prepared().expect("the pool can be made and used without a crash");
    let mut chance = Chance::new(3);
    let first = moments_of_opening(&start.disk, &start, &mut chance);
    let both = first.iter().find(|moment| copies(moment).len() == 2).expect("an opening writes a superblock");
    let copy = copies(both)[0];
    let mut tried = 0;
    for seed in 0..32 {
        let torn = both.point.power_cut(&Choice::of([copy]).tearing(copy, Tear::Garbage { seed }));
        let opened = moments_of_opening(&torn, &start, &mut chance);
        for moment in opened.iter().filter(|moment| !copies(moment).is_empty()) {
            for (copy, seed) in
                copies(moment).into_iter().flat_map(|copy| (0..8).map(move |seed| (copy, seed)))
            {
                let disk = moment.point.power_cut(&moment.point.all().tearing(copy, Tear::Subset { seed }));
                let device = SimulatedDevice::new(disk, Profile::default(), 0);
                let opening = pool::opening(chance.id(), &mut chance);
                if let Err(why) = Running::open(&device, pool::new_tail(), opening) {
                    panic!("torn at {seed}: {why}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "{tried} openings");
}
