//! Making a pool, cut short: there is a pool or there is none, and a second try makes one.

use crate::cases::cases;
use crate::chance::Chance;
use crate::model::{Expectation, Loss, PoolModel};
use crate::pool::{self, Running, chain};
use crate::recorder::{Moment, Recorder};
use crate::world::empty_device;
use blockstore::simulated::{Profile, SimulatedDevice, SimulatedDisk};
use std::sync::Arc;
use thinpool::{CreateOptions, Error};

/// Every moment of making a pool.
fn moments() -> Vec<Moment> {
    let device = empty_device();
    let expectation = Arc::new(Expectation::of(&PoolModel::default(), None, false));
    let recorder = Recorder::new(pool::new_tail(), expectation, pool::journal());
    let observer = recorder.clone();
    device.observe(move |point| observer.observe(point));
    thinpool::create(Arc::new(device.clone()), &pool::options()).expect("a pool is made");
    device.stop_observing();
    recorder.take()
}

fn open(disk: SimulatedDisk, chance: &mut Chance) -> Result<Running, String> {
    let device = SimulatedDevice::new(disk, Profile::default(), 0);
    Running::open(&device, pool::new_tail(), pool::opening(chance.id(), chance))
}

/// A second try; over a torn label the operator must insist.
fn create_again(disk: SimulatedDisk) -> Result<SimulatedDisk, Error> {
    let device = SimulatedDevice::new(disk, Profile::default(), 0);
    let options = CreateOptions { overwrite: true, ..pool::options() };
    thinpool::create(Arc::new(device.clone()), &options)?;
    Ok(device.disk())
}

#[test]
fn a_pool_whose_making_was_cut_short_is_there_or_is_not() {
    let mut chance = Chance::new(1);
    let (mut there, mut not_there) = (0, 0);
    for moment in moments() {
        for case in cases(&moment, &mut chance) {
            let disk = match case.loss {
                Loss::Process => moment.point.kill(&case.choice),
                Loss::Power => moment.point.power_cut(&case.choice),
            };
            let disk = if open(disk.clone(), &mut chance).is_ok() {
                there += 1;
                disk
            } else {
                not_there += 1;
                create_again(disk).unwrap_or_else(|error| panic!("a second try, {case:?}: {}", chain(&error)))
            };
            let mut running = open(disk, &mut chance).expect("there is a pool");
            assert_eq!(running.check(), None, "{case:?}");
            assert!(running.pool.entries().is_empty(), "{case:?}");
        }
    }
    assert!(there > 0 && not_there > 100, "{there} pools, {not_there} times none");
}

#[test]
fn a_pool_that_was_made_survives_power_loss() {
    let device = empty_device();
    thinpool::create(Arc::new(device.clone()), &pool::options()).expect("a pool is made");
    assert!(open(device.durable(), &mut Chance::new(1)).is_ok());
}
