//! A clone's tree is complete: what a lookup costs does not grow with the clones it descends from.

mod engine;

use engine::{BLOCK, Engine, MIB, clone, snapshot, volume};
use thinpool::{Attachment, Command};

/// Mapped blocks of the first volume, none beside another, so that the tree has several leaves.
const MAPPED: u64 = 2000;
const DEPTH: u64 = 1000;

/// Visits of a lookup in every part of the volume.
fn visits(engine: &mut Engine, volume: &Attachment) -> Vec<usize> {
    (0..MAPPED)
        .map(|block| {
            engine.read(volume, block * 2 * BLOCK, 512);
            engine.channel.lookup_visits(volume, block * 2 * BLOCK).expect("the read brought every node")
        })
        .collect()
}

#[test]
fn a_lookup_visits_as_many_nodes_at_lineage_depth_1000_as_at_depth_1() {
    let mut engine = Engine::new(256 * MIB);
    engine.must(volume("line-0", 64 * MIB));
    let golden = engine.attach("line-0");
    for block in 0..MAPPED {
        engine.write(&golden, block * 2 * BLOCK, &[1; 4096]).expect("space is there");
    }
    drop(golden);
    let mut at_depth_1 = Vec::new();
    for depth in 1..=DEPTH {
        engine.must(snapshot(&format!("line-{}@s", depth - 1)));
        engine.must(clone(&format!("line-{}@s", depth - 1), &format!("line-{depth}")));
        let volume = engine.attach(&format!("line-{depth}"));
        // A block of its own in place of a shared one: the tree differs from the parent's, its shape does not.
        engine.write(&volume, depth * 2 * BLOCK, &[2; 4096]).expect("space is there");
        if depth == 1 {
            engine.must(Command::Checkpoint);
            at_depth_1 = visits(&mut engine, &volume);
        }
    }
    engine.must(Command::Checkpoint);
    let last = engine.attach(&format!("line-{DEPTH}"));
    let at_depth_1000 = visits(&mut engine, &last);
    assert!(at_depth_1[0] > 1, "the tree is more than one leaf");
    assert_eq!(at_depth_1, at_depth_1000);
    assert_eq!(engine.read(&last, 2 * BLOCK, 4096), [2; 4096], "written by the first of the line");
}
