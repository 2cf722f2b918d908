//! Lookups and reads on two threads against one: on two pools, two volumes of one pool, and one volume, each thread with
//! its own channel.
//!
//! A lookup is an `Extents` request of one block: submission, lookup under the volume's lock, reply, and no transfer. A
//! read is 4 KiB from the RAM device. One thread and two run in turn, in rounds of a millisecond after one that warms the
//! caches. A round in which a thread lost its processor to somebody else says nothing about the engine: only pairs of
//! rounds without that, whose threads began together, are counted. The table shows medians of those.

mod stand;

use blockstore::Buffer;
use stand::{BLOCK, IMAGE_BYTES, MIB, Stand, median, scattered};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thinpool::{Action, Attachment, Channel, Command, Depths, Request};

const BLOCKS: u64 = IMAGE_BYTES / BLOCK;
/// Undisturbed pairs of rounds that a median is taken of.
const PAIRS: usize = 301;
/// Fewer than this, and the machine is too busy to say anything.
const PAIRS_MIN: usize = 51;
const TRIES_MAX: usize = 5_000;

#[derive(Clone, Copy)]
enum Load {
    Lookup,
    Read,
}

struct Case {
    what: &'static str,
    load: Load,
    seats: [Seat; 2],
    /// Throughput of two threads over that of one that the engine promises.
    bound: Option<f64>,
    pairs: Vec<[f64; 2]>,
}

/// What one thread has to itself; the first one's is that of the thread that is alone.
struct Seat {
    volume: Attachment,
    channel: Channel,
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (mut stand, mut other) = (Stand::new(1024 * MIB), Stand::new(1024 * MIB));
    stand.golden();
    other.golden();
    let [first, second] = ["first", "second"].map(|name| quarter_written(&mut stand, name));
    let elsewhere = quarter_written(&mut other, "first");
    let seat = |stand: &Stand, volume: &Attachment| Seat {
        volume: volume.for_thread(),
        channel: stand.pool.channel().expect("a lane"),
    };
    let case = |what, load, [one, two]: [(&Stand, &Attachment); 2], bound| Case {
        what,
        load,
        seats: [seat(one.0, one.1), seat(two.0, two.1)],
        bound,
        pairs: Vec::new(),
    };
    let two_pools = [(&stand, &first), (&other, &elsewhere)];
    let two_volumes = [(&stand, &first), (&stand, &second)];
    let one_volume = [(&stand, &first), (&stand, &first)];
    // Two pools share nothing: they say what two processors of this machine are worth at the moment. The bounds do not
    // depend on them.
    let mut cases = [
        case("lookup, two pools", Load::Lookup, two_pools, None),
        case("lookup, two volumes", Load::Lookup, two_volumes, Some(1.8)),
        case("lookup, one volume", Load::Lookup, one_volume, Some(1.6)),
        case("read of 4 KiB, two pools", Load::Read, two_pools, None),
        case("read of 4 KiB, two volumes", Load::Read, two_volumes, None),
        case("read of 4 KiB, one volume", Load::Read, one_volume, None),
    ];
    for index in 0..TRIES_MAX {
        cases.iter_mut().for_each(|case| case.try_pair(index.is_multiple_of(2)));
        if cases.iter().all(|case| case.pairs.len() >= PAIRS) {
            break;
        }
    }
    println!("\n| medians of undisturbed pairs in turn | one, M/s | two, M/s | ratio | bound | pairs |");
    println!("|---|---|---|---|---|---|");
    let missed: Vec<&str> = cases.iter().filter(|case| !case.report()).map(|case| case.what).collect();
    assert!(missed.is_empty(), "below the bound: {missed:?}");
}

/// A clone of a golden image, a quarter of it its own.
fn quarter_written(stand: &mut Stand, name: &str) -> Attachment {
    let clone = stand.clone("golden@v1", name);
    for block in 0..BLOCKS / 4 {
        stand.write(&clone, scattered(block, BLOCKS));
    }
    stand.run(Command::Checkpoint);
    clone
}

impl Case {
    /// Which of the two goes first changes: it finds in the caches what the case before it left.
    fn try_pair(&mut self, one_first: bool) {
        let counts = if one_first { [1, 2] } else { [2, 1] };
        if let [Some(first), Some(second)] = counts.map(|count| self.round(count)) {
            self.pairs.push(if one_first { [first, second] } else { [second, first] });
        }
    }

    /// Prints a row and tells whether the bound is held.
    fn report(&self) -> bool {
        let pairs = self.pairs.len();
        assert!(pairs >= PAIRS_MIN, "the machine is too busy: {pairs} undisturbed pairs of {}", self.what);
        let middle = |of: fn(&[f64; 2]) -> f64| median(&mut self.pairs.iter().map(of).collect::<Vec<_>>());
        let (one, two, ratio) =
            (middle(|pair| pair[0]), middle(|pair| pair[1]), middle(|pair| pair[1] / pair[0]));
        let bound = self.bound.map_or_else(String::new, |bound| bound.to_string());
        println!("| {} | {one:.2} | {two:.2} | {ratio:.2} | {bound} | {pairs} |", self.what);
        self.bound.is_none_or(|bound| ratio >= bound)
    }

    /// Millions of requests a second, all threads together, each counted over the time it took itself: one whose processor
    /// is slower for a moment does not make the other wait. Nothing when a thread was not on its processor all the time, or
    /// they did not run at the same time.
    fn round(&mut self, count: usize) -> Option<f64> {
        let ready = AtomicUsize::new(0);
        let ready = &ready;
        let spans: Vec<Option<Span>> = std::thread::scope(|scope| {
            let (load, seats) = (self.load, self.seats.iter_mut().take(count));
            let threads: Vec<_> = seats
                .map(|seat| {
                    scope.spawn(move || {
                        Span::drive(load, seat);
                        ready.fetch_add(1, Ordering::SeqCst);
                        while ready.load(Ordering::SeqCst) < count {
                            std::hint::spin_loop();
                        }
                        let preempted = times_preempted();
                        let span = Span::drive(load, seat);
                        (preempted == times_preempted()).then_some(span)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no request fails")).collect()
        });
        let spans: Vec<Span> = spans.into_iter().collect::<Option<_>>()?;
        let begun = spans.iter().map(|span| span.begun).min()?;
        let together = spans.iter().all(|span| span.begun - begun < WINDOW / SKEW_PARTS);
        together.then(|| spans.iter().map(Span::millions_per_second).sum())
    }
}

const WINDOW: Duration = Duration::from_millis(1);
/// Requests from one look at the clock to the next.
const BATCH: u32 = 10;
/// The last thread begins within one of so many parts of the window.
const SKEW_PARTS: u32 = 50;

/// What one thread did in its window.
struct Span {
    begun: Instant,
    took: Duration,
    requests: u32,
}

impl Span {
    fn drive(load: Load, seat: &mut Seat) -> Span {
        let mut span = Span { begun: now(), took: Duration::ZERO, requests: 0 };
        while span.took < WINDOW {
            drive(load, seat, span.requests..span.requests + BATCH);
            span.requests += BATCH;
            span.took = now() - span.begun;
        }
        span
    }

    fn millions_per_second(&self) -> f64 {
        f64::from(self.requests) / self.took.as_secs_f64() / 1e6
    }
}

/// How often this thread was taken from its processor against its will, as proc_pid_status(5) tells; a wait of its own,
/// for a lock of the engine, is not among them.
fn times_preempted() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux");
    let mut counts = status.lines().filter_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    counts.next().and_then(|count| count.trim().parse().ok()).expect("a count")
}

fn drive(load: Load, seat: &mut Seat, indices: Range<u32>) {
    let Seat { volume, channel } = seat;
    let mut replies = Vec::new();
    for index in indices.map(u64::from) {
        let offset = scattered(index, BLOCKS) * BLOCK;
        let action = match load {
            Load::Lookup => Action::Extents { offset, length: BLOCK, limit: 1, depths: Depths::Alike },
            Load::Read => Action::Read { offset, buffer: Buffer::zeroed(4096) },
        };
        let request = Request { tag: index, attachment: volume.clone(), action };
        channel.submit(request).expect("the channel is empty");
        while channel.poll(&mut replies) == 0 {}
        replies.drain(..).for_each(|reply| drop(reply.result.expect("a legal request")));
    }
}
