//! Writes that find no space and wait for it, for as long as the pool's owner has said. They keep the lock of their range and
//! nothing else: not the epoch, so that snapshots go on, nor a place on their channel, so that its other requests do.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Times are those of the keeper's clock.
#[derive(Debug, Default)]
pub(crate) struct SpaceWaits(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Longest time a write waits; none fails it at once.
    longest: Duration,
    waiting: u64,
    /// When the first of them may have waited long enough.
    next: Option<Duration>,
}

/// The wait of one request. Its time is that since it first found no space, whatever it has found meanwhile.
#[derive(Debug)]
pub(crate) struct SpaceWait {
    waits: Arc<SpaceWaits>,
    since: Duration,
    is_waiting: bool,
}

/// What a request does that has found no space.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// From now on whoever frees some sees that it waits; some may have been freed a moment before.
    LookOnceMore,
    Wait,
    Fail,
}

impl SpaceWaits {
    pub(crate) fn set_longest(&self, longest: Duration) {
        self.0.lock().longest = longest;
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> u64 {
        self.0.lock().waiting
    }

    /// Begins the request's wait, or goes on with it.
    pub(crate) fn judge(self: &Arc<Self>, wait: &mut Option<SpaceWait>, now: Duration) -> Verdict {
        let mut state = self.0.lock();
        let wait =
            wait.get_or_insert_with(|| SpaceWait { waits: self.clone(), since: now, is_waiting: false });
        let until = state.end_of(wait.since);
        if now >= until {
            return Verdict::Fail;
        }
        state.next = Some(state.next.map_or(until, |next| next.min(until)));
        if wait.is_waiting {
            return Verdict::Wait;
        }
        state.waiting += 1;
        wait.is_waiting = true;
        Verdict::LookOnceMore
    }

    /// Whether somebody may have waited long enough since it was asked last.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        let mut state = self.0.lock();
        state.next.take_if(|next| *next <= now).is_some()
    }
}

impl State {
    fn end_of(&self, since: Duration) -> Duration {
        since.saturating_add(self.longest)
    }
}

impl SpaceWait {
    /// Whether its time is over.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        now >= self.waits.0.lock().end_of(self.since)
    }

    /// It has found some.
    pub(crate) fn interrupt(&mut self) {
        if std::mem::take(&mut self.is_waiting) {
            self.waits.0.lock().waiting -= 1;
        }
    }
}

impl Drop for SpaceWait {
    fn drop(&mut self) {
        self.interrupt();
    }
}
