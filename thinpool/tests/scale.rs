//! Ten thousand clones: made, listed, opened after a clean end and after a kill with a full journal and a full tail.

mod engine;

use blockstore::{Buffer, Device, Durability, RamDevice};
use cow_tree::units::PoolId;
use engine::{BLOCK, Engine, MIB, limits, n, snapshot, volume};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thinpool::{Action, Command, CreateOptions, Request, Shape, Tail};

const CLONES: usize = 10_000;

#[expect(clippy::disallowed_methods, reason = "this test is about time")]
fn timed<T>(what: &str, act: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let value = act();
    let took = begun.elapsed();
    println!("{what}: {took:?}");
    (value, took)
}

/// A pool on a device in memory with a tail of the default shape.
fn pool(bytes: u64) -> Engine {
    let device: Arc<dyn Device> = Arc::new(RamDevice::new(bytes));
    let options =
        CreateOptions { name: "p0".to_owned(), pool_id: PoolId([9; 16]), ..CreateOptions::default() };
    thinpool::create(device.clone(), &options).expect("an empty device takes a pool");
    Engine::open(device, Tail::in_memory(Shape::default()), 1, limits()).expect("a new pool opens")
}

fn golden(engine: &mut Engine) {
    engine.must(volume("golden", 1024 * MIB));
    let v = engine.attach("golden");
    for block in 0..2000_u64 {
        engine.write(&v, block * 7 * BLOCK, &[1; 4096]).expect("space is there");
    }
    drop(v);
    engine.must(snapshot("golden@v1"));
}

#[test]
fn a_pool_of_ten_thousand_clones_opens_in_a_second() {
    let mut engine = pool(8192 * MIB);
    golden(&mut engine);
    let names: Vec<_> = (0..CLONES).map(|number| n(&format!("desk-{number:05}"))).collect();
    let before = engine.status();
    let some = Command::Clone { source: n("golden@v1"), names: names[..1000].to_vec(), size: None };
    let (_, took) = timed("1,000 clones", || engine.must(some));
    assert!(took < Duration::from_secs(1), "1,000 clones took {took:?}");
    engine.must(Command::Settle);
    let after = engine.status();
    let used = after.mapped + after.metadata_used - before.mapped - before.metadata_used;
    println!("1,000 clones take {used} bytes");
    assert!(used < 8 * MIB, "1,000 clones take {used} bytes");
    engine.must(Command::Clone { source: n("golden@v1"), names: names[1000..].to_vec(), size: None });
    let (entries, took) = timed("list", || engine.pool.entries());
    assert_eq!(entries.len(), CLONES + 2);
    assert!(took < Duration::from_millis(300), "listing took {took:?}");

    let (mut engine, took) = timed("close and open", || engine.close());
    assert!(took < Duration::from_secs(2), "closing and opening took {took:?}");
    fill(&mut engine);
    let (mut engine, took) = timed("open after a kill", || engine.kill());
    println!("open after a kill with a full journal and a full tail: {took:?}");
    engine.assert_clean();
}

/// A little more, and a checkpoint would empty the journal.
fn is_nearly_full(engine: &Engine) -> bool {
    let status = engine.status();
    status.journal_used * 100 > status.journal_size * 46
}

/// Writes new blocks until the journal is as full as it gets before a checkpoint empties it, and then, with no keeper to
/// commit them, until no lane of the tail has room for another.
fn fill(engine: &mut Engine) {
    let v = engine.attach("desk-00000");
    // Blocks are written and trimmed again in turn: a record each, however long this goes on.
    let mut number = 0;
    let mut next = || {
        number += 1;
        let (offset, durability) = (number / 2 % 100 * BLOCK, Durability::Cached);
        match number % 2 {
            0 => Action::Write { offset, buffer: Buffer::from_slice(&[3; 4096]), durability },
            _ => Action::Trim { offset, length: BLOCK, durability },
        }
    };
    let generation = engine.status().generation;
    let mut replies = Vec::new();
    let mut tag = 0;
    while tag % 4096 != 0 || !is_nearly_full(engine) {
        tag += 1;
        assert!(tag < 4_000_000, "the journal does not fill");
        engine.channel.submit(Request { tag, attachment: v.clone(), action: next() }).expect("one at a time");
        while engine.channel.poll(&mut replies) == 0 {
            engine.tick();
        }
        if tag % 512 == 0 {
            engine.tick();
        }
    }
    assert_eq!(engine.status().generation, generation, "the journal was emptied before it was full");
    println!("{tag} records in the journal");
    let mut channels: Vec<_> = std::iter::from_fn(|| engine.pool.channel().ok()).collect();
    let mut staged = 0;
    for (tag, channel) in (0..).zip(&mut channels) {
        loop {
            channel.submit(Request { tag, attachment: v.clone(), action: next() }).expect("one at a time");
            if channel.poll(&mut replies) == 0 {
                break;
            }
            staged += 1;
        }
    }
    println!("{staged} records in the tail, {} bytes of it used", engine.tail.bytes_used());
}
