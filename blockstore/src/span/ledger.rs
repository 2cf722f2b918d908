//! Whether a member has anything that a flush must make durable (B2, B9).

use crate::error::IoError;
use crate::operation::{Durability, Operation};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What has been done to one member, counted when its completion is polled: an operation that is still in flight when a
/// flush is submitted is none of that flush's.
#[derive(Debug)]
pub(super) struct Ledger {
    changes: CachePadded<AtomicU64>,
    /// Changes that a successful flush has covered.
    flushed: AtomicU64,
    /// Something failed: every flush asks this member from now on, so that its own distrust is heard.
    in_doubt: AtomicBool,
}

/// How many changes a flush covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// What an operation leaves to be flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// Durable by itself when it succeeds.
    Durable,
    Volatile,
}

impl Effect {
    pub(super) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Read { .. } | Operation::Flush => Effect::Nothing,
            Operation::Write { durability: Durability::Through, .. } | Operation::Resize { .. } => {
                Effect::Durable
            }
            Operation::Write { .. }
            | Operation::Discard { .. }
            | Operation::WriteZeroes { .. }
            | Operation::Allocate { .. } => Effect::Volatile,
        }
    }
}

impl Default for Ledger {
    /// What a process before this one has left in caches is the first flush's to make durable.
    fn default() -> Self {
        Self {
            changes: CachePadded::new(AtomicU64::new(1)),
            flushed: AtomicU64::new(0),
            in_doubt: AtomicBool::new(false),
        }
    }
}

impl Ledger {
    /// An operation has completed.
    pub(super) fn note(&self, effect: Effect, result: Result<(), IoError>) {
        if effect == Effect::Volatile {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
        if effect != Effect::Nothing && result.is_err() {
            self.in_doubt.store(true, Ordering::SeqCst);
        }
    }

    /// What a flush submitted now covers; `None` when nothing has to be flushed.
    pub(super) fn due(&self) -> Option<Mark> {
        let flushed = self.flushed.load(Ordering::SeqCst);
        let changes = self.changes.load(Ordering::SeqCst);
        (flushed < changes || self.in_doubt.load(Ordering::SeqCst)).then_some(Mark(changes))
    }

    /// A flush has completed.
    pub(super) fn settle(&self, mark: Mark, result: Result<(), IoError>) {
        match result {
            Ok(()) => {
                self.flushed.fetch_max(mark.0, Ordering::SeqCst);
            }
            Err(_) => self.in_doubt.store(true, Ordering::SeqCst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Effect, Ledger};
    use crate::error::IoError;

    fn flushed() -> Ledger {
        let ledger = Ledger::default();
        let first = ledger.due().expect("what others have left");
        ledger.settle(first, Ok(()));
        ledger
    }

    #[test]
    fn a_flush_is_due_at_first_and_after_each_volatile_change() {
        let ledger = flushed();
        assert_eq!(ledger.due(), None);
        for effect in [Effect::Nothing, Effect::Durable] {
            ledger.note(effect, Ok(()));
            assert_eq!(ledger.due(), None, "{effect:?}");
        }
        ledger.note(Effect::Volatile, Ok(()));
        assert!(ledger.due().is_some());
    }

    #[test]
    fn a_flush_covers_only_what_had_completed_when_it_was_submitted() {
        let ledger = flushed();
        ledger.note(Effect::Volatile, Ok(()));
        let mark = ledger.due().expect("one change");
        ledger.note(Effect::Volatile, Ok(()));
        ledger.settle(mark, Ok(()));
        assert!(ledger.due().is_some(), "the later change is not durable");
    }

    #[test]
    fn a_member_that_failed_is_asked_by_every_flush() {
        for effect in [Effect::Volatile, Effect::Durable] {
            let ledger = flushed();
            ledger.note(effect, Err(IoError::EIO));
            for _ in 0..2 {
                let mark = ledger.due().expect("in doubt");
                ledger.settle(mark, Ok(()));
            }
        }
        let ledger = flushed();
        ledger.note(Effect::Volatile, Ok(()));
        let (one, other) = (ledger.due().expect("due"), ledger.due().expect("due"));
        ledger.settle(one, Err(IoError::EIO));
        ledger.settle(other, Ok(()));
        assert!(ledger.due().is_some(), "a flush that succeeded beside one that failed proves nothing");
    }
}
