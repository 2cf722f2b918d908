//! Pools that earlier versions wrote, kept for ever: each opens, is clean, and shows what was in it.
//!
//! A file in `golden/` holds the blocks of one small pool that are not zeros. `OFFSHOOT_GOLDEN=PREFIX` writes the files of
//! the present version; that is done once per format version, when it is released, and never again.

mod engine;

use blockstore::{Buffer, Device, Durability, Operation, RamDevice, Submission, Token};
use engine::{
    BLOCK, Engine, MIB, clone, limits, n, opening, remove, small_tail, snapshot, tiny_limits, volume,
};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thinpool::{Command, GeometryOptions, Opening};

const POOL_BYTES: u64 = 4 * MIB;

fn block(byte: u8) -> Vec<u8> {
    vec![byte; 4096]
}

/// A pool with one of everything: an image version, a clone of it, snapshots, one of them deleted, trims, small nodes.
fn furnished() -> Engine {
    let geometry = GeometryOptions { journal_blocks: Some(16), group_blocks: Some(128) };
    let mut engine = Engine::with(POOL_BYTES, tiny_limits(), geometry);
    engine.must(volume("scratch", MIB));
    let scratch = engine.attach("scratch");
    for number in 0..40_u8 {
        engine.write(&scratch, u64::from(number) * 3 * BLOCK, &block(number + 1)).expect("there is space");
    }
    drop(scratch);
    engine.must(Command::Publish { volume: n("scratch"), version: n("image@v1") });
    engine.must(clone("image@v1", "desk"));
    let desk = engine.attach("desk");
    engine.write(&desk, 0, &block(101)).expect("there is space");
    engine.must(snapshot("desk@one"));
    engine.write(&desk, BLOCK, &block(102)).expect("there is space");
    engine.must(snapshot("desk@two"));
    engine.trim(&desk, 3 * BLOCK, BLOCK).expect("there is metadata");
    engine.must(Command::SetProperty {
        names: vec![n("desk")],
        key: "team".to_owned(),
        value: Some("lab".to_owned()),
    });
    drop(desk);
    engine.must(remove("desk@one"));
    engine.must(Command::Settle);
    engine
}

/// What every reader of a golden pool must find; `late` is what only the journal held.
fn expect(engine: &mut Engine, late: bool) {
    engine.assert_clean();
    let names: Vec<String> = engine.pool.entries().iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["image@v1", "desk", "desk@two"]);
    assert_eq!(engine.entry("desk").properties["team"], "lab");
    assert_eq!(engine.entry("desk").origin.as_deref(), Some("image@v1"));
    let (image, desk, two) = (engine.look("image@v1"), engine.look("desk"), engine.look("desk@two"));
    for number in 0..40_u8 {
        assert_eq!(engine.read(&image, u64::from(number) * 3 * BLOCK, 4096), block(number + 1));
    }
    assert_eq!(engine.read(&desk, 0, 2 * 4096), [block(101), block(102)].concat());
    assert_eq!(engine.read(&desk, 3 * BLOCK, 4096), block(0));
    assert_eq!(engine.read(&two, 3 * BLOCK, 4096), block(2));
    assert_eq!(engine.read(&desk, 200 * BLOCK, 4096), block(if late { 103 } else { 0 }));
    drop((image, desk, two));
    engine.must(Command::Remove { name: n("desk"), recursive: true });
    engine.must(remove("image@v1"));
    engine.must(Command::Settle);
    engine.assert_clean();
    assert_eq!(engine.status().mapped, 0);
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn every_golden_pool_opens_is_clean_and_shows_what_was_in_it() {
    if let Ok(prefix) = std::env::var("OFFSHOOT_GOLDEN") {
        write(&prefix);
    }
    let mut seen = 0;
    for file in std::fs::read_dir(folder()).expect("the folder is there") {
        let path = file.expect("the folder is readable").path();
        let late = path.to_string_lossy().contains("crashed");
        let device = unpack(&std::fs::read(&path).expect("the file is readable"));
        // Another boot: what only a tail held is gone, as after power loss.
        let how = Opening { boot_id: [77; 16], ..opening(50, limits()) };
        let mut engine = Engine::open_as(device, small_tail(), how).expect("a golden pool opens");
        expect(&mut engine, late);
        seen += 1;
    }
    assert!(seen >= 2, "{seen} golden pools");
}

fn write(prefix: &str) {
    let engine = furnished().close();
    let mut engine = engine;
    engine.must(Command::Close);
    std::fs::write(folder().join(format!("{prefix}-closed")), pack(&engine.device))
        .expect("the file is writable");
    let mut engine = furnished();
    let desk = engine.attach("desk");
    engine.write(&desk, 200 * BLOCK, &block(103)).expect("there is space");
    engine.flush(&desk);
    std::fs::write(folder().join(format!("{prefix}-crashed")), pack(&engine.device))
        .expect("the file is writable");
}

fn ask(device: &Arc<dyn Device>, operation: Operation) -> Option<Buffer> {
    let mut channel = device.open_channel(1).expect("a channel");
    let mut queue = VecDeque::from([Submission { token: Token(1), operation }]);
    channel.submit(&mut queue);
    let mut done = Vec::new();
    while channel.poll(&mut done) == 0 {}
    let completion = done.pop().expect("one");
    completion.result.expect("RAM does not fail");
    completion.buffer
}

/// Pieces of 64 bytes that are not zeros, each behind its number (u32, little-endian).
const PIECE: usize = 64;

fn pack(device: &Arc<dyn Device>) -> Vec<u8> {
    let length = usize::try_from(POOL_BYTES).expect("small");
    let all = ask(device, Operation::Read { offset: 0, buffer: Buffer::zeroed(length) }).expect("bytes");
    let mut packed = Vec::new();
    for (number, piece) in (0_u32..).zip(all.chunks(PIECE)) {
        if piece.iter().any(|byte| *byte != 0) {
            packed.extend_from_slice(&number.to_le_bytes());
            packed.extend_from_slice(piece);
        }
    }
    packed
}

fn unpack(packed: &[u8]) -> Arc<dyn Device> {
    let mut all = Buffer::zeroed(usize::try_from(POOL_BYTES).expect("small"));
    for entry in packed.chunks(4 + PIECE) {
        let number = u32::from_le_bytes(entry[..4].try_into().expect("four bytes"));
        let at = usize::try_from(number).expect("small") * PIECE;
        all[at..at + PIECE].copy_from_slice(&entry[4..]);
    }
    let device: Arc<dyn Device> = Arc::new(RamDevice::new(POOL_BYTES));
    ask(&device, Operation::Write { offset: 0, buffer: all, durability: Durability::Cached });
    device
}
