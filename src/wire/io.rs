//! What an export has done since it began, as it travels and as `-o json` prints it. Bytes are integers, times are seconds.

use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use vhost_blk::{Count, Counts, Latencies};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct IoView {
    pub(crate) reads: TimedView,
    pub(crate) writes: TimedView,
    pub(crate) flushes: TimedView,
    pub(crate) discards: CountView,
    pub(crate) write_zeroes: CountView,
    /// Identifiers, and requests of a kind that nobody knows.
    pub(crate) others: CountView,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CountView {
    /// All that were answered.
    pub(crate) requests: u64,
    /// Those of them that were not done.
    pub(crate) errors: u64,
    /// What the others have read or changed.
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TimedView {
    #[serde(flatten)]
    pub(crate) count: CountView,
    pub(crate) latency_seconds: LatencyView,
}

/// From the moment a request was taken until it was answered, errors too. Percentiles are up to an eighth too long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LatencyView {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) max: Option<f64>,
    /// As in a Prometheus histogram: each counts what the one before it counts, too. The bucket without a bound is `count`.
    pub(crate) buckets: Vec<BucketView>,
}

/// So many requests took no longer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct BucketView {
    pub(crate) le: f64,
    pub(crate) count: u64,
}

impl IoView {
    pub(crate) fn errors(&self) -> u64 {
        let timed = [&self.reads, &self.writes, &self.flushes].map(|timed| timed.count.errors);
        let others = [&self.discards, &self.write_zeroes, &self.others].map(|count| count.errors);
        timed.into_iter().chain(others).fold(0, u64::saturating_add)
    }
}

impl From<&Counts> for IoView {
    fn from(counts: &Counts) -> Self {
        let timed = |count: Count, latencies: &Latencies| TimedView {
            count: count.into(),
            latency_seconds: latencies.into(),
        };
        Self {
            reads: timed(counts.reads, &counts.read_latencies),
            writes: timed(counts.writes, &counts.write_latencies),
            flushes: timed(counts.flushes, &counts.flush_latencies),
            discards: counts.discards.into(),
            write_zeroes: counts.write_zeroes.into(),
            others: counts.others.into(),
        }
    }
}

impl From<Count> for CountView {
    fn from(count: Count) -> Self {
        let Count { requests, errors, bytes } = count;
        Self { requests, errors, bytes }
    }
}

impl From<&Latencies> for LatencyView {
    fn from(latencies: &Latencies) -> Self {
        let percentile = |percent| latencies.percentile(percent).as_ref().map(Duration::as_secs_f64);
        let bucket = |(bound, count): (Duration, u64)| BucketView { le: bound.as_secs_f64(), count };
        Self {
            count: latencies.count(),
            sum: latencies.sum().as_secs_f64(),
            p50: percentile(50),
            p90: percentile(90),
            p99: percentile(99),
            max: latencies.max().as_ref().map(Duration::as_secs_f64),
            buckets: latencies.cumulative().map(bucket).collect(),
        }
    }
}
