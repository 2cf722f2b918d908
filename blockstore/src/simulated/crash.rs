//! A moment of a device's life, from which the disks follow that a crash at this moment can leave.
//!
//! *Pending* is every change not known to be durable: completed ones in the order they took effect, then those in
//! flight in the order they were submitted. A power cut leaves the durable image and any of them; the death of the
//! process leaves all that has completed and any of those in flight.

use super::chance::Chance;
use super::disk::SimulatedDisk;
use super::effect::{Effect, Tear};
use super::profile::Atomicity;
use crate::operation::OperationKind;
use std::sync::Arc;

/// Which operation, without its bytes. Offset and length are 0 where it has none; a resize has its new size as length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OperationLabel {
    /// Channels are numbered from 0, in the order they were opened.
    pub channel: u64,
    pub kind: OperationKind,
    pub offset: u64,
    pub length: u64,
}

/// Which of an operation's two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The device has taken it and done nothing yet.
    Submitted,
    /// It has taken effect and its caller does not know yet.
    Completed,
}

/// One moment that a crash may be at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Counts from 1 on each device.
    pub number: u64,
    pub moment: Moment,
    pub operation: OperationLabel,
}

/// A change that a power cut may keep or lose.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// Number of the event at which it was submitted; names it.
    pub(super) submitted: u64,
    /// Number of the event at which it completed; `None` while in flight.
    pub(super) completed: Option<u64>,
    /// Whether the current image has it.
    pub(super) performed: bool,
    pub(super) operation: OperationLabel,
    pub(super) effect: Arc<Effect>,
}

impl Pending {
    /// Whether both were in flight at one time, so that they have no order.
    fn concurrent(&self, later: &Self) -> bool {
        self.completed.is_none_or(|completed| later.submitted < completed)
    }
}

/// The state of a device between two of its steps. Cheap: it shares everything with the device.
#[derive(Debug, Clone)]
pub struct CrashPoint {
    pub(super) event: Option<Event>,
    pub(super) atomicity: Atomicity,
    pub(super) durable: SimulatedDisk,
    pub(super) current: SimulatedDisk,
    pub(super) pending: Vec<Pending>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kept {
    index: usize,
    tear: Option<Tear>,
}

/// Which pending changes a crash keeps, in which order they reach the medium, and which of them it tears.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Choice {
    kept: Vec<Kept>,
}

impl Choice {
    /// Nothing pending is kept.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The changes with these indexes, in this order.
    #[must_use]
    pub fn of(indexes: impl IntoIterator<Item = usize>) -> Self {
        Self { kept: indexes.into_iter().map(|index| Kept { index, tear: None }).collect() }
    }

    /// The changes whose bits are set; bit i stands for index i.
    #[must_use]
    pub fn mask(mask: u64) -> Self {
        Self::of((0..64).filter(|index| mask >> index & 1 == 1))
    }

    /// The same, and the change with this index is torn. It must be among those kept.
    #[must_use]
    pub fn tearing(mut self, index: usize, tear: Tear) -> Self {
        let kept = self.kept.iter_mut().find(|kept| kept.index == index);
        kept.expect("only a change that is kept can be torn").tear = Some(tear);
        self
    }
}

impl CrashPoint {
    /// What the device has done last.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        self.event
    }

    /// What is certain to survive a power cut.
    #[must_use]
    pub fn durable(&self) -> &SimulatedDisk {
        &self.durable
    }

    /// What reads see.
    #[must_use]
    pub fn current(&self) -> &SimulatedDisk {
        &self.current
    }

    /// The changes that are not durable; a [`Choice`] names them by their index here.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = OperationLabel> {
        self.pending.iter().map(|pending| pending.operation)
    }

    /// How many sectors of 512 bytes a pending change writes: what a tear can be in. 0 for a change of size.
    #[must_use]
    pub fn sectors(&self, index: usize) -> usize {
        self.pending[index].effect.sectors()
    }

    /// Index of the first pending change that is in flight; all after it are too.
    #[must_use]
    pub fn in_flight_start(&self) -> usize {
        self.pending.iter().position(|pending| !pending.performed).unwrap_or(self.pending.len())
    }

    /// Everything pending is kept.
    #[must_use]
    pub fn all(&self) -> Choice {
        Choice::of(0..self.pending.len())
    }

    /// The same changes in another order that the device might have chosen: only changes that were in flight together
    /// and overlap change places.
    #[must_use]
    pub fn reordered(&self, mut choice: Choice, seed: u64) -> Choice {
        let mut chance = Chance::new(seed);
        for _ in 1..choice.kept.len() {
            for at in 1..choice.kept.len() {
                let (first, second) = (choice.kept[at - 1].index, choice.kept[at].index);
                if self.may_swap(first, second) && chance.coin() {
                    choice.kept.swap(at - 1, at);
                }
            }
        }
        choice
    }

    /// Whether any two pending changes could also have taken effect in the other order, to a different end.
    #[must_use]
    pub fn has_races(&self) -> bool {
        (1..self.pending.len()).any(|later| {
            (0..later).any(|first| {
                self.may_swap(first, later)
                    && self.pending[first].effect.overlaps(&self.pending[later].effect)
            })
        })
    }

    /// The disk after the power failed and came back.
    #[must_use]
    pub fn power_cut(&self, choice: &Choice) -> SimulatedDisk {
        let mut disk = self.durable.clone();
        choice.kept.iter().for_each(|kept| self.keep(*kept, &mut disk));
        disk
    }

    /// The disk after the process was killed: of the choice, only what is in flight counts.
    #[must_use]
    pub fn kill(&self, choice: &Choice) -> SimulatedDisk {
        let mut disk = self.current.clone();
        let in_flight = choice.kept.iter().filter(|kept| !self.pending[kept.index].performed);
        in_flight.for_each(|kept| self.keep(*kept, &mut disk));
        disk
    }

    /// What is still pending after the process was killed: all that had completed, and what the choice keeps of the rest.
    pub(super) fn pending_after_kill(&self, choice: &Choice) -> Vec<Pending> {
        let (done, _) = self.pending.split_at(self.in_flight_start());
        let in_flight = choice.kept.iter().filter(|kept| !self.pending[kept.index].performed).map(|kept| {
            let pending = self.pending[kept.index].clone();
            match kept.tear {
                Some(tear) => {
                    Pending { effect: Arc::new(pending.effect.torn(tear, self.atomicity)), ..pending }
                }
                None => pending,
            }
        });
        let all = done.iter().cloned().chain(in_flight);
        // As if it had completed before the first event: a flush of the next process covers it.
        all.map(|pending| Pending { submitted: 0, completed: Some(0), performed: true, ..pending }).collect()
    }

    fn keep(&self, kept: Kept, disk: &mut SimulatedDisk) {
        let effect = &self.pending[kept.index].effect;
        match kept.tear {
            Some(tear) => effect.torn(tear, self.atomicity).apply(disk),
            None => effect.apply(disk),
        }
    }

    fn may_swap(&self, first: usize, second: usize) -> bool {
        let (first, second) = (&self.pending[first], &self.pending[second]);
        let (earlier, later) =
            if first.submitted < second.submitted { (first, second) } else { (second, first) };
        earlier.concurrent(later)
    }
}
