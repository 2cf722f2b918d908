//! Grace periods: when has every request that was in flight a moment ago completed?
//!
//! A request enters the current epoch before it looks anything up and leaves when it completes. A grace period turns
//! the epoch and waits until nobody is left in the old one. Two counters per channel are enough because epochs are
//! turned one at a time (sleepable RCU, McKenney 2006).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Which of a channel's two counters a request is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(usize);

/// The pool's epoch.
#[derive(Debug, Default)]
pub(crate) struct EpochClock {
    turned: AtomicU64,
}

/// Requests in flight on one channel, by the parity of the epoch they entered.
#[derive(Debug, Default)]
pub(crate) struct EpochCounts {
    counts: [AtomicU32; 2],
}

impl EpochClock {
    fn parity(&self) -> usize {
        usize::from(self.turned.load(Ordering::SeqCst) % 2 == 1)
    }

    /// Starts a grace period; returns the epoch that must drain. Only one may be under way.
    pub(crate) fn turn(&self) -> Epoch {
        let old = self.parity();
        self.turned.fetch_add(1, Ordering::SeqCst);
        Epoch(old)
    }
}

impl EpochCounts {
    pub(crate) fn enter(&self, clock: &EpochClock) -> Epoch {
        loop {
            let parity = clock.parity();
            self.counts[parity].fetch_add(1, Ordering::SeqCst);
            if clock.parity() == parity {
                return Epoch(parity);
            }
            // The epoch turned in between: whoever turned it may not have seen this request.
            self.counts[parity].fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Returns whether the epoch it leaves is empty now.
    pub(crate) fn leave(&self, epoch: Epoch) -> bool {
        self.counts[epoch.0].fetch_sub(1, Ordering::SeqCst) == 1
    }

    pub(crate) fn is_drained(&self, epoch: Epoch) -> bool {
        self.counts[epoch.0].load(Ordering::SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{EpochClock, EpochCounts};

    #[test]
    fn a_grace_period_waits_for_requests_that_entered_before_it_and_no_others() {
        let clock = EpochClock::default();
        let counts = EpochCounts::default();
        let before = counts.enter(&clock);
        let draining = clock.turn();
        let after = counts.enter(&clock);
        assert!(!counts.is_drained(draining));
        assert!(counts.leave(before));
        assert!(counts.is_drained(draining));
        counts.leave(after);
    }
}
