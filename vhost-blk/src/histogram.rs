//! How long requests took, in buckets of a fixed number: eight for each power of two of nanoseconds, as HdrHistogram has them.
//! A bucket is at most an eighth as wide as what it holds is long, up to 69 s.
//!
//! ```text
//!   1  2  3 ... 8 | 9  10 ... 16 | 18  20 ... 32 | 36  40 ... 64 | ...     the last nanosecond of each bucket; 0 is in the first
//! ```
//! A bucket ends with the value it is named by, which is in it, as a Prometheus histogram's `le` has it; so every power of two is
//! the end of a bucket, and [`Latencies::cumulative`] is exact.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// So many buckets for each power of two.
const PARTS_LOG2: usize = 3;
const PARTS: usize = 1 << PARTS_LOG2;
/// Nanoseconds; what took longer than 69 s is all in the last bucket, which has no end.
const LONGEST_LOG2: usize = 36;
const BUCKETS: usize = (LONGEST_LOG2 - PARTS_LOG2 + 1) * PARTS + 1;
/// The bounds of [`Latencies::cumulative`] are the powers of two between 1 us and 8.6 s.
const BOUNDS_LOG2: std::ops::RangeInclusive<u32> = 10..=33;

/// Counted by one thread at a time, read by any.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = [const { AtomicU64::new(0) }; BUCKETS];
        Self { buckets, sum_ns: AtomicU64::new(0), max_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub(crate) fn note(&self, nanoseconds: u64) {
        raise(&self.buckets[bucket_of(nanoseconds)], 1);
        raise(&self.sum_ns, nanoseconds);
        if nanoseconds > self.max_ns.load(Ordering::Relaxed) {
            self.max_ns.store(nanoseconds, Ordering::Relaxed);
        }
    }
}

/// Adds to a counter that no other thread changes meanwhile; a full one stays full.
pub(crate) fn raise(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).saturating_add(by), Ordering::Relaxed);
}

fn bucket_of(nanoseconds: u64) -> usize {
    let place = nanoseconds.saturating_sub(1);
    // How wide the bucket is: one nanosecond up to 16.
    let width_log2 = usize::try_from((place | (1 << PARTS_LOG2)).ilog2()).expect("at most 63") - PARTS_LOG2;
    let part = usize::try_from(place >> width_log2).expect("at most 15");
    (width_log2 * PARTS + part).min(BUCKETS - 1)
}

/// The last value of a bucket, in nanoseconds.
fn end_of(bucket: usize) -> u64 {
    if bucket >= BUCKETS - 1 {
        return u64::MAX;
    }
    let width_log2 = (bucket / PARTS).saturating_sub(1);
    let parts = u64::try_from(bucket - width_log2 * PARTS + 1).expect("at most 16");
    parts << width_log2
}

/// How long the requests took that were answered so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies {
    buckets: Vec<u64>,
    sum_ns: u64,
    max_ns: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], sum_ns: 0, max_ns: 0 }
    }
}

impl Latencies {
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum = sum.saturating_add(bucket.load(Ordering::Relaxed));
        }
        self.sum_ns = self.sum_ns.saturating_add(histogram.sum_ns.load(Ordering::Relaxed));
        self.max_ns = self.max_ns.max(histogram.max_ns.load(Ordering::Relaxed));
    }

    /// How many requests these are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.saturating_add(*bucket))
    }

    /// All latencies together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// Exact. Nothing when there was no request.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_nanos(self.max_ns))
    }

    /// What so many of a hundred requests did not exceed (nearest rank): never too short, too long by an eighth at most,
    /// never more than the maximum. Nothing when there was no request.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let wanted = (u128::from(self.count()) * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        let holds = |count: &u64| {
            seen += u128::from(*count);
            seen >= wanted
        };
        let bucket = self.buckets.iter().position(holds)?;
        Some(Duration::from_nanos(end_of(bucket).min(self.max_ns)))
    }

    /// Rising bounds, and how many requests took no longer than each; longer ones are in [`Latencies::count`] only.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut rest = self.buckets.iter().enumerate().peekable();
        let mut count = 0_u64;
        BOUNDS_LOG2.map(move |power| {
            let bound = 1 << power;
            while let Some((_, more)) = rest.next_if(|(bucket, _)| end_of(*bucket) <= bound) {
                count = count.saturating_add(*more);
            }
            (Duration::from_nanos(bound), count)
        })
    }
}

#[cfg(test)]
mod tests;
