//! The power fails at every event of every device while a third one joins a pool of two: what comes back is the pool as it
//! was, or the pool with the device, and a retry makes it the latter.

mod engine;

use blockstore::Device;
use blockstore::simulated::{Choice, CrashPoint, Profile, SimulatedDevice, SimulatedDisk};
use cow_tree::units::PoolId;
use engine::{BLOCK, Engine, limits, opening, small_tail, volume};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use thinpool::{
    Command, CreateOptions, DeviceId, Error, GeometryOptions, MemberError, NewDevice, Opening, create_all,
};

const BYTES: u64 = 2 << 20;
/// Blocks that were flushed before the third device came, and as many written after it had.
const BLOCKS: u64 = 64;
const SEEDS: u64 = 2;

/// One moment of three devices.
struct Moment {
    points: [CrashPoint; 3],
    phase: u8,
}

/// The device is about to join; it has, and data is written; that has been acknowledged as durable.
const JOINING: u8 = 0;
const WRITING: u8 = 1;
const FLUSHED: u8 = 2;

/// One event in so many is looked at in each phase.
const STRIDES: [usize; 3] = [1, 8, 8];

fn simulated(disks: [SimulatedDisk; 3], seed: u64) -> [Arc<SimulatedDevice>; 3] {
    disks.map(|disk| Arc::new(SimulatedDevice::new(disk, Profile::drawn(seed), seed)))
}

fn open(devices: &[Arc<SimulatedDevice>; 3], joins: bool, number: u8) -> Result<Engine, Error> {
    let [first, second, third] = devices.clone();
    let mut all: Vec<Arc<dyn Device>> = vec![first, second];
    let third: Arc<dyn Device> = third;
    let joining = joins.then(|| NewDevice { device: third.clone(), id: DeviceId([number; 16]) });
    if !joins {
        all.push(third);
    }
    // Another boot each time: the power was cut, so no tail counts.
    let how = Opening { boot_id: [number; 16], ..opening(number, limits()) };
    Engine::open_all(all, joining, small_tail(), how)
}

fn write(engine: &mut Engine, blocks: std::ops::Range<u64>) {
    let v = engine.attach("v");
    for block in blocks {
        // Far from each other, so that each takes a window of its own.
        engine.write(&v, block * 16 * BLOCK, &[byte_of(block); 4096]).expect("there is space");
    }
    engine.flush(&v);
}

fn assert_written(engine: &mut Engine, blocks: std::ops::Range<u64>, what: &str) {
    let v = engine.look("v");
    for block in blocks {
        let found = engine.read(&v, block * 16 * BLOCK, 4096);
        assert!(found.iter().all(|byte| *byte == byte_of(block)), "{what}: block {block}");
    }
}

fn byte_of(block: u64) -> u8 {
    u8::try_from(block % 250).expect("small") + 1
}

/// A closed pool of two devices with data, and an empty third disk.
fn before(seed: u64) -> [SimulatedDisk; 3] {
    let devices = simulated([0, 1, 2].map(|_| SimulatedDisk::new(BYTES)), seed);
    let [first, second, _] = devices.clone();
    let options = CreateOptions {
        pool_id: PoolId([5; 16]),
        geometry: GeometryOptions { journal_blocks: Some(32), group_blocks: Some(64) },
        ..CreateOptions::default()
    };
    let further = [NewDevice { device: second.clone(), id: DeviceId([1; 16]) }];
    create_all(first.clone(), &further, &options).expect("empty devices take a pool");
    let how = opening(1, limits());
    let mut engine =
        Engine::open_all(vec![first, second], None, small_tail(), how).expect("a new pool opens");
    engine.must(volume("v", 64 << 20));
    write(&mut engine, 0..BLOCKS);
    engine.must(Command::Close);
    devices.map(|device| device.disk())
}

/// Joins the third device, writes more and closes; every moment of that.
fn moments(disks: &[SimulatedDisk; 3], seed: u64) -> Vec<Moment> {
    let devices = simulated(disks.clone(), seed);
    let moments = Arc::new(Mutex::new(Vec::new()));
    let phase = Arc::new(AtomicU8::new(JOINING));
    for device in &devices {
        let (all, moments, phase) = (devices.clone(), moments.clone(), phase.clone());
        device.observe(move |_| {
            let points = all.each_ref().map(|device| device.crash_point());
            moments.lock().push(Moment { points, phase: phase.load(Ordering::SeqCst) });
        });
    }
    let mut engine = open(&devices, true, 2).expect("an empty device joins");
    phase.store(WRITING, Ordering::SeqCst);
    write(&mut engine, BLOCKS..2 * BLOCKS);
    phase.store(FLUSHED, Ordering::SeqCst);
    engine.must(Command::Close);
    let mapped: Vec<u64> = engine.status().devices.iter().map(|device| device.mapped / BLOCK).collect();
    assert!(mapped.iter().all(|blocks| *blocks >= 16), "all devices have data: {mapped:?}");
    drop(engine);
    devices.iter().for_each(|device| device.stop_observing());
    std::mem::take(&mut moments.lock())
}

/// Nothing pending survives, or all, or that of one device, or every other change.
fn cuts(moment: &Moment) -> Vec<[SimulatedDisk; 3]> {
    let points = &moment.points;
    let every_other = |point: &CrashPoint, first| Choice::of((first..point.pending().len()).step_by(2));
    let mut cuts = vec![
        points.each_ref().map(|point| point.power_cut(&Choice::none())),
        points.each_ref().map(|point| point.power_cut(&point.all())),
    ];
    for lucky in 0..3 {
        let numbered = [(0, &points[0]), (1, &points[1]), (2, &points[2])];
        cuts.push(numbered.map(|(number, point)| {
            let choice = if number == lucky { point.all() } else { Choice::none() };
            point.power_cut(&choice)
        }));
    }
    cuts.push([0, 1, 2].map(|number| points[number].power_cut(&every_other(&points[number], number % 2))));
    cuts
}

/// Opens what a cut has left; says whether the third device was one of the pool.
fn recover(disks: [SimulatedDisk; 3], phase: u8, seed: u64, what: &str) -> bool {
    let devices = simulated(disks, seed);
    let (mut engine, had_joined) = match open(&devices, false, 3) {
        Ok(engine) => (engine, true),
        Err(Error::Member(MemberError::TooMany { .. })) => {
            (open(&devices, true, 4).unwrap_or_else(|error| panic!("{what}: no retry: {error}")), false)
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(engine.status().devices.len(), 3, "{what}");
    assert!(had_joined || phase == JOINING, "{what}: a device that had joined is gone");
    assert_written(&mut engine, 0..BLOCKS, what);
    if phase == FLUSHED {
        assert_written(&mut engine, BLOCKS..2 * BLOCKS, what);
    }
    engine.assert_clean();
    write(&mut engine, 0..2 * BLOCKS);
    assert_written(&mut engine, 0..2 * BLOCKS, what);
    engine.assert_clean();
    had_joined
}

#[test]
fn a_power_cut_while_a_device_joins_leaves_the_pool_without_it_or_with_it() {
    let (mut without, mut with) = (0, 0);
    for seed in 0..SEEDS {
        let disks = before(seed);
        let moments = moments(&disks, seed);
        for (event, moment) in moments.iter().enumerate() {
            if event % STRIDES[usize::from(moment.phase)] != 0 {
                continue;
            }
            for (number, cut) in cuts(moment).into_iter().enumerate() {
                let what = format!("seed {seed}, event {event}, cut {number}");
                match recover(cut, moment.phase, seed, &what) {
                    true => with += 1,
                    false => without += 1,
                }
            }
        }
    }
    assert!(without > 200 && with > 200, "both ends were seen: {without} without, {with} with");
    eprintln!("{without} cuts left the pool without the device, {with} with it");
}
