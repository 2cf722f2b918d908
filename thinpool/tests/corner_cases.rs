//! Cases that once went wrong, each kept as the claim that it does not again.

mod engine;

use blockstore::OperationKind;
use blockstore::simulated::{Moment, Profile, SimulatedDevice, SimulatedDisk};
use cow_tree::units::PoolId;
use engine::{BLOCK, Engine, MIB, limits, n, small_tail, snapshot, tiny_limits, volume};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thinpool::{Command, CreateOptions, GeometryOptions, RequestError, create};

#[test]
fn a_trim_of_a_fragmented_range_ends() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("a", 16 * MIB));
    let a = engine.attach("a");
    for block in (0..1024).step_by(2) {
        engine.write(&a, block * BLOCK, &[7; 4096]).expect("there is space");
    }
    engine.trim(&a, 0, 4 * MIB).expect("owned blocks");
    assert_eq!(engine.status().mapped, 0);
    engine.assert_clean();
}

#[test]
fn clones_in_a_full_pool_do_not_break_it() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("a", 64 * MIB));
    let a = engine.attach("a");
    engine.write(&a, 0, &[7; 4096]).expect("there is space");
    engine.must(snapshot("a@s"));
    let mut block = 1;
    while engine.write(&a, block * BLOCK, &[7; 4096]).is_ok() {
        block += 1;
    }
    for round in 0..40 {
        let names = (0..200).map(|number| n(&format!("c{round}-{number}"))).collect();
        if engine.run(Command::Clone { source: n("a@s"), names, size: None }).is_err() {
            break;
        }
    }
    engine.must(Command::Checkpoint);
    assert!(!engine.status().poisoned);
    engine.trim(&a, 0, 64 * MIB).expect("a trim of owned blocks always works");
    engine.assert_clean();
}

#[test]
fn many_properties_are_refused_or_kept() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("a", MIB));
    engine.must(volume("b", MIB));
    let set = |number| {
        let (key, value) = (format!("k{number}"), Some("v".repeat(4000)));
        Command::SetProperty { name: n("a"), key, value }
    };
    let kept = (0..80).take_while(|number| engine.run(set(*number)).is_ok()).count();
    assert!((1..80).contains(&kept), "{kept} properties of 4 KiB were kept");
    let mut engine = engine.close();
    assert_eq!(engine.entry("a").properties.len(), kept);
    assert_eq!(engine.entry("b").properties.len(), 0);
    engine.assert_clean();
}

#[test]
fn a_version_is_not_renamed_into_a_volumes_snapshots() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("scratch", MIB));
    engine.must(Command::Publish { volume: n("scratch"), version: n("img@v1") });
    engine.must(volume("desk", MIB));
    let rename = Command::Rename { from: n("img@v1"), to: n("desk@v1") };
    assert!(engine.run(rename).is_err(), "desk is a volume");
}

#[test]
fn a_full_file_system_below_the_pool_is_no_space_and_no_poison() {
    for room in [1400, 1450, 1500, 1600, 2000, 3000] {
        let profile = Profile { capacity: Some(room * BLOCK), ..Profile::default() };
        let device = Arc::new(SimulatedDevice::new(SimulatedDisk::new(64 * MIB), profile, 1));
        let geometry = GeometryOptions { journal_blocks: Some(64), group_blocks: Some(64) };
        let options = CreateOptions { pool_id: PoolId([7; 16]), geometry, ..CreateOptions::default() };
        create(device.clone(), &options).expect("there is room for an empty pool");
        let mut engine = Engine::open(device, small_tail(), 1, limits()).expect("a new pool opens");
        engine.must(volume("a", 64 * MIB));
        let a = engine.attach("a");
        let full = (0..).find_map(|block| engine.write(&a, block * BLOCK, &[7; 4096]).err());
        assert_eq!(full, Some(RequestError::OutOfSpace), "{room} blocks of room");
        engine.must(Command::Checkpoint);
        assert!(!engine.status().poisoned, "{room} blocks of room");
        engine.write(&a, 0, &[8; 4096]).expect("an owned block is written in place");
        engine.trim(&a, 0, 64 * MIB).expect("owned blocks are trimmed");
        engine.must(Command::Settle);
        engine.assert_clean();
    }
}

/// Freed blocks come back one slow discard after the other. Who waits for some gets those that are durable without any.
#[test]
fn a_write_that_waits_for_freed_blocks_waits_for_one_commit_and_not_for_discards() {
    let profile = Profile { discard_delay_polls: 50, ..Profile::default() };
    let device = Arc::new(SimulatedDevice::new(SimulatedDisk::new(64 * MIB), profile, 1));
    create(device.clone(), &CreateOptions { pool_id: PoolId([7; 16]), ..CreateOptions::default() })
        .expect("an empty device takes a pool");
    let mut engine = Engine::open(device.clone(), small_tail(), 1, limits()).expect("a new pool opens");
    engine.must(volume("a", 64 * MIB));
    let a = engine.attach("a");
    let full = (0..).find(|block| engine.write(&a, block * BLOCK, &[7; 4096]).is_err());
    let last = full.expect("a pool is full at some time");
    for block in (0..last).step_by(2) {
        engine.trim(&a, block * BLOCK, BLOCK).expect("owned blocks");
    }
    let [flushes, discards] =
        [OperationKind::Flush, OperationKind::Discard].map(|kind| (kind, Arc::new(AtomicU64::new(0))));
    let counts = [flushes.clone(), discards.clone()];
    device.observe(move |point| {
        let Some(event) = point.event() else { return };
        for (kind, count) in &counts {
            let counted = event.moment == Moment::Submitted && event.operation.kind == *kind;
            count.fetch_add(u64::from(counted), Ordering::Relaxed);
        }
    });
    engine.write(&a, 0, &[8; 4096]).expect("freed blocks are used again");
    device.stop_observing();
    let [flushes, discards] = [flushes, discards].map(|(_, count)| count.load(Ordering::Relaxed));
    assert!(flushes <= 4, "{flushes} flushes for one commit, and perhaps one that was under way");
    assert!(discards <= 8, "{discards} discards before a write that waited");
}

#[test]
fn settling_ends_while_a_guest_writes_trims_and_flushes() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("a", 16 * MIB));
    let a = engine.attach("a");
    let ticket = engine.pool.submit(Command::Settle);
    for round in 0..3000_u64 {
        engine.write(&a, round % 100 * BLOCK, &[7; 4096]).expect("there is space");
        engine.trim(&a, round % 100 * BLOCK, BLOCK).expect("owned blocks");
        engine.flush(&a);
        if ticket.take().is_some() {
            return;
        }
    }
    panic!("settling never ends");
}

#[test]
fn a_check_may_come_at_any_moment_of_a_checkpoint() {
    let mut engine = Engine::with(64 * MIB, tiny_limits(), GeometryOptions::default());
    engine.must(volume("a", 32 * MIB));
    let a = engine.attach("a");
    for round in 0..400_u64 {
        for write in 0..8 {
            let block = (round * 8 + write).wrapping_mul(0x9e37_79b9_7f4a_7c15) % (32 * MIB / BLOCK);
            engine.write(&a, block * BLOCK, &[7; 4096]).expect("there is space");
        }
        for _ in 0..round % 29 {
            engine.tick();
        }
        engine.assert_clean();
    }
    assert!(engine.status().generation > 20, "checkpoints came by themselves");
}
