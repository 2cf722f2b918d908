//! Remembers every moment at which a crash may come: what the device could be left with, the crash tail, and what had
//! been promised by then.

use crate::model::Expectation;
use blockstore::OperationKind;
use blockstore::simulated::{CrashPoint, Event, Moment as Step};
use parking_lot::Mutex;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use thinpool::{Tail, TailImage};

/// What the engine is doing at a moment; several at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Checkpoint,
    JournalWrap,
    TailReplay,
    TailPowerLoss,
    Absorb,
    Free,
    Grow,
    Recovery,
}

impl Phase {
    pub(crate) const ALL: [Self; 8] = [
        Self::Checkpoint,
        Self::JournalWrap,
        Self::TailReplay,
        Self::TailPowerLoss,
        Self::Absorb,
        Self::Free,
        Self::Grow,
        Self::Recovery,
    ];
}

/// Some of the phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Phases([bool; Phase::ALL.len()]);

impl Phases {
    pub(crate) fn set(&mut self, phase: Phase, on: bool) {
        let at = Phase::ALL.iter().position(|other| *other == phase).expect("all phases are listed");
        self.0[at] = on;
    }

    pub(crate) fn add(&mut self, others: Self) {
        others.iter().for_each(|(at, _)| self.0[at] = true);
    }

    pub(crate) fn has(self, phase: Phase) -> bool {
        self.iter().any(|(_, other)| other == phase)
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (usize, Phase)> {
        Phase::ALL.into_iter().enumerate().filter(move |(at, _)| self.0[*at])
    }
}

/// A moment at which a crash may come.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) point: CrashPoint,
    pub(crate) tail: TailImage,
    /// Of the tail: states are told apart by it.
    pub(crate) tail_hash: u64,
    pub(crate) tail_records: bool,
    pub(crate) expectation: Arc<Expectation>,
    pub(crate) phases: Phases,
    /// The newest record of the tail is being written: only a kill is of interest here.
    pub(crate) torn: bool,
    /// Which channel is the keeper's, when it has shown itself.
    pub(crate) keeper: Option<u64>,
}

/// Where the journal is, in blocks of the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Journal {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

const BLOCK: u64 = 4096;
const SUPERBLOCK_FIRST: u64 = 1;
const SUPERBLOCK_LAST: u64 = 4;

#[derive(Debug)]
struct Inner {
    tail: Tail,
    expectation: Arc<Expectation>,
    phases: Phases,
    journal: Journal,
    journal_last: u64,
    /// The channel that the keeper uses: the first one that shows itself after the pool was opened.
    keeper: Option<u64>,
    superblock_written: bool,
    /// One moment in so many is kept.
    kept_in: usize,
    count: usize,
    moments: Vec<Moment>,
}

/// Collects moments; the device's observer holds one handle, the workload another.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    inner: Arc<Mutex<Inner>>,
}

impl Recorder {
    pub(crate) fn new(tail: Tail, expectation: Arc<Expectation>, journal: Journal) -> Self {
        let inner = Inner {
            tail,
            expectation,
            phases: Phases::default(),
            journal,
            journal_last: 0,
            keeper: None,
            superblock_written: false,
            kept_in: 1,
            count: 0,
            moments: Vec::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    pub(crate) fn expect(&self, expectation: Arc<Expectation>) {
        self.inner.lock().expectation = expectation;
    }

    /// The pool is about to be opened.
    pub(crate) fn next_keeper(&self) {
        self.inner.lock().keeper = None;
    }

    /// From now on one moment in so many is kept.
    pub(crate) fn keep_one_in(&self, many: usize) {
        self.inner.lock().kept_in = many;
    }

    pub(crate) fn phase(&self, phase: Phase, on: bool) {
        self.inner.lock().phases.set(phase, on);
    }

    /// After an event of the device.
    pub(crate) fn observe(&self, point: CrashPoint) {
        let mut inner = self.inner.lock();
        if let Some(event) = point.event() {
            inner.notice(&event);
        }
        inner.push(point);
    }

    /// Between two events of the device: the engine has answered, or changed its tail.
    pub(crate) fn between(&self, point: CrashPoint) {
        self.inner.lock().push(point);
    }

    /// The newest record of this lane of the tail is cut in the middle.
    pub(crate) fn torn(&self, point: CrashPoint, lane: usize) {
        let mut inner = self.inner.lock();
        if !inner.is_kept() {
            return;
        }
        let tail = inner.tail.torn_image(lane);
        let (expectation, phases, keeper) = (inner.expectation.clone(), inner.phases, inner.keeper);
        inner.moments.push(Moment {
            point,
            tail_hash: hash_of(&tail),
            tail,
            tail_records: true,
            expectation,
            phases,
            torn: true,
            keeper,
        });
    }

    pub(crate) fn take(&self) -> Vec<Moment> {
        std::mem::take(&mut self.inner.lock().moments)
    }
}

impl Inner {
    fn is_kept(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(self.kept_in)
    }

    fn push(&mut self, point: CrashPoint) {
        if !self.is_kept() {
            return;
        }
        let (tail, expectation, phases) = (self.tail.image(), self.expectation.clone(), self.phases);
        let tail_records = self.tail.bytes_used() > 0;
        let keeper = self.keeper;
        let tail_hash = hash_of(&tail);
        let torn = false;
        self.moments.push(Moment { point, tail, tail_hash, tail_records, expectation, phases, torn, keeper });
    }

    /// Tells what the keeper is doing from where it writes: nodes and bitmaps are written by checkpoints only, and a
    /// checkpoint ends with the flush after its superblock.
    fn notice(&mut self, event: &Event) {
        let operation = event.operation;
        if *self.keeper.get_or_insert(operation.channel) != operation.channel {
            return;
        }
        let block = operation.offset / BLOCK;
        match (operation.kind, event.moment) {
            (OperationKind::Write, Step::Submitted)
                if (SUPERBLOCK_FIRST..=SUPERBLOCK_LAST).contains(&block) =>
            {
                self.superblock_written = true;
                self.phases.set(Phase::Checkpoint, true);
            }
            (OperationKind::Write, Step::Submitted)
                if (self.journal.start..self.journal.end).contains(&block) =>
            {
                if block < self.journal_last {
                    self.phases.set(Phase::JournalWrap, true);
                }
                self.journal_last = block;
            }
            (OperationKind::Write, Step::Submitted) => self.phases.set(Phase::Checkpoint, true),
            (OperationKind::Flush, Step::Completed) if self.superblock_written => {
                self.superblock_written = false;
                self.phases.set(Phase::Checkpoint, false);
                self.phases.set(Phase::JournalWrap, false);
            }
            _ => {}
        }
    }
}

fn hash_of(tail: &TailImage) -> u64 {
    let mut hasher = DefaultHasher::new();
    tail.hash(&mut hasher);
    hasher.finish()
}
