//! Waiting for a command's outcome.

use crate::command::Outcome;
use crate::error::Error;
use parking_lot::{Condvar, Mutex};

/// Holds the outcome of one command once the keeper has executed it.
#[derive(Debug, Default)]
pub struct Ticket {
    outcome: Mutex<Option<Result<Outcome, Error>>>,
    arrived: Condvar,
}

impl Ticket {
    pub(crate) fn settle(&self, outcome: Result<Outcome, Error>) {
        *self.outcome.lock() = Some(outcome);
        self.arrived.notify_all();
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
}
