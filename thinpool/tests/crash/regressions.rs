//! What the explorer has found once, told as directly as possible.

use crate::chance::Chance;
use crate::model::Expectation;
use crate::pool::{self, BLOCK, Running};
use crate::recorder::{Moment, Recorder};
use crate::world::Start;
use blockstore::simulated::{Atomicity, Choice, Fault, Profile, SimulatedDevice, SimulatedDisk, Tear};
use blockstore::{Buffer, Durability, OperationKind};
use std::sync::Arc;
use thinpool::{Access, Action, Command};

/// Rounds of the keeper between the beginning of a checkpoint and a commit, at most.
const ROUNDS_MAX: u64 = 8;

/// The moments of an opening, on a medium that may leave garbage in a sector.
fn moments_of_opening(disk: &SimulatedDisk, start: &Start, chance: &mut Chance) -> Vec<Moment> {
    let profile = Profile { atomicity: Atomicity::Nothing, ..Profile::default() };
    moments_on(&SimulatedDevice::new(disk.clone(), profile, 0), start, chance)
}

/// The moments of an opening.
fn moments_on(device: &SimulatedDevice, start: &Start, chance: &mut Chance) -> Vec<Moment> {
    let tail = pool::new_tail();
    let expectation = Arc::new(Expectation::of(&start.model, None, false));
    let recorder = Recorder::new(tail.clone(), expectation, pool::journal());
    let observer = recorder.clone();
    device.observe(move |point| observer.observe(point));
    Running::open(device, tail, pool::opening(chance.id(), chance)).expect("the pool opens");
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

/// A device with one flush that fails, opened and used until then; what it shows and what it will keep are two things.
fn after_a_failed_flush(disk: &SimulatedDisk, nth: u64, seed: u64, chance: &mut Chance) -> SimulatedDevice {
    let profile = Profile { faults: vec![Fault::FlushError { nth }], ..Profile::default() };
    let device = SimulatedDevice::new(disk.clone(), profile, seed);
    if let Ok(running) = Running::open(&device, pool::new_tail(), pool::opening(chance.id(), chance)) {
        use_until_it_fails(running, seed % ROUNDS_MAX);
    }
    SimulatedDevice::after_kill(&device.crash_point(), &Choice::none(), Profile::default(), seed)
}

/// Checkpoints, and commits while they are written: what the journal has beside them makes the next opening write, too.
fn use_until_it_fails(mut running: Running, rounds: u64) {
    let volume = running.attach("a", Access::ReadWrite).expect("it is there");
    loop {
        drop(running.pool.submit(Command::Checkpoint));
        (0..rounds).for_each(|_| running.round(&mut Vec::new()));
        let (offset, durability) = (0, Durability::Through);
        let trim = Action::Trim { offset, length: BLOCK, durability };
        let write = Action::Write { offset, buffer: Buffer::from_slice(&[7; 4096]), durability };
        let done = [trim, write].map(|action| running.request(&volume, action).is_ok());
        if done.contains(&false) || running.command(Command::Commit).is_err() {
            return;
        }
    }
}

/// A flush of the superblock fails: the next process reads what the medium may never have, and no flush of its own brings
/// it there. When the power goes while it recovers, the pool must still be there.
#[test]
fn a_superblock_whose_flush_failed_is_written_again_before_anything_else() {
    let start = Start::prepared().expect("the pool can be made and used without a crash");
    let mut chance = Chance::new(4);
    let mut tried = 0;
    for (nth, seed) in (8..16).flat_map(|nth| (0..4 * ROUNDS_MAX).map(move |seed| (nth, seed))) {
        let device = after_a_failed_flush(&start.disk, nth, seed, &mut chance);
        let moments = moments_on(&device, &start, &mut chance);
        for moment in &moments {
            let pending = moment.point.pending().len();
            let alone = (0..pending).map(|index| Choice::of([index]));
            for choice in alone.chain([Choice::none(), moment.point.all()]) {
                let device = SimulatedDevice::new(moment.point.power_cut(&choice), Profile::default(), 0);
                let opening = pool::opening(chance.id(), &mut chance);
                if let Err(why) = Running::open(&device, pool::new_tail(), opening) {
                    panic!("flush {nth} failed, seed {seed}, {:?}: {why}", moment.point.event());
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 1000, "{tried} openings");
}
