//! Waiting for grace periods, shared: whoever asks gets the number of one that begins after the question.

use crate::core::Core;
use crate::ids::CommitNumber;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of grace periods asked for, begun, and over.
#[derive(Debug, Default)]
pub(crate) struct Grace {
    pub(crate) wanted: AtomicU64,
    pub(crate) started: AtomicU64,
    pub(crate) over: AtomicU64,
}

impl Grace {
    /// Asks for a grace period that begins after this call.
    pub(crate) fn want(&self, core: &Core) -> CommitNumber {
        let next = self.started.load(Ordering::SeqCst) + 1;
        self.wanted.fetch_max(next, Ordering::SeqCst);
        core.keeper.ring();
        CommitNumber(next)
    }

    /// Whether somebody waits for requests in flight to end.
    pub(crate) fn is_under_way(&self) -> bool {
        self.started.load(Ordering::SeqCst) > self.over.load(Ordering::SeqCst)
    }

    pub(crate) fn is_over(&self, number: CommitNumber) -> bool {
        self.over.load(Ordering::SeqCst) >= number.0
    }
}
