//! Waiting for a command's outcome; hearing how far a long one is, and ending it.

use crate::command::Outcome;
use crate::error::Error;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Holds the outcome of one command once the keeper has executed it.
#[derive(Debug, Default)]
pub struct Ticket {
    outcome: Mutex<Option<Result<Outcome, Error>>>,
    arrived: Condvar,
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

impl Ticket {
    pub(crate) fn settle(&self, outcome: Result<Outcome, Error>) {
        *self.outcome.lock() = Some(outcome);
        self.arrived.notify_all();
    }

    /// How far the command is.
    pub(crate) fn tell(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }

    /// Bytes looked at, of how many; both 0 before a check has begun and for every other command.
    pub fn progress(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Ends a check that is under way or waits for its turn, with [`Error::Cancelled`]. Other commands are carried out.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The outcome, if it has arrived; it is handed out once.
    pub fn take(&self) -> Option<Result<Outcome, Error>> {
        self.outcome.lock().take()
    }

    /// Blocks until the outcome arrives. Somebody must be running the keeper.
    pub fn wait(&self) -> Result<Outcome, Error> {
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(outcome) = outcome.take() {
                return outcome;
            }
            self.arrived.wait(&mut outcome);
        }
    }

    /// The outcome, unless it takes longer than this to arrive; it is handed out once.
    pub fn wait_for(&self, time: Duration) -> Option<Result<Outcome, Error>> {
        let mut outcome = self.outcome.lock();
        if outcome.is_none() {
            self.arrived.wait_for(&mut outcome, time);
        }
        outcome.take()
    }
}
