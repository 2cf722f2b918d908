//! Blocks written at different times still join: random small writes leave few extents.

mod engine;

use engine::{BLOCK, Engine, MIB, snapshot, volume};
use thinpool::{Attachment, Command};

const WRITTEN_BYTES: u64 = 32 * MIB;
const EXTENTS_MAX: u64 = 64;

/// Writes all blocks once, 4 KiB at a time.
fn write_at_random(engine: &mut Engine, v: &Attachment) {
    let count = WRITTEN_BYTES / BLOCK;
    for index in 0..count {
        // Odd multiples of a block run through all of them, without neighbours in time.
        let block = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count;
        engine.write(v, block * BLOCK, &[7; 4096]).expect("space is there");
    }
    engine.must(Command::Checkpoint);
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
