//! How the doors' tests measure what limits let through.

use rate_limit::RateLimits;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a rate is measured, once the burst is used up.
pub(crate) const MEASURED: Duration = Duration::from_secs(2);
pub(crate) const BURST: Duration = Duration::from_millis(50);
/// A client in a debt of hours is answered within this only if it does not wait.
pub(crate) const SOON: Duration = Duration::from_secs(10);
const MEASUREMENTS_MAX: usize = 4;

/// One test at a time: what is measured is of the whole machine.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of 0 there is no limit.
pub(crate) fn limits(iops: u64, bytes_per_second: u64) -> RateLimits {
    let rate = NonZeroU64::new;
    RateLimits { iops: rate(iops), bytes_per_second: rate(bytes_per_second), burst: BURST }
}

/// Never too fast, and as fast as it may be at least once in a few times: the machine has other things to do as well.
#[track_caller]
pub(crate) fn assert_near(expected: f64, mut measure: impl FnMut() -> f64) {
    let mut best = 0.0_f64;
    for _ in 0..MEASUREMENTS_MAX {
        best = best.max(measure());
        assert!(best < expected * 1.1, "{best:.1} a second, not {expected:.1}");
        if best > expected * 0.9 {
            return;
        }
    }
    panic!("{best:.1} a second, not {expected:.1}");
}
