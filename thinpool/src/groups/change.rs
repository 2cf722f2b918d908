//! The steps of a block's life that follow its reservation.
//!
//! A step that does not fit the state of its blocks is a bug where this program's own books are concerned, and a finding
//! where the caller works from a journal or a check: `try_` variants return it.

use super::books::{State, Step};
use super::{GroupKind, Groups, Run, SLOT_BLOCKS, number_of};
use std::ops::Range;

/// A step that does not fit. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    #[error("{} blocks from {} on are not within the usable part of one group", .0.length, .0.address)]
    Outside(Run),
    #[error("{} blocks from {} on are not all {expected:?}", .run.length, .run.address)]
    State { run: Run, expected: State },
    #[error("{} blocks from {} on do not belong into a group of {kind:?}", .run.length, .run.address)]
    Kind { run: Run, kind: GroupKind },
}

impl Groups {
    /// A record holds the reserved run now.
    ///
    /// Panics if it is not reserved.
    pub(crate) fn commit(&mut self, run: Run) {
        self.must(run, Step::COMMIT);
    }

    /// The request gives up its reservation.
    ///
    /// Panics if the run is not reserved.
    pub(crate) fn unreserve(&mut self, run: Run) {
        self.must(run, Step::UNRESERVE);
    }

    /// A record freed the run; it stays out of reach until [`Groups::release`].
    ///
    /// Panics if it is not allocated: that is a double free.
    pub(crate) fn free(&mut self, run: Run) {
        self.must(run, Step::FREE);
    }

    /// [`Groups::free`] for records out of a journal.
    pub(crate) fn try_free(&mut self, run: Run) -> Result<(), Misuse> {
        self.step(run, Step::FREE)
    }

    /// The quarantine of a freed run is over.
    ///
    /// Panics if the run is not quarantined.
    pub(crate) fn release(&mut self, run: Run) {
        self.must(run, Step::RELEASE);
    }

    /// [`Groups::release`], and the device still holds space for the blocks.
    ///
    /// Panics if the run is not quarantined.
    pub(crate) fn release_kept(&mut self, run: Run) {
        self.must(run, Step::RELEASE);
        let (number, range) = self.locate(run).expect("a run that was released lies in a group");
        self.change(number, |group| group.keep(range));
    }

    /// Replay: a record out of the journal holds the run. An unused group takes on the kind: the record proves that the
    /// file had space for it.
    pub(crate) fn mark(&mut self, kind: GroupKind, run: Run) -> Result<(), Misuse> {
        let (number, range) = self.locate(run)?;
        if !self.change(number, |group| group.adopt(kind)) {
            return Err(Misuse::Kind { run, kind });
        }
        self.step_at(number, range, run, Step::MARK)
    }

    fn must(&mut self, run: Run, step: Step) {
        if let Err(misuse) = self.step(run, step) {
            panic!("the allocator's books are wrong: {misuse}");
        }
    }

    fn step(&mut self, run: Run, step: Step) -> Result<(), Misuse> {
        let (number, range) = self.locate(run)?;
        self.step_at(number, range, run, step)
    }

    fn step_at(&mut self, number: usize, range: Range<usize>, run: Run, step: Step) -> Result<(), Misuse> {
        let outcome = self.change(number, |group| group.apply(range, step));
        outcome.map_err(|_| Misuse::State { run, expected: step.from })
    }

    /// The group of a run and the run's place in it.
    fn locate(&self, run: Run) -> Result<(usize, Range<usize>), Misuse> {
        let outside = Misuse::Outside(run);
        let index = self.geometry.group_of(run.address).ok_or(outside)?;
        let distance = run.address.0.checked_sub(self.geometry.first_block(index).0).ok_or(outside)?;
        let start = usize::try_from(distance).map_err(|_| outside)?;
        let length = usize::try_from(run.length.0).map_err(|_| outside)?;
        let end = start.checked_add(length).ok_or(outside)?;
        let number = number_of(index);
        if start < SLOT_BLOCKS || end > self.groups[number].length() || length == 0 {
            return Err(outside);
        }
        Ok((number, start..end))
    }
}
