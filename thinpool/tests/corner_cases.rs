//! Cases that once went wrong, each kept as the claim that it does not again.

mod engine;

use blockstore::OperationKind;
use blockstore::simulated::{Moment, Profile, SimulatedDevice};
use engine::{BLOCK, Engine, MIB, limits, n, snapshot, tiny_limits, volume};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thinpool::{Command, GeometryOptions, RequestError};

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
        Command::SetProperty { names: vec![n("a")], key, value }
    };
    let kept = (0..80).take_while(|number| engine.run(set(*number)).is_ok()).count();
    assert!((1..80).contains(&kept), "{kept} properties of 4 KiB were kept");
    let mut engine = engine.close();
    assert_eq!(engine.entry("a").properties.len(), kept);
    assert_eq!(engine.entry("b").properties.len(), 0);
    engine.assert_clean();
}

/// One commit for all of them, and none of them when one name is not there.
#[test]
fn a_property_of_many_names_is_one_commit() {
    let (mut engine, device) =
        Engine::simulated(64 * MIB, Profile::default(), limits(), GeometryOptions::default());
    let names: Vec<_> = (0..100).map(|number| format!("v{number}")).collect();
    names.iter().for_each(|name| engine.must(volume(name, MIB)));
    let set = |names: &[String]| {
        let (key, value) = ("team".to_owned(), Some("lab".to_owned()));
        Command::SetProperty { names: names.iter().map(|name| n(name)).collect(), key, value }
    };
    engine.run(set(&[names.clone(), vec!["none".to_owned()]].concat())).expect_err("one is not there");
    assert!(names.iter().all(|name| engine.entry(name).properties.is_empty()));
    let [flushes] = count(&device, [OperationKind::Flush]);
    engine.must(set(&names));
    device.stop_observing();
    assert!(
        flushes.load(Ordering::Relaxed) <= 4,
        "{flushes:?} for one commit, and perhaps one that was under way"
    );
    let mut engine = engine.kill();
    assert!(names.iter().all(|name| engine.entry(name).properties["team"] == "lab"));
    engine.assert_clean();
}

#[test]
fn properties_of_the_pool_outlive_a_kill_and_a_checkpoint() {
    let mut engine = Engine::new(64 * MIB);
    let set = |key: &str, value: Option<&str>| Command::SetPoolProperty {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    };
    engine.must(set("warn", Some("80")));
    engine.must(set("site", Some("lab")));
    // Only the journal has them.
    let mut engine = engine.kill();
    assert_eq!(engine.status().properties["warn"], "80");
    engine.must(volume("a", MIB));
    engine.must(Command::Checkpoint);
    engine.must(set("warn", None));
    let mut engine = engine.close();
    let kept: Vec<_> = engine.status().properties.into_iter().collect();
    assert_eq!(kept, [("site".to_owned(), "lab".to_owned())]);
    assert!(engine.run(set("", Some("no key"))).is_err());
    assert!(engine.run(set("large", Some(&"v".repeat(17 << 10)))).is_err());
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
    let rooms = [1400, 1450, 1500, 1600, 2000, 3000];
    for (room, writes_find_room) in rooms.into_iter().flat_map(|room| [(room, false), (room, true)]) {
        let profile = Profile { capacity: Some(room * BLOCK), writes_find_room, ..Profile::default() };
        let geometry = GeometryOptions { journal_blocks: Some(64), group_blocks: Some(64) };
        let (mut engine, _) = Engine::simulated(64 * MIB, profile, limits(), geometry);
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

/// What the pool has freed and still holds is not in the way of its own metadata.
#[test]
fn a_full_file_system_gets_kept_space_back_before_metadata_goes_without() {
    [false, true].into_iter().for_each(get_kept_space_back);
}

fn get_kept_space_back(writes_find_room: bool) {
    let profile = Profile { capacity: Some(1500 * BLOCK), writes_find_room, ..Profile::default() };
    let geometry = GeometryOptions { journal_blocks: Some(64), group_blocks: Some(64) };
    let (mut engine, _) = Engine::simulated(64 * MIB, profile, tiny_limits(), geometry);
    engine.must(volume("a", 64 * MIB));
    let a = engine.attach("a");
    let full = (0..).find(|block| engine.write(&a, block * BLOCK, &[7; 4096]).is_err());
    assert!(full.is_some(), "a device is full at some time");
    engine.trim(&a, 0, 64 * MIB).expect("owned blocks are trimmed");
    engine.must(Command::Checkpoint);
    while engine.status().quarantined > 0 {
        engine.tick();
    }
    let kept = engine.status().kept / BLOCK;
    // Every block a leaf entry of its own. A commit, some seconds later, is when groups that were refused are asked for again.
    let stop = (0..8192).find(|block| {
        let at = block * 2 * BLOCK;
        engine.write(&a, at, &[7; 4096]).is_err() && {
            for _ in 0..6000 {
                engine.tick();
            }
            engine.must(Command::Commit);
            engine.write(&a, at, &[7; 4096]).is_err()
        }
    });
    let stop = stop.expect("the device is full at some time");
    assert!(stop > kept / 3, "{stop} blocks, each with metadata of its own, where {kept} had been kept");
    assert!(!engine.status().poisoned && engine.status().kept == 0, "{:#?}", engine.status());
    engine.trim(&a, 0, 64 * MIB).expect("owned blocks are trimmed");
    engine.must(Command::Settle);
    engine.assert_clean();
}

/// A new pool with an empty volume on a device that takes its time to discard.
fn with_slow_discards() -> (Engine, Arc<SimulatedDevice>) {
    let profile = Profile { discard_delay_polls: 50, ..Profile::default() };
    let (mut engine, device) = Engine::simulated(64 * MIB, profile, limits(), GeometryOptions::default());
    engine.must(volume("a", 64 * MIB));
    (engine, device)
}

/// Counts what is submitted of these kinds from now on.
fn count<const KINDS: usize>(
    device: &SimulatedDevice,
    kinds: [OperationKind; KINDS],
) -> [Arc<AtomicU64>; KINDS] {
    let counts = kinds.map(|_| Arc::new(AtomicU64::new(0)));
    let (kinds, counted) = (kinds, counts.clone());
    device.observe(move |point| {
        let Some(event) = point.event() else { return };
        for (kind, count) in kinds.iter().zip(&counted) {
            let is_it = event.moment == Moment::Submitted && event.operation.kind == *kind;
            count.fetch_add(u64::from(is_it), Ordering::Relaxed);
        }
    });
    counts
}

/// Freed blocks are reusable as they are; their space goes back to the device when nobody has used them for a while.
#[test]
fn the_space_of_freed_blocks_is_kept_for_a_while_and_then_given_back() {
    let (mut engine, device) = with_slow_discards();
    let a = engine.attach("a");
    for block in 0..512 {
        engine.write(&a, block * BLOCK, &[7; 4096]).expect("there is space");
    }
    let [discards] = count(&device, [OperationKind::Discard]);
    engine.trim(&a, 0, 256 * BLOCK).expect("owned blocks");
    engine.must(Command::Checkpoint);
    let released = (0..100_000).any(|_| {
        engine.tick();
        engine.status().kept == 256 * BLOCK
    });
    assert!(released, "{:#?}", engine.status());
    assert_eq!(discards.load(Ordering::Relaxed), 0, "nobody has had the time to use them");
    engine.write(&a, 0, &[8; 4096]).expect("there is space");
    assert_eq!(engine.status().kept, 255 * BLOCK, "a freed block is the first to be used");
    let given_back = (0..100_000).any(|_| {
        engine.tick();
        engine.status().kept == 0
    });
    assert!(given_back && discards.load(Ordering::Relaxed) > 0, "{:#?}", engine.status());
    device.stop_observing();
    assert_eq!(engine.read(&a, 0, 4096), [8; 4096]);
    assert_eq!(engine.read(&a, 256 * BLOCK, 4096), [7; 4096]);
    engine.assert_clean();
}

/// Blocks whose space the device is taking back are out of reach (A4): what is written meanwhile goes elsewhere.
#[test]
fn what_is_written_while_space_is_given_back_is_not_lost() {
    let (mut engine, device) = with_slow_discards();
    let a = engine.attach("a");
    for round in 1..20_u8 {
        for block in 0..256 {
            engine.write(&a, block * BLOCK, &[round; 4096]).expect("there is space");
        }
        engine.trim(&a, 0, 256 * BLOCK).expect("owned blocks");
        let [discards] = count(&device, [OperationKind::Discard]);
        let settling = engine.pool.submit(Command::Settle);
        while discards.load(Ordering::Relaxed) == 0 {
            engine.tick();
        }
        for block in 0..256 {
            engine.write(&a, block * BLOCK, &[round; 4096]).expect("there is space");
        }
        while settling.take().is_none() {
            engine.tick();
        }
        device.stop_observing();
        for block in 0..256 {
            assert_eq!(engine.read(&a, block * BLOCK, 4096), [round; 4096], "block {block}");
        }
    }
    engine.assert_clean();
}

/// Who waits for freed blocks gets those that are durable, before the device has taken any space back.
#[test]
fn a_write_that_waits_for_freed_blocks_waits_for_one_commit_and_not_for_discards() {
    let (mut engine, device) = with_slow_discards();
    let a = engine.attach("a");
    let full = (0..).find(|block| engine.write(&a, block * BLOCK, &[7; 4096]).is_err());
    let last = full.expect("a pool is full at some time");
    for block in (0..last).step_by(2) {
        engine.trim(&a, block * BLOCK, BLOCK).expect("owned blocks");
    }
    let counts = count(&device, [OperationKind::Flush, OperationKind::Discard]);
    engine.write(&a, 0, &[8; 4096]).expect("freed blocks are used again");
    device.stop_observing();
    let [flushes, discards] = counts.map(|count| count.load(Ordering::Relaxed));
    assert!(flushes <= 4, "{flushes} flushes for one commit, and perhaps one that was under way");
    assert_eq!(discards, 0, "before a write that waited");
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

/// A device that takes whole blocks only, from memory at whole blocks only, behind requests that begin at any sector: what is
/// behind an odd first piece lies at an odd place in memory.
#[test]
fn pieces_behind_an_odd_first_one_are_read_and_written() {
    let profile = Profile { alignment: 4096, ..Profile::default() };
    let (mut engine, _) = Engine::simulated(64 * MIB, profile, limits(), GeometryOptions::default());
    engine.must(volume("a", 4 * MIB));
    let a = engine.attach("a");
    let written: Vec<u8> = (512..MIB + 2 * BLOCK).map(|at| u8::try_from(at % 251).expect("a byte")).collect();
    engine.write(&a, 512, &written).expect("a write over two windows");
    engine.must(snapshot("a@s"));
    engine.write(&a, BLOCK, &[7; 4096]).expect("a block elsewhere");

    let found = engine.read(&a, 512, written.len());
    let mut expected = written;
    expected[3584..3584 + 4096].fill(7);
    assert!(found == expected, "what was written over two windows, and one block of it again");
    engine.assert_clean();
}
