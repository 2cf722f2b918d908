//! Lookups and reads on two threads against one: two volumes, then one volume, each thread with its own channel.
//!
//! A lookup is an `Extents` request of one block: submission, lookup under the volume's lock, reply, and no transfer. A
//! read is 4 KiB from the RAM device. One thread and two run in turn, in rounds of about a millisecond. A round in which a
//! thread lost its processor to somebody else says nothing about the engine: the kernel counts how often a thread was
//! put on a processor, and only rounds without such a change, whose threads began together, are counted. The table shows
//! medians of those.

mod stand;

use blockstore::Buffer;
use stand::{BLOCK, IMAGE_BYTES, MIB, Stand, median, scattered};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use thinpool::{Action, Attachment, Channel, Command, Depths, Request};

const BLOCKS: u64 = IMAGE_BYTES / BLOCK;
/// Undisturbed rounds of each side that a median is taken of.
const ROUNDS: usize = 101;
/// Fewer than this, and the machine is too busy to say anything.
const ROUNDS_MIN: usize = 11;
const TRIES_MAX: usize = 10_000;

#[derive(Clone, Copy)]
enum Load {
    /// No engine at all: what two processors of this machine are worth against one.
    Arithmetic,
    Lookup,
    Read,
}

struct Case {
    what: &'static str,
    load: Load,
    /// Throughput of two threads over that of one that the engine promises.
    bound: Option<f64>,
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut stand = Stand::new(1024 * MIB);
    stand.golden();
    let (first, second) = (stand.clone("golden@v1", "first"), stand.clone("golden@v1", "second"));
    for block in 0..BLOCKS / 4 {
        stand.write(&first, scattered(block, BLOCKS));
        stand.write(&second, scattered(block, BLOCKS));
    }
    stand.run(Command::Checkpoint);
    let mut channels = [stand.pool.channel().expect("a lane"), stand.pool.channel().expect("a lane")];
    println!("\n| medians of undisturbed rounds in turn | one, M/s | two, M/s | ratio | bound | rounds |");
    println!("|---|---|---|---|---|---|");
    let yardstick =
        (Case { what: "arithmetic, nothing shared", load: Load::Arithmetic, bound: None }, [&first, &second]);
    let cases = [
        (Case { what: "lookup, two volumes", load: Load::Lookup, bound: Some(1.8) }, [&first, &second]),
        (Case { what: "lookup, one volume", load: Load::Lookup, bound: Some(1.6) }, [&first, &first]),
        (Case { what: "read of 4 KiB, two volumes", load: Load::Read, bound: None }, [&first, &second]),
        (Case { what: "read of 4 KiB, one volume", load: Load::Read, bound: None }, [&first, &first]),
    ];
    // The first row says what two processors of this machine are worth at the moment; the bounds do not depend on it.
    measure(&yardstick.0, &yardstick.1, &mut channels);
    let measured = cases.iter().map(|(case, volumes)| (case, measure(case, volumes, &mut channels)));
    let missed: Vec<String> = measured
        .filter(|(case, ratio)| case.bound.is_some_and(|bound| *ratio < bound))
        .map(|(case, ratio)| format!("{}: {ratio:.2}", case.what))
        .collect();
    assert!(missed.is_empty(), "below the bound: {missed:?}");
}

/// Prints a row and gives the ratio.
fn measure(case: &Case, volumes: &[&Attachment], channels: &mut [Channel]) -> f64 {
    let (mut ones, mut twos) = (Vec::new(), Vec::new());
    for _ in 0..TRIES_MAX {
        if ones.len() >= ROUNDS && twos.len() >= ROUNDS {
            break;
        }
        ones.extend(round(case.load, &volumes[..1], channels));
        twos.extend(round(case.load, volumes, channels));
    }
    let rounds = ones.len().min(twos.len());
    assert!(rounds >= ROUNDS_MIN, "the machine is too busy: {rounds} undisturbed rounds");
    let (one, two) = (median(&mut ones), median(&mut twos));
    let ratio = two / one;
    let bound = case.bound.map_or_else(String::new, |bound| bound.to_string());
    println!("| {} | {one:.2} | {two:.2} | {ratio:.2} | {bound} | {rounds} |", case.what);
    ratio
}

/// Millions of requests a second, all threads together, from the first start to the last end; nothing when a thread
/// was not on its processor all the time, or they did not run at the same time.
fn round(load: Load, volumes: &[&Attachment], channels: &mut [Channel]) -> Option<f64> {
    let (ready, count) = (AtomicUsize::new(0), volumes.len());
    let ready = &ready;
    let spans: Vec<Option<(Instant, Instant)>> = std::thread::scope(|scope| {
        let pairs = volumes.iter().copied().zip(channels.iter_mut());
        let threads: Vec<_> = pairs
            .map(|(volume, channel)| {
                let volume = volume.for_thread();
                scope.spawn(move || {
                    drive(load, &volume, channel, WARM);
                    ready.fetch_add(1, Ordering::SeqCst);
                    while ready.load(Ordering::SeqCst) < count {
                        std::hint::spin_loop();
                    }
                    let switches = times_scheduled();
                    let begun = now();
                    drive(load, &volume, channel, REQUESTS);
                    let ended = now();
                    (switches == times_scheduled()).then_some((begun, ended))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no request fails")).collect()
    });
    let spans: Vec<_> = spans.into_iter().collect::<Option<_>>()?;
    let begun = spans.iter().map(|(begun, _)| *begun).min()?;
    let last_begun = spans.iter().map(|(begun, _)| *begun).max()?;
    let ended = spans.iter().map(|(_, ended)| *ended).max()?;
    let threads = u32::try_from(spans.len()).expect("two at most");
    let together = (last_begun - begun) * SKEW_PARTS < ended - begun;
    together.then(|| f64::from(threads * REQUESTS) / (ended - begun).as_secs_f64() / 1e6)
}

const WARM: u32 = 100;
const REQUESTS: u32 = 1000;
/// The last thread begins within one of so many parts of a round.
const SKEW_PARTS: u32 = 50;

/// How often this thread was put on a processor: the third figure of schedstat.
fn times_scheduled() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    text.split_whitespace().nth(2).and_then(|count| count.parse().ok()).expect("three figures")
}

fn drive(load: Load, volume: &Attachment, channel: &mut Channel, requests: u32) {
    let mut replies = Vec::new();
    for index in 0..u64::from(requests) {
        let offset = scattered(index, BLOCKS) * BLOCK;
        let action = match load {
            Load::Arithmetic => {
                black_box((0..500).fold(index, |value, step| black_box(value).rotate_left(5) ^ step));
                continue;
            }
            Load::Lookup => Action::Extents { offset, length: BLOCK, limit: 1, depths: Depths::Alike },
            Load::Read => Action::Read { offset, buffer: Buffer::zeroed(4096) },
        };
        let request = Request { tag: index, attachment: volume.clone(), action };
        channel.submit(request).expect("the channel is empty");
        while channel.poll(&mut replies) == 0 {}
        replies.drain(..).for_each(|reply| drop(reply.result.expect("a legal request")));
    }
}
