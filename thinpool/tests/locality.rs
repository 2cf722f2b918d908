//! Blocks written at different times still join: random small writes leave few extents.

mod engine;

use engine::{BLOCK, Engine, MIB, clone, snapshot, volume};
use thinpool::{Attachment, Command};

const WRITTEN_BYTES: u64 = 32 * MIB;
const EXTENTS_MAX: u64 = 64;

const BLOCKS: u64 = WRITTEN_BYTES / BLOCK;

/// Writes all blocks once, 4 KiB at a time.
fn write_at_random(engine: &mut Engine, v: &Attachment) {
    write_some(engine, v, 0..BLOCKS);
    engine.must(Command::Checkpoint);
}

/// Writes the blocks at these places of an order without neighbours.
fn write_some(engine: &mut Engine, v: &Attachment, places: std::ops::Range<u64>) {
    for index in places {
        // Odd multiples of a block run through all of them.
        let block = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % BLOCKS;
        engine.write(v, block * BLOCK, &[7; 4096]).expect("space is there");
    }
}

fn assert_few_extents(engine: &mut Engine, v: &Attachment) {
    engine.read(v, 0, 4096);
    let extents = engine.channel.extent_count(v).expect("a checkpoint leaves its nodes in memory");
    println!("{extents} extents");
    assert!(extents <= EXTENTS_MAX, "{extents} extents");
    engine.assert_clean();
}

#[test]
fn random_small_writes_of_32_mib_are_few_extents_after_a_checkpoint() {
    let mut engine = Engine::new(1024 * MIB);
    engine.must(volume("v", 64 * MIB));
    let v = engine.attach("v");
    write_at_random(&mut engine, &v);
    assert_eq!(engine.status().mapped, WRITTEN_BYTES);
    assert_few_extents(&mut engine, &v);
}

#[test]
fn the_same_written_anew_after_a_snapshot_are_few_extents_too() {
    let mut engine = Engine::new(1024 * MIB);
    engine.must(volume("v", 64 * MIB));
    let v = engine.attach("v");
    write_at_random(&mut engine, &v);
    engine.must(snapshot("v@before"));
    write_at_random(&mut engine, &v);
    assert_eq!(engine.status().mapped, 2 * WRITTEN_BYTES);
    assert_few_extents(&mut engine, &v);
}

/// What a volume remembers of where it places its blocks is not kept, and is bounded; between pieces of what it has from its
/// parent, its own blocks show the place.
#[test]
fn a_clone_that_goes_on_after_a_restart_has_few_extents_too() {
    let mut engine = Engine::new(1024 * MIB);
    engine.must(volume("golden", 64 * MIB));
    let golden = engine.attach("golden");
    for mebibyte in 0..WRITTEN_BYTES / MIB {
        engine.write(&golden, mebibyte * MIB, &vec![1; 1 << 20]).expect("space is there");
    }
    drop(golden);
    engine.must(snapshot("golden@v1"));
    engine.must(clone("golden@v1", "v"));
    let v = engine.attach("v");
    write_some(&mut engine, &v, 0..BLOCKS / 16);
    drop(v);
    let mut engine = engine.close();
    let v = engine.attach("v");
    write_some(&mut engine, &v, BLOCKS / 16..BLOCKS);
    engine.must(Command::Checkpoint);
    assert_few_extents(&mut engine, &v);
}
