//! Limits of speed, by export: all connections of an export share its limits.

use rate_limit::{Cost, RateLimiter, RateLimits};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thinpool::{Action, ZeroSpace};

/// Of exports that have limits, and of those that are open.
#[derive(Debug)]
pub(crate) struct Limiters(Mutex<BTreeMap<String, Arc<RateLimiter>>>);

impl Limiters {
    pub(crate) fn new(limits: BTreeMap<String, RateLimits>) -> Self {
        let limiter = |(export, limits)| (export, Arc::new(RateLimiter::new(limits)));
        Self(Mutex::new(limits.into_iter().map(limiter).collect()))
    }

    /// The limiter of an export as long as somebody has it open.
    pub(crate) fn of(&self, export: &str) -> Arc<RateLimiter> {
        let mut limiters = self.lock();
        limiters.retain(|_, limiter| limiter.is_limiting() || Arc::strong_count(limiter) > 1);
        let limiter =
            limiters.entry(export.to_owned()).or_insert_with(|| Arc::new(RateLimiter::new(RateLimits::NONE)));
        limiter.clone()
    }

    /// Counts from the next request on. Whoever waits for a turn has to be told.
    pub(crate) fn set(&self, export: &str, limits: RateLimits) {
        self.of(export).set(limits);
    }

    pub(crate) fn limits(&self, export: &str) -> RateLimits {
        self.lock().get(export).map_or(RateLimits::NONE, |limiter| limiter.limits())
    }

    /// The list stays whole even if a thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<RateLimiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request takes of its export's limits: one request, and the bytes that are read or written for it. Holes are
/// neither.
pub(crate) fn cost_of(action: &Action) -> Cost {
    let bytes = match action {
        Action::Read { buffer, .. } | Action::Write { buffer, .. } => {
            u64::try_from(buffer.len()).expect("payloads are bounded")
        }
        Action::WriteZeroes { length, space: ZeroSpace::Allocate, .. } => *length,
        Action::WriteZeroes { .. }
        | Action::Trim { .. }
        | Action::Flush
        | Action::Extents { .. }
        | Action::Changes { .. } => 0,
    };
    Cost { requests: 1, bytes }
}

#[cfg(test)]
mod tests {
    use super::Limiters;
    use rate_limit::RateLimits;
    use std::collections::BTreeMap;
    use std::num::NonZeroU64;
    use std::sync::Arc;

    #[test]
    fn an_export_has_one_limiter_and_those_of_nobody_are_forgotten() {
        let slow = RateLimits { iops: NonZeroU64::new(7), ..RateLimits::NONE };
        let limiters = Limiters::new(BTreeMap::from([("slow".to_owned(), slow)]));
        let (one, other) = (limiters.of("desk"), limiters.of("desk"));
        assert!(Arc::ptr_eq(&one, &other) && !one.is_limiting());
        limiters.set("desk", slow);
        assert_eq!((one.limits(), limiters.limits("desk"), limiters.limits("slow")), (slow, slow, slow));
        limiters.set("desk", RateLimits::NONE);
        drop((one, other));
        drop(limiters.of("another"));
        assert_eq!(limiters.lock().keys().collect::<Vec<_>>(), ["another", "slow"]);
        assert_eq!(limiters.limits("desk"), RateLimits::NONE);
    }
}
