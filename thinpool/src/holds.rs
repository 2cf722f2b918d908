//! Writes that find no space and wait for it, for as long as the pool's owner has said. They keep their range locked and
//! nothing else: not the epoch, so that snapshots go on, nor a place on their channel, so that its other requests do.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Times are those of the keeper's clock.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: Duration,
    /// Longest time a write waits; none fails it at once.
    longest: Duration,
    held: u64,
    /// When the first of them may have waited long enough.
    next: Option<Duration>,
}

/// A write's wait for space: counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Arc<Holds>,
    until: Duration,
}

impl Holds {
    pub(crate) fn set_longest(&self, longest: Duration) {
        self.0.lock().longest = longest;
    }

    /// How many wait.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().held
    }

    pub(crate) fn tell_time(&self, now: Duration) {
        self.0.lock().now = now;
    }

    /// Begins a wait, or goes on with one; none when there is no time left for it.
    pub(crate) fn hold(self: &Arc<Self>, begun: Option<Hold>) -> Option<Hold> {
        let mut state = self.0.lock();
        let hold = match begun {
            Some(hold) => hold,
            None => {
                state.held += 1;
                Hold { holds: self.clone(), until: state.now.saturating_add(state.longest) }
            }
        };
        if state.now < hold.until {
            state.next = Some(state.next.map_or(hold.until, |next| next.min(hold.until)));
            return Some(hold);
        }
        // Dropping it takes the lock.
        drop(state);
        drop(hold);
        None
    }

    /// Whether somebody may have waited long enough since it was asked last.
    pub(crate) fn is_over(&self) -> bool {
        let mut state = self.0.lock();
        let now = state.now;
        state.next.take_if(|next| *next <= now).is_some()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.0.lock().held -= 1;
    }
}
