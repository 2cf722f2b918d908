//! A volume's life: written, snapshotted, cloned, rolled back, deleted, killed, reopened.

mod engine;

use engine::{BLOCK, Engine, MIB, clone, n, remove, snapshot, tiny_limits, volume};
use thinpool::{Command, GeometryOptions, ZeroSpace};

fn block(byte: u8) -> Vec<u8> {
    vec![byte; 4096]
}

#[test]
fn a_new_pool_is_empty_and_clean() {
    let mut engine = Engine::new(64 * MIB);
    engine.assert_clean();
    assert_eq!(engine.status().mapped, 0);
    assert_eq!(engine.pool.entries().len(), 0);
}

#[test]
fn what_was_written_is_read_and_the_rest_is_zeros() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("v", 16 * MIB));
    let v = engine.attach("v");
    engine.write(&v, 8192, &block(7)).expect("space is there");
    engine.write(&v, 8192 + 4096 + 512, &[9; 512]).expect("space is there");
    let read = engine.read(&v, 4096, 4 * 4096);
    assert!(read[..4096].iter().all(|byte| *byte == 0));
    assert!(read[4096..8192].iter().all(|byte| *byte == 7));
    assert!(read[8192..8192 + 512].iter().all(|byte| *byte == 0));
    assert!(read[8192 + 512..8192 + 1024].iter().all(|byte| *byte == 9));
    assert!(read[8192 + 1024..].iter().all(|byte| *byte == 0));
    assert_eq!(engine.status().mapped, 2 * BLOCK);
    engine.assert_clean();
}

#[test]
fn a_killed_process_loses_no_acknowledged_write() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("v", 16 * MIB));
    let v = engine.attach("v");
    for number in 0..100_u8 {
        engine.write(&v, u64::from(number) * 3 * BLOCK, &block(number + 1)).expect("space is there");
    }
    drop(v);
    let mut engine = engine.kill();
    engine.assert_clean();
    let v = engine.attach("v");
    for number in 0..100_u8 {
        assert_eq!(engine.read(&v, u64::from(number) * 3 * BLOCK, 4096), block(number + 1));
    }
    drop(v);
    let mut engine = engine.close();
    engine.assert_clean();
    let v = engine.attach("v");
    assert_eq!(engine.read(&v, 99 * 3 * BLOCK, 4096), block(100));
}

#[test]
fn a_snapshot_keeps_what_it_saw_and_a_clone_goes_its_own_way() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("v", 4 * MIB));
    let v = engine.attach("v");
    engine.write(&v, 0, &block(1)).expect("space is there");
    engine.write(&v, 4096, &block(2)).expect("space is there");
    engine.must(snapshot("v@s"));
    engine.write(&v, 0, &block(3)).expect("space is there");
    engine.must(clone("v@s", "c"));
    let c = engine.attach("c");
    engine.write(&c, 4096, &block(4)).expect("space is there");
    let s = engine.look("v@s");
    assert_eq!((engine.read(&v, 0, 4096), engine.read(&v, 4096, 4096)), (block(3), block(2)));
    assert_eq!((engine.read(&s, 0, 4096), engine.read(&s, 4096, 4096)), (block(1), block(2)));
    assert_eq!((engine.read(&c, 0, 4096), engine.read(&c, 4096, 4096)), (block(1), block(4)));
    assert_eq!(engine.status().mapped, 4 * BLOCK);
    engine.assert_clean();
    drop((v, s, c));
    engine.must(Command::Rollback { to: n("v@s") });
    let v = engine.attach("v");
    assert_eq!(engine.read(&v, 0, 4096), block(1));
    drop(v);
    engine.must(Command::Settle);
    engine.assert_clean();
    engine.must(remove("c"));
    engine.must(Command::Remove { name: n("v"), recursive: true });
    engine.must(Command::Settle);
    engine.assert_clean();
    assert_eq!(engine.status().mapped, 0);
    let mut engine = engine.kill();
    engine.assert_clean();
    assert_eq!(engine.status().mapped, 0);
}

#[test]
fn trimmed_and_zeroed_blocks_read_as_zeros_and_give_their_space_back() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("v", 4 * MIB));
    let v = engine.attach("v");
    engine.write(&v, 0, &vec![5; 64 * 4096]).expect("space is there");
    engine.trim(&v, 512, 8 * BLOCK).expect("a trim of owned blocks");
    assert_eq!(engine.status().mapped, 57 * BLOCK, "whole blocks only");
    engine.zeroes(&v, 20 * BLOCK + 512, 2 * BLOCK, ZeroSpace::Release).expect("zeroes");
    assert_eq!(engine.status().mapped, 56 * BLOCK);
    engine.zeroes(&v, 2 * BLOCK, BLOCK, ZeroSpace::Allocate).expect("zeroes with space");
    assert_eq!(engine.status().mapped, 57 * BLOCK);
    let read = engine.read(&v, 0, 64 * 4096);
    for (index, byte) in read.iter().enumerate() {
        let zero = (4096..8 * 4096).contains(&index) || (20 * 4096 + 512..22 * 4096 + 512).contains(&index);
        assert_eq!(*byte == 0, zero, "byte {index}");
    }
    engine.assert_clean();
}

#[test]
fn tiny_trees_and_caches_hold_a_busy_volume_through_checkpoints_and_kills() {
    let geometry = GeometryOptions { journal_blocks: Some(16), group_blocks: Some(64) };
    let mut engine = Engine::with(32 * MIB, tiny_limits(), geometry);
    engine.must(volume("v", MIB));
    for round in 0..6_u8 {
        let v = engine.attach("v");
        for number in 0..256_u64 {
            let at = number * 37 % 256;
            let byte = u8::try_from(at % 200).expect("small") + round + 1;
            engine.write(&v, at * BLOCK, &block(byte)).expect("space is there");
        }
        drop(v);
        engine.must(snapshot(&format!("v@s{round}")));
        engine.assert_clean();
        engine = if round % 2 == 0 { engine.kill() } else { engine.close() };
        engine.assert_clean();
        let v = engine.attach("v");
        for at in 0..256_u64 {
            let byte = u8::try_from(at % 200).expect("small") + round + 1;
            assert_eq!(engine.read(&v, at * BLOCK, 4096), block(byte), "block {at} of round {round}");
        }
    }
    for round in [3, 0, 5, 1, 4, 2] {
        engine.must(remove(&format!("v@s{round}")));
        engine.must(Command::Settle);
        engine.assert_clean();
    }
    assert_eq!(engine.status().mapped, 256 * BLOCK);
    engine.must(remove("v"));
    engine.must(Command::Settle);
    engine.assert_clean();
    assert_eq!(engine.status().mapped, 0);
}

#[test]
fn what_a_smaller_size_cut_off_reads_as_zeros_when_it_is_there_again() {
    let mut engine = Engine::new(64 * MIB);
    engine.must(volume("v", 4 * MIB));
    let v = engine.attach("v");
    engine.write(&v, 0, &vec![5; 1 << 20]).expect("space is there");
    engine.write(&v, 3 * MIB, &vec![6; 1 << 20]).expect("space is there");
    let smaller = Command::Resize { name: n("v"), size: MIB / 2 };
    assert!(engine.run(smaller.clone()).is_err(), "a guest has it open");
    drop(v);
    engine.must(snapshot("v@whole"));
    engine.must(smaller);
    engine.must(Command::Resize { name: n("v"), size: 4 * MIB });
    let mut engine = engine.kill();
    engine.assert_clean();
    let (v, whole) = (engine.attach("v"), engine.look("v@whole"));
    let read = engine.read(&v, 0, 4 << 20);
    assert!(read[..1 << 19].iter().all(|byte| *byte == 5));
    assert!(read[1 << 19..].iter().all(|byte| *byte == 0));
    assert!(engine.read(&whole, 3 * MIB, 1 << 20).iter().all(|byte| *byte == 6));
    drop((v, whole));
    engine.must(remove("v@whole"));
    engine.must(Command::Settle);
    engine.assert_clean();
    assert_eq!(engine.status().mapped, MIB / 2);
}
