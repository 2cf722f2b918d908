//! Writes of 4 KiB through a channel on a RAM device: owned blocks overwritten, first writes, and the journal append
//! that makes a first write durable. Ends with the ratio of the first two, which has a bound.

mod stand;

use criterion::{Criterion, criterion_group};
use stand::{BLOCK, IMAGE_BYTES, MIB, Stand, median, n, scattered};
use std::time::{Duration, Instant};
use thinpool::{Action, Attachment, Command};

const BLOCKS: u64 = IMAGE_BYTES / BLOCK;
/// Promised for the RAM device.
const RATIO_MAX: f64 = 4.0;
const ROUNDS: usize = 9;

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}

/// First writes, `count` of them, to clones of the golden image; making and removing the clones is not counted.
fn first_writes(stand: &mut Stand, count: u64) -> Duration {
    let mut total = Duration::ZERO;
    for begin in (0..count).step_by(usize::try_from(BLOCKS).expect("a count")) {
        let clone = stand.clone("golden@v1", "first");
        let here = BLOCKS.min(count - begin);
        total += timed(|| (0..here).for_each(|index| stand.write(&clone, scattered(index, BLOCKS))));
        drop(clone);
        stand.remove("first");
    }
    total
}

fn overwrites(stand: &mut Stand, volume: &Attachment, count: u64) -> Duration {
    timed(|| (0..count).for_each(|index| stand.write(volume, scattered(index, BLOCKS))))
}

fn owned(stand: &mut Stand) -> Attachment {
    stand.run(Command::CreateVolume { name: n("owned"), size: IMAGE_BYTES });
    let volume = stand.attach("owned");
    (0..BLOCKS).for_each(|block| stand.write(&volume, block));
    stand.run(Command::Checkpoint);
    volume
}

fn bench(criterion: &mut Criterion) {
    let mut stand = Stand::new(1024 * MIB);
    stand.golden();
    let volume = owned(&mut stand);
    let mut group = criterion.benchmark_group("write 4 KiB");
    group.bench_function("owned overwrite", |bencher| {
        bencher.iter_custom(|count| overwrites(&mut stand, &volume, count));
    });
    group.bench_function("first write to a clone", |bencher| {
        bencher.iter_custom(|count| first_writes(&mut stand, count));
    });
    group.bench_function("first write and flush: a journal append", |bencher| {
        bencher.iter_custom(|count| appends(&mut stand, count));
    });
    group.finish();
    drop(volume);
}

/// A mapping staged, then a flush that waits for the commit which makes it durable.
fn appends(stand: &mut Stand, count: u64) -> Duration {
    let mut total = Duration::ZERO;
    for begin in (0..count).step_by(usize::try_from(BLOCKS).expect("a count")) {
        let clone = stand.clone("golden@v1", "append");
        let here = BLOCKS.min(count - begin);
        total += timed(|| {
            for index in 0..here {
                stand.write(&clone, scattered(index, BLOCKS));
                stand.ask(&clone, Action::Flush);
            }
        });
        drop(clone);
        stand.remove("append");
    }
    total
}

/// Both sides in turn, in one process, so that what disturbs the machine disturbs both; medians.
fn ratio() {
    let mut stand = Stand::new(1024 * MIB);
    stand.golden();
    let volume = owned(&mut stand);
    let mut over: Vec<f64> = Vec::new();
    let mut first: Vec<f64> = Vec::new();
    let per = f64::from(u32::try_from(BLOCKS).expect("a count"));
    for _ in 0..ROUNDS {
        over.push(overwrites(&mut stand, &volume, BLOCKS).as_secs_f64() * 1e9 / per);
        first.push(first_writes(&mut stand, BLOCKS).as_secs_f64() * 1e9 / per);
    }
    let (over, first) = (median(&mut over), median(&mut first));
    let ratio = first / over;
    println!("\n| 4 KiB on the RAM device, {ROUNDS} rounds in turn, medians | ns |\n|---|---|");
    println!("| owned overwrite | {over:.0} |\n| first write to a clone | {first:.0} |");
    println!("| ratio (bound {RATIO_MAX}) | {ratio:.2} |");
    assert!(ratio <= RATIO_MAX, "a first write costs {ratio:.2} owned overwrites");
}

criterion_group!(benches, bench);

fn main() {
    benches();
    if std::env::args().any(|argument| argument == "--bench") {
        ratio();
    }
    Criterion::default().configure_from_args().final_summary();
}
