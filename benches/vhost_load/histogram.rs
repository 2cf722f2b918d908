//! Latencies in buckets 6 % wide.

use std::time::Duration;

/// Counts of latencies; 16 buckets for each power of two of nanoseconds.
pub(crate) struct Histogram(Vec<u64>);

impl Histogram {
    pub(crate) fn new() -> Self {
        Self(vec![0; 1024])
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(16);
        let power = 63 - nanoseconds.leading_zeros();
        let part = nanoseconds >> (power - 4) & 15;
        let bucket = u64::from(power) * 16 + part;
        self.0[usize::try_from(bucket).expect("at most 1023")] += 1;
    }

    /// Microseconds.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let all: u64 = self.0.iter().sum();
        let wanted = (number(all) * percent / 100.0).ceil();
        let mut seen = 0.0;
        for (bucket, count) in (0_u32..).zip(&self.0) {
            seen += number(*count);
            if seen >= wanted && *count > 0 {
                let base = 2_f64.powi(i32::try_from(bucket / 16).expect("at most 63"));
                return base * (1.0 + f64::from(bucket % 16) / 16.0) / 1000.0;
            }
        }
        0.0
    }
}

/// Exact for every count there is.
pub(crate) fn number(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).expect("the upper half");
    let low = u32::try_from(count & u64::from(u32::MAX)).expect("the lower half");
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}
