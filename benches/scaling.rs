//! Lookups and reads on two threads against one: on two pools, two volumes of one pool, and one volume, each thread with
//! its own channel, one request at a time, and a keeper at rest.
//!
//! A lookup is an `Extents` request of one block: submission, lookup under the volume's lock, reply, and no transfer. A
//! read is 4 KiB from the RAM device. One thread and two run in turn, in windows of a millisecond, once the caches are
//! warm. A window in which a thread lost its processor to somebody else says nothing about the engine: only pairs
//! without that, whose threads began together, are counted. The table shows medians; the ratio is that of the pairs'.

mod stand;

use blockstore::Buffer;
use stand::{BLOCK, IMAGE_BYTES, MIB, Stand, median, scattered};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thinpool::{Action, Attachment, Channel, Command, Depths, Reply, Request};

const BLOCKS: u64 = IMAGE_BYTES / BLOCK;
/// Blocks of a clone that are its own; both threads ask for no others, so that their requests are alike.
const OWN: u64 = BLOCKS / 4;
/// Undisturbed pairs of each case, or more, that a median is taken of.
const PAIRS: usize = 201;
/// Fewer than this, and the machine is too busy to say anything.
const PAIRS_MIN: usize = 51;
/// Then it ends with what it has.
const TRIES_MAX: usize = 1_000;
const WINDOW: Duration = Duration::from_millis(1);
/// Requests before a window, more than there are in one.
const WARM: u32 = 4000;
/// Requests from one look at the clock to the next.
const BATCH: u32 = 10;
/// The last thread begins within one of so many parts of the window.
const SKEW_PARTS: u32 = 50;

#[derive(Clone, Copy)]
enum Load {
    Lookup,
    Read,
}

struct Case {
    what: &'static str,
    load: Load,
    /// A thread that is alone has the first.
    seats: [Seat; 2],
    /// Throughput of two threads over that of one that the engine promises.
    bound: Option<f64>,
    pairs: Vec<Pair>,
    tries: usize,
}

/// What one thread works with.
struct Seat {
    volume: Attachment,
    channel: Channel,
    replies: Vec<Reply>,
    /// Where it begins: two threads on one volume do not fetch blocks for each other.
    first: u64,
}

/// Millions of requests a second.
struct Pair {
    one: f64,
    two: f64,
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.two / self.one
    }
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
    let mut cases = cases(&mut stand, &mut other);
    for index in 0..TRIES_MAX {
        // Which of the two goes first changes: it finds in the caches what the case before it left.
        let order = if index.is_multiple_of(2) { [1, 2] } else { [2, 1] };
        cases.iter_mut().for_each(|case| case.try_pair(order));
        if cases.iter().all(|case| case.pairs.len() >= PAIRS) {
            break;
        }
    }
    println!("\n| one request at a time | one, M/s | two, M/s | ratio | bound | pairs | of tries |");
    println!("|---|---|---|---|---|---|---|");
    cases.iter().for_each(Case::print);
    let missed: Vec<String> = cases.iter().filter_map(Case::missed).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

fn cases(stand: &mut Stand, other: &mut Stand) -> [Case; 6] {
    let [first, second] = ["first", "second"].map(|name| quarter_written(stand, name));
    let elsewhere = quarter_written(other, "first");
    // Two pools share nothing of the engine: they say what two processors of this machine are worth at the moment. The
    // bounds do not depend on them.
    let two_pools = [(&*stand, &first), (&*other, &elsewhere)];
    let two_volumes = [(&*stand, &first), (&*stand, &second)];
    let one_volume = [(&*stand, &first), (&*stand, &first)];
    [
        Case::new("lookup, two pools", Load::Lookup, two_pools, None),
        Case::new("lookup, two volumes", Load::Lookup, two_volumes, Some(1.8)),
        Case::new("lookup, one volume", Load::Lookup, one_volume, Some(1.6)),
        Case::new("read of 4 KiB, two pools", Load::Read, two_pools, None),
        Case::new("read of 4 KiB, two volumes", Load::Read, two_volumes, None),
        Case::new("read of 4 KiB, one volume", Load::Read, one_volume, Some(1.6)),
    ]
}

/// A clone of a golden image, a quarter of it its own.
fn quarter_written(stand: &mut Stand, name: &str) -> Attachment {
    let clone = stand.clone("golden@v1", name);
    for block in 0..OWN {
        stand.write(&clone, scattered(block, BLOCKS));
    }
    stand.run(Command::Checkpoint);
    clone
}

impl Case {
    fn new(
        what: &'static str,
        load: Load,
        [one, two]: [(&Stand, &Attachment); 2],
        bound: Option<f64>,
    ) -> Self {
        let seats = [Seat::new(one.0, one.1, 0), Seat::new(two.0, two.1, OWN / 2)];
        Self { what, load, seats, bound, pairs: Vec::new(), tries: 0 }
    }

    fn try_pair(&mut self, order: [usize; 2]) {
        self.tries += 1;
        let [Some(first), Some(second)] = order.map(|count| self.round(count)) else { return };
        let (one, two) = if order[0] == 1 { (first, second) } else { (second, first) };
        self.pairs.push(Pair { one, two });
    }

    fn median_of(&self, figure: fn(&Pair) -> f64) -> f64 {
        median(&mut self.pairs.iter().map(figure).collect::<Vec<_>>())
    }

    fn print(&self) {
        let (pairs, tries) = (self.pairs.len(), self.tries);
        assert!(pairs >= PAIRS_MIN, "the machine is too busy: {pairs} undisturbed pairs of {}", self.what);
        let (one, two) = (self.median_of(|pair| pair.one), self.median_of(|pair| pair.two));
        let (ratio, bound) =
            (self.median_of(Pair::ratio), self.bound.map_or_else(String::new, |b| b.to_string()));
        println!("| {} | {one:.2} | {two:.2} | {ratio:.2} | {bound} | {pairs} | {tries} |", self.what);
    }

    /// Nothing when the bound is held.
    fn missed(&self) -> Option<String> {
        let (bound, ratio) = (self.bound?, self.median_of(Pair::ratio));
        (ratio < bound).then(|| format!("{}: {ratio:.3} is below {bound}", self.what))
    }

    /// Millions of requests a second, all threads together, each counted over the time it took itself: one whose processor
    /// is slower for a moment does not make the other wait, and one that a lock kept waiting long stays in. Nothing when a
    /// thread was taken from its processor, or they did not begin together.
    fn round(&mut self, count: usize) -> Option<f64> {
        let ready = AtomicUsize::new(0);
        let ready = &ready;
        let spans: Vec<Option<Span>> = std::thread::scope(|scope| {
            let (load, seats) = (self.load, self.seats.iter_mut().take(count));
            let threads: Vec<_> = seats
                .map(|seat| {
                    scope.spawn(move || {
                        seat.ask(load, 0..WARM);
                        let preempted = times_preempted();
                        ready.fetch_add(1, Ordering::SeqCst);
                        while ready.load(Ordering::SeqCst) < count {
                            std::hint::spin_loop();
                        }
                        let span = Span::measure(load, seat);
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

/// What one thread did in its window.
struct Span {
    begun: Instant,
    took: Duration,
    requests: u32,
}

impl Span {
    fn measure(load: Load, seat: &mut Seat) -> Span {
        let mut span = Span { begun: now(), took: Duration::ZERO, requests: 0 };
        while span.took < WINDOW {
            seat.ask(load, span.requests..span.requests + BATCH);
            span.requests += BATCH;
            span.took = now() - span.begun;
        }
        span
    }

    fn millions_per_second(&self) -> f64 {
        f64::from(self.requests) / self.took.as_secs_f64() / 1e6
    }
}

/// How often this thread was taken from its processor, as proc_pid_status(5) tells; sleeping, as for a lock of the engine, is
/// not among that.
fn times_preempted() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux");
    let mut counts = status.lines().filter_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    counts.next().and_then(|count| count.trim().parse().ok()).expect("a count")
}

impl Seat {
    fn new(stand: &Stand, volume: &Attachment, first: u64) -> Self {
        let channel = stand.pool.channel().expect("a lane");
        Self { volume: volume.for_thread(), channel, replies: Vec::new(), first }
    }

    fn ask(&mut self, load: Load, indices: Range<u32>) {
        for index in indices.map(u64::from) {
            let offset = scattered((self.first + index) % OWN, BLOCKS) * BLOCK;
            let action = match load {
                Load::Lookup => Action::Extents { offset, length: BLOCK, limit: 1, depths: Depths::Alike },
                Load::Read => Action::Read { offset, buffer: Buffer::zeroed(4096) },
            };
            let request = Request { tag: index, attachment: self.volume.clone(), action };
            self.channel.submit(request).expect("the channel is empty");
            while self.channel.poll(&mut self.replies) == 0 {}
            self.replies.drain(..).for_each(|reply| drop(reply.result.expect("a legal request")));
        }
    }
}
