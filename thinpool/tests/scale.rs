//! Ten thousand clones: made, listed, opened after a clean end and after a kill with a full journal and a full tail.

mod engine;

use blockstore::{Buffer, Device, Durability, RamDevice};
use cow_tree::units::PoolId;
use engine::{BLOCK, Engine, MIB, limits, n, snapshot, volume};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thinpool::{Action, Attachment, Command, CreateOptions, Request, Shape, Tail};

const CLONES: usize = 10_000;
/// Extents of the golden image, one block each.
const GOLDEN_BLOCKS: u64 = 2000;

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
    for block in 0..GOLDEN_BLOCKS {
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
    for some in names[1000..].chunks(3000) {
        engine.must(Command::Clone { source: n("golden@v1"), names: some.to_vec(), size: None });
    }
    let (entries, took) = timed("list", || engine.pool.entries());
    assert_eq!(entries.len(), CLONES + 2);
    assert!(took < Duration::from_millis(300), "listing took {took:?}");

    let (mut engine, took) = timed("close and open", || engine.close());
    assert!(took < Duration::from_secs(1), "closing and opening took {took:?}");
    fill(&mut engine);
    let (mut engine, took) = timed("open after a kill", || engine.kill());
    assert!(took < Duration::from_secs(1), "opening after a kill took {took:?}");
    engine.assert_clean();
}

/// A little more, and a checkpoint would empty the journal.
fn is_nearly_full(engine: &Engine) -> bool {
    let status = engine.status();
    status.journal_used * 100 > status.journal_size * 46
}

/// Fills the journal up to where a checkpoint would empty it, and then, with no keeper to commit them, every lane of the
/// tail with records.
fn fill(engine: &mut Engine) {
    let generation = engine.status().generation;
    let records = fill_journal(engine);
    assert_eq!(engine.status().generation, generation, "the journal was emptied before it was full");
    let staged = fill_tail(engine);
    println!(
        "{records} records in the journal, {staged} in the tail, {} bytes of it used",
        engine.tail.bytes_used()
    );
    assert!(engine.tail.bytes_used() * 10 > Shape::default().total_bytes() * 8, "the tail is not full");
}

/// Writes and trims the same few blocks in turn: a record each, however long it goes on.
fn fill_journal(engine: &mut Engine) -> u64 {
    let v = engine.attach("desk-00000");
    let mut replies = Vec::new();
    let mut tag = 0;
    while tag % 4096 != 0 || !is_nearly_full(engine) {
        tag += 1;
        assert!(tag < 4_000_000, "the journal does not fill");
        let (offset, durability) = (tag / 2 % 64 * BLOCK, Durability::Cached);
        let action = match tag % 2 {
            0 => Action::Write { offset, buffer: Buffer::from_slice(&[3; 4096]), durability },
            _ => Action::Trim { offset, length: BLOCK, durability },
        };
        engine.channel.submit(Request { tag, attachment: v.clone(), action }).expect("one at a time");
        while engine.channel.poll(&mut replies) == 0 {
            engine.tick();
        }
        if tag % 512 == 0 {
            engine.tick();
        }
    }
    tag
}

/// Trims blocks of the golden image, one by one, in clone after clone: records that need no new blocks.
fn fill_tail(engine: &mut Engine) -> u64 {
    let mut channels: Vec<_> = std::iter::from_fn(|| engine.pool.channel().ok()).collect();
    let mut clones = 1..CLONES;
    let mut left: Vec<(Attachment, u64)> = Vec::new();
    let (mut staged, mut replies) = (0, Vec::new());
    for channel in &mut channels {
        loop {
            let Some((attachment, block)) = left.pop() else {
                let clone =
                    engine.attach(&format!("desk-{:05}", clones.next().expect("there are many clones")));
                left.extend((0..GOLDEN_BLOCKS).map(|block| (clone.clone(), block * 7)));
                continue;
            };
            let action =
                Action::Trim { offset: block * BLOCK, length: BLOCK, durability: Durability::Cached };
            channel.submit(Request { tag: 0, attachment, action }).expect("one at a time");
            while channel.is_device_busy() {
                channel.poll(&mut replies);
            }
            channel.poll(&mut replies);
            if replies.pop().is_none() {
                break;
            }
            staged += 1;
        }
    }
    staged
}
