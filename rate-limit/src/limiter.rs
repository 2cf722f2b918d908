//! The limits of one export, and when its next request may begin.

use crate::bucket::Bucket;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The shortest burst that counts. Timers are late, of a door's workers by up to a millisecond or two, and what is not used
/// while they are is used then.
const BURST_MIN: Duration = Duration::from_millis(10);
const BURST_USUAL: Duration = Duration::from_millis(100);

/// What may begin in a second. What is not set has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests of any kind.
    pub iops: Option<NonZeroU64>,
    /// Bytes of what is read and written.
    pub bytes_per_second: Option<NonZeroU64>,
    /// After a pause so much time's worth of requests and bytes may begin at once; at least 10 ms.
    pub burst: Duration,
}

impl RateLimits {
    /// No limits.
    pub const NONE: Self = Self { iops: None, bytes_per_second: None, burst: BURST_USUAL };

    /// Whether anything is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.iops.is_none() && self.bytes_per_second.is_none()
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::NONE
    }
}

/// What one request takes of its export's limits: itself, unless it is the rest of one that was paid for, and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub requests: u64,
    pub bytes: u64,
}

/// When a request may begin. It is paid for, whether it begins or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    due: Instant,
    /// Of which limits it is.
    edition: u64,
}

impl Turn {
    /// From when on it may begin.
    #[must_use]
    pub fn due(self) -> Instant {
        self.due
    }
}

/// Shared by all who serve an export.
#[derive(Debug)]
pub struct RateLimiter {
    /// Only read where nothing is limited (Q4).
    is_limiting: AtomicBool,
    state: Mutex<State>,
}

/// Without limits.
impl Default for RateLimiter {
    fn default() -> Self {
        Self::new(RateLimits::NONE)
    }
}

#[derive(Debug)]
struct State {
    limits: RateLimits,
    /// How often the limits were changed.
    edition: u64,
    requests: Bucket,
    bytes: Bucket,
}

impl RateLimiter {
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        let state = State { limits, edition: 0, requests: Bucket::default(), bytes: Bucket::default() };
        Self { is_limiting: AtomicBool::new(!limits.is_none()), state: Mutex::new(state) }
    }

    /// Whether [`RateLimiter::reserve`] need be asked at all.
    #[must_use]
    pub fn is_limiting(&self) -> bool {
        self.is_limiting.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn limits(&self) -> RateLimits {
        self.lock().limits
    }

    /// Other limits, from the next request on; what began before counts no more. Who waits for a turn must be told to
    /// [`RateLimiter::renew`] it.
    pub fn set(&self, limits: RateLimits) {
        let mut state = self.lock();
        let edition = state.edition + 1;
        *state = State { limits, edition, requests: Bucket::default(), bytes: Bucket::default() };
        self.is_limiting.store(!limits.is_none(), Ordering::Relaxed);
    }

    /// Takes what a request costs; nothing is returned when it may begin at once.
    #[must_use]
    pub fn reserve(&self, cost: Cost, now: Instant) -> Option<Turn> {
        self.lock().reserve(cost, now)
    }

    /// The turn of a request that waits, once the limits may have changed: the same, one of the new limits, or none where it may
    /// begin at once.
    #[must_use]
    pub fn renew(&self, turn: Turn, cost: Cost, now: Instant) -> Option<Turn> {
        let mut state = self.lock();
        if turn.edition != state.edition {
            return state.reserve(cost, now);
        }
        (turn.due > now).then_some(turn)
    }

    /// A thread that panicked has left the state as it was or as it should be.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn reserve(&mut self, cost: Cost, now: Instant) -> Option<Turn> {
        let burst = self.limits.burst.max(BURST_MIN);
        let mut due = now;
        let both = [
            (&mut self.requests, cost.requests, self.limits.iops),
            (&mut self.bytes, cost.bytes, self.limits.bytes_per_second),
        ];
        for (bucket, tokens, rate) in both {
            if let Some(rate) = rate.filter(|_| tokens > 0) {
                due = due.max(bucket.take(tokens, rate, burst, now));
            }
        }
        (due > now).then_some(Turn { due, edition: self.edition })
    }
}

#[cfg(test)]
mod tests;
