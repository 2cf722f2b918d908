//! What an export has done for its virtual machine, counted since it began.
//!
//! A block of counters belongs to a ring of the export and outlives it, so a monitor that comes back goes on counting.
//! Only the worker that has the ring writes to it, with plain loads and stores, and a ring is stopped before another
//! worker gets it (V4): no instruction is locked and nothing is lost. Readers add the blocks up while they change, so
//! figures of one answer may differ by what was answered meanwhile.
//!
//! A request is counted before its driver can see that it is used: whoever has its answer finds it counted. The clock
//! is read twice a turn of a worker, at most, and once more for a transfer that fails between its parts. A request
//! counts as taken when the first of its turn was, and as answered when the engine had come back with it: so its
//! latency is too long by what it took to take those before it, too short by what it takes to hand over the answers up
//! to its own, and nothing where the engine was not needed. Both errors are shorter than a turn, which is bounded by
//! [`TURN_DESCRIPTORS_MAX`](crate::limits::TURN_DESCRIPTORS_MAX). A transfer in parts is one request, answered with its
//! last part.

use crate::clock::Moment;
use crate::histogram::{Histogram, Latencies, raise};
use crate::request::{Header, Status};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thinpool::Action;
use virtio_bindings::bindings::virtio_blk as blk;

/// What a driver asked for, legal or not.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
    /// The identifier, and what nobody knows.
    #[default]
    Other,
}

/// What is known of a request while it is under way.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    /// Of the disk: what it reads or changes.
    pub(crate) bytes: u64,
    pub(crate) taken: Moment,
}

/// Requests of one kind that were answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub requests: u64,
    /// Those that were not done, for whatever reason.
    pub errors: u64,
    /// What the others have read or changed.
    pub bytes: u64,
}

/// What an export has done since it began.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    pub reads: Count,
    pub writes: Count,
    pub flushes: Count,
    pub discards: Count,
    pub write_zeroes: Count,
    /// Identifiers, and requests of a kind that nobody knows.
    pub others: Count,
    /// From the moment a request was taken until it was answered, errors too; the error of a latency is less than a turn of a
    /// worker.
    pub read_latencies: Latencies,
    pub write_latencies: Latencies,
    pub flush_latencies: Latencies,
}

/// The counters of one ring. Two rings share no cache line, nor a pair that is fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct RingCounters {
    reads: Counter,
    writes: Counter,
    flushes: Counter,
    discards: Counter,
    write_zeroes: Counter,
    others: Counter,
    read_latencies: Histogram,
    write_latencies: Histogram,
    flush_latencies: Histogram,
}

#[derive(Debug, Default)]
struct Counter {
    requests: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
}

/// The counters of an export, by the number of the ring.
#[derive(Debug)]
pub(crate) struct Counters(Vec<Arc<RingCounters>>);

impl Kind {
    pub(crate) fn of(header: Header) -> Self {
        match header.kind {
            blk::VIRTIO_BLK_T_IN => Kind::Read,
            blk::VIRTIO_BLK_T_OUT => Kind::Write,
            blk::VIRTIO_BLK_T_FLUSH => Kind::Flush,
            blk::VIRTIO_BLK_T_DISCARD => Kind::Discard,
            blk::VIRTIO_BLK_T_WRITE_ZEROES => Kind::WriteZeroes,
            _ => Kind::Other,
        }
    }
}

/// Bytes of the disk an action reads or changes.
pub(crate) fn bytes_of(action: &Action) -> u64 {
    match action {
        Action::Read { buffer, .. } | Action::Write { buffer, .. } => {
            u64::try_from(buffer.len()).expect("it is bounded")
        }
        Action::Trim { length, .. }
        | Action::WriteZeroes { length, .. }
        | Action::Extents { length, .. }
        | Action::Changes { length, .. } => *length,
        Action::Flush => 0,
    }
}

impl RingCounters {
    /// Only the worker that has the ring calls this.
    pub(crate) fn note(&self, asked: &Asked, status: Status, answered: Moment) {
        let (counter, latencies) = match asked.kind {
            Kind::Read => (&self.reads, Some(&self.read_latencies)),
            Kind::Write => (&self.writes, Some(&self.write_latencies)),
            Kind::Flush => (&self.flushes, Some(&self.flush_latencies)),
            Kind::Discard => (&self.discards, None),
            Kind::WriteZeroes => (&self.write_zeroes, None),
            Kind::Other => (&self.others, None),
        };
        counter.note(asked.bytes, status);
        if let Some(latencies) = latencies {
            latencies.note(answered.nanoseconds_since(asked.taken));
        }
    }
}

impl Counter {
    fn note(&self, bytes: u64, status: Status) {
        raise(&self.requests, 1);
        match status {
            Status::Ok => raise(&self.bytes, bytes),
            Status::IoError | Status::Unsupported => raise(&self.errors, 1),
        }
    }
}

impl Count {
    fn add(&mut self, counter: &Counter) {
        for (sum, cell) in [
            (&mut self.requests, &counter.requests),
            (&mut self.errors, &counter.errors),
            (&mut self.bytes, &counter.bytes),
        ] {
            *sum = sum.saturating_add(cell.load(Ordering::Relaxed));
        }
    }
}

impl Counters {
    pub(crate) fn new(queues: u16) -> Self {
        Self((0..queues).map(|_| Arc::default()).collect())
    }

    /// The block of one ring.
    pub(crate) fn of_ring(&self, index: usize) -> Arc<RingCounters> {
        self.0[index].clone()
    }

    pub(crate) fn sum(&self) -> Counts {
        let mut counts = Counts::default();
        for ring in &self.0 {
            counts.reads.add(&ring.reads);
            counts.writes.add(&ring.writes);
            counts.flushes.add(&ring.flushes);
            counts.discards.add(&ring.discards);
            counts.write_zeroes.add(&ring.write_zeroes);
            counts.others.add(&ring.others);
            counts.read_latencies.add(&ring.read_latencies);
            counts.write_latencies.add(&ring.write_latencies);
            counts.flush_latencies.add(&ring.flush_latencies);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Count, Counters, Kind};
    use crate::clock::Clock;
    use crate::request::{HEADER_BYTES, Header, Status};

    #[test]
    fn rings_that_two_threads_count_on_add_up_exactly() {
        const EACH: u64 = 100_000;
        let counters = Counters::new(2);
        let clock = Clock::new();
        std::thread::scope(|scope| {
            for index in 0..2 {
                let ring = counters.of_ring(index);
                let clock = &clock;
                scope.spawn(move || {
                    for number in 0..EACH {
                        let asked = Asked { kind: Kind::Write, bytes: 512, taken: clock.now() };
                        let status = if number % 4 == 0 { Status::IoError } else { Status::Ok };
                        ring.note(&asked, status, clock.now());
                    }
                });
            }
        });
        let counts = counters.sum();
        let expected = Count { requests: 2 * EACH, errors: EACH / 2, bytes: EACH / 2 * 3 * 512 };
        assert_eq!(counts.writes, expected);
        assert_eq!(counts.write_latencies.count(), 2 * EACH);
        assert_eq!((counts.reads, counts.read_latencies.count()), (Count::default(), 0));
    }

    #[test]
    fn each_kind_has_a_counter_of_its_own_and_blocks_share_no_cache_line() {
        let kinds = [Kind::Read, Kind::Write, Kind::Flush, Kind::Discard, Kind::WriteZeroes, Kind::Other];
        let counters = Counters::new(1);
        let ring = counters.of_ring(0);
        for (times, kind) in (1..).zip(kinds) {
            for _ in 0..times {
                ring.note(&Asked { kind, ..Asked::default() }, Status::Unsupported, Clock::new().now());
            }
        }
        let counts = counters.sum();
        let all = [
            counts.reads,
            counts.writes,
            counts.flushes,
            counts.discards,
            counts.write_zeroes,
            counts.others,
        ];
        for (times, count) in (1..).zip(all) {
            assert_eq!(count, Count { requests: times, errors: times, bytes: 0 });
        }
        assert_eq!(counts.flush_latencies.count(), 3);
        let of = |number| {
            let mut raw = [0; HEADER_BYTES];
            raw[0] = number;
            Kind::of(Header::parse(&raw))
        };
        // Their numbers in virtio 1.2, and two that are none of them: an identifier, and nothing known.
        assert_eq!([0, 1, 4, 11, 13, 8].map(of), kinds);
        assert_eq!(of(99), Kind::Other);
        assert!(align_of_val(&*ring) == 128 && size_of_val(&*ring).is_multiple_of(128));
    }
}
