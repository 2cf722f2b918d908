//! What a small first write costs in space: its own block, and nothing around it is copied.

mod engine;

use engine::{BLOCK, Engine, MIB, clone, snapshot, volume};

fn golden() -> Engine {
    let mut engine = Engine::new(128 * MIB);
    engine.must(volume("golden", 16 * MIB));
    let golden = engine.attach("golden");
    engine.write(&golden, 0, &vec![1; 8 << 20]).expect("space is there");
    drop(golden);
    engine.must(snapshot("golden@v1"));
    engine.must(clone("golden@v1", "c"));
    engine
}

#[test]
fn a_first_write_of_4_kib_to_a_clone_allocates_one_block() {
    let mut engine = golden();
    let c = engine.attach("c");
    let mut mapped = engine.status().mapped;
    assert_eq!(engine.entry("c").owned, 0);
    // Shared blocks in the middle and at the end of a run, and a hole.
    for (number, block) in (1..).zip([5, 1000, 2047, 3000]) {
        engine.write(&c, block * BLOCK, &[2; 4096]).expect("space is there");
        assert_eq!(engine.status().mapped, mapped + BLOCK, "block {block}");
        assert_eq!(engine.entry("c").owned, number * BLOCK);
        mapped += BLOCK;
    }
    assert_eq!(engine.status().reserved, 0);
    engine.assert_clean();
}

#[test]
fn a_second_write_of_the_same_block_allocates_nothing() {
    let mut engine = golden();
    let c = engine.attach("c");
    engine.write(&c, 5 * BLOCK, &[2; 4096]).expect("space is there");
    let mapped = engine.status().mapped;
    engine.write(&c, 5 * BLOCK, &[3; 4096]).expect("space is there");
    assert_eq!(engine.status().mapped, mapped);
    assert_eq!(engine.read(&c, 5 * BLOCK, 4096), [3; 4096]);
    engine.assert_clean();
}
