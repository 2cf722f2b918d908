//! The state of a simulated device, and what each operation does to it.
//!
//! An operation has two moments. *Submitted*: its result is decided, and a change is on the list of pending ones.
//! *Completed*: it takes effect. Only a resize takes effect when it is submitted, because B3 lets the next submission
//! count on it. Two images: `current` has all that took effect, `durable` what a power cut cannot take away.
//!
//! A flush makes durable what had completed before it was *submitted* (B2). A change that becomes durable overtakes
//! those that took effect before it and are still pending: they cannot come back over it.

use super::chance::Chance;
use super::crash::{CrashPoint, Event, Moment, OperationLabel, Pending};
use super::disk::SimulatedDisk;
use super::effect::{Effect, Tear};
use super::page::PAGE_BYTES_U64;
use super::profile::{AfterFailedFlush, Atomicity, CompletionOrder, Discards, Fault, Profile};
use super::read_log::ReadLog;
use crate::buffer::Buffer;
use crate::error::IoError;
use crate::legality::{self, Geometry, bytes};
use crate::operation::{Completion, Durability, Operation, OperationKind, Submission};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One read or write in so many is a straggler, where there are any.
const STRAGGLER_IN: u64 = 8;

pub(super) struct Medium {
    profile: Profile,
    chance: Chance,
    durable: SimulatedDisk,
    current: SimulatedDisk,
    /// In the order of effect, then, for those in flight, of submission.
    pending: Vec<Pending>,
    jobs: Vec<Job>,
    events: u64,
    last: Option<Event>,
    halt_after: Option<u64>,
    flush_failed: bool,
    counts: Counts,
    /// Pages that have their place; counted only when there is a capacity.
    placed: BTreeSet<u64>,
    reads: Option<ReadLog>,
}

/// How many operations of each kind were submitted, for the faults that count them.
#[derive(Default)]
struct Counts {
    reads: u64,
    writes: u64,
    flushes: u64,
}

/// An operation in flight.
struct Job {
    channel: u64,
    /// Number of the event at which it was submitted; names it.
    number: u64,
    /// Polls that do not complete it yet.
    due: u64,
    submission: Submission,
    work: Work,
}

/// What completing an operation means.
enum Work {
    /// Nothing happens.
    Answer(Result<(), IoError>),
    Read {
        at: u64,
    },
    /// The pending change with the job's number takes effect, and this is the answer.
    Change {
        result: Result<(), IoError>,
        durability: Durability,
    },
    Flush(FlushFate),
}

enum FlushFate {
    Honest,
    Fails,
    Ignored,
}

impl Medium {
    pub(super) fn new(disk: SimulatedDisk, profile: Profile, seed: u64) -> Self {
        let placed =
            if profile.capacity.is_some() { disk.written_pages().collect() } else { BTreeSet::new() };
        Self {
            profile,
            chance: Chance::new(seed),
            durable: disk.clone(),
            current: disk,
            pending: Vec::new(),
            jobs: Vec::new(),
            events: 0,
            last: None,
            halt_after: None,
            flush_failed: false,
            counts: Counts::default(),
            placed,
            reads: None,
        }
    }

    /// Only this is durable, and the rest of the present contents is pending.
    pub(super) fn owe(&mut self, durable: SimulatedDisk, pending: Vec<Pending>) {
        self.durable = durable;
        self.pending = pending;
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry {
            size: self.current.size(),
            alignment: self.profile.alignment,
            read_only: false,
            can_discard: self.profile.discards == Discards::Supported,
        }
    }

    pub(super) fn current(&self) -> &SimulatedDisk {
        &self.current
    }

    pub(super) fn durable(&self) -> &SimulatedDisk {
        &self.durable
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn halt_after(&mut self, events: u64) {
        self.halt_after = Some(events);
    }

    pub(super) fn set_capacity(&mut self, bytes: u64) {
        assert!(self.profile.capacity.is_some(), "pages that have their place are not counted");
        self.profile.capacity = Some(bytes);
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halt_after.is_some_and(|most| self.events >= most)
    }

    pub(super) fn reads(&mut self) -> &mut Option<ReadLog> {
        &mut self.reads
    }

    /// Everything about this moment.
    pub(super) fn crash_point(&self) -> CrashPoint {
        CrashPoint {
            event: self.last,
            atomicity: self.profile.atomicity,
            durable: self.durable.clone(),
            current: self.current.clone(),
            pending: self.pending.clone(),
        }
    }

    /// Takes an operation.
    pub(super) fn accept(&mut self, channel: u64, submission: Submission) {
        let operation = label(channel, &submission.operation);
        self.events += 1;
        let number = self.events;
        let work = match legality::check(&submission.operation, &self.geometry()) {
            Ok(()) => self.plan(channel, number, &submission.operation),
            Err(error) => Work::Answer(Err(error)),
        };
        let mut due = self.chance.below(self.profile.latency_polls_max + 1);
        due += match operation.kind {
            OperationKind::Discard => self.profile.discard_delay_polls,
            OperationKind::Read | OperationKind::Write if self.profile.straggler_delay_polls > 0 => {
                self.profile.straggler_delay_polls * u64::from(self.chance.below(STRAGGLER_IN) == 0)
            }
            _ => 0,
        };
        self.jobs.push(Job { channel, number, due, submission, work });
        self.last = Some(Event { number, moment: Moment::Submitted, operation });
    }

    /// The channel's operations that complete in this poll, in the order they do.
    pub(super) fn due(&mut self, channel: u64) -> Vec<u64> {
        let in_order = self.profile.order == CompletionOrder::Submission;
        let mut due = Vec::new();
        let mut blocked = false;
        for job in self.jobs.iter_mut().filter(|job| job.channel == channel) {
            if job.due == 0 && !blocked {
                due.push(job.number);
            } else {
                blocked |= in_order;
                job.due = job.due.saturating_sub(1);
            }
        }
        if !in_order {
            self.chance.shuffle(&mut due);
        }
        due
    }

    /// Lets the channel's next poll find something; false when nothing is in flight.
    pub(super) fn hasten(&mut self, channel: u64) -> bool {
        let mut jobs = self.jobs.iter_mut().filter(|job| job.channel == channel);
        let next = match self.profile.order {
            CompletionOrder::Submission => jobs.next(),
            CompletionOrder::Any => jobs.min_by_key(|job| job.due),
        };
        next.map(|job| job.due = 0).is_some()
    }

    /// Numbers of everything the channel has in flight.
    pub(super) fn in_flight(&self, channel: u64) -> Vec<u64> {
        self.jobs.iter().filter(|job| job.channel == channel).map(|job| job.number).collect()
    }

    /// Ends an operation in flight.
    pub(super) fn complete(&mut self, number: u64) -> Completion {
        let at = self.jobs.iter().position(|job| job.number == number).expect("the operation is in flight");
        let mut job = self.jobs.remove(at);
        self.events += 1;
        let operation = label(job.channel, &job.submission.operation);
        self.last = Some(Event { number: self.events, moment: Moment::Completed, operation });
        let result = match job.work {
            Work::Answer(result) => result,
            Work::Read { at } => {
                if let Operation::Read { buffer, .. } = &mut job.submission.operation {
                    if buffer.is_lent() {
                        let mut bytes = Buffer::zeroed(buffer.len());
                        self.read(at, &mut bytes);
                        buffer.copy_from(0, &bytes);
                    } else {
                        self.read(at, buffer);
                    }
                }
                Ok(())
            }
            Work::Change { result, durability } => {
                self.perform(number);
                self.completed(number, result.is_ok() && durability == Durability::Through);
                result
            }
            Work::Flush(fate) => self.flush(number, fate),
        };
        Completion::of(job.submission, result)
    }

    /// Decides what will come of a legal operation and puts a change on the list.
    fn plan(&mut self, channel: u64, number: u64, operation: &Operation) -> Work {
        let named = label(channel, operation);
        match operation {
            Operation::Read { offset, buffer } => self.plan_read(*offset, bytes(buffer.len())),
            Operation::Write { buffer, durability, .. } => {
                let copy = buffer.is_lent().then(|| buffer.copied());
                self.plan_write(number, named, copy.as_ref().unwrap_or(buffer), *durability)
            }
            Operation::Flush => self.plan_flush(),
            Operation::Discard { offset, length } => {
                self.unplace(*offset, *length);
                self.plan_change(number, named, Effect::zeros(*offset, *length))
            }
            Operation::WriteZeroes { offset, length } => match self.place(*offset, *length) {
                Ok(()) => self.plan_change(number, named, Effect::zeros(*offset, *length)),
                Err(error) => Work::Answer(Err(error)),
            },
            Operation::Allocate { offset, length } => Work::Answer(self.place(*offset, *length)),
            Operation::Resize { length } => {
                let work = self.plan_change(number, named, Effect::Size(*length));
                self.perform(number);
                work
            }
        }
    }

    fn plan_read(&mut self, offset: u64, length: u64) -> Work {
        let nth = self.counts.reads;
        self.counts.reads += 1;
        let mut at = offset;
        for fault in &self.profile.faults {
            match fault {
                Fault::ReadError { nth: planned } if *planned == nth => {
                    return Work::Answer(Err(IoError::EIO));
                }
                Fault::ReadMisdirected { nth: planned, by } if *planned == nth => {
                    at = self.misdirected(offset, length, *by);
                }
                _ => {}
            }
        }
        Work::Read { at }
    }

    fn plan_write(
        &mut self,
        number: u64,
        named: OperationLabel,
        from: &[u8],
        durability: Durability,
    ) -> Work {
        let nth = self.counts.writes;
        self.counts.writes += 1;
        let (mut at, mut result, mut tear) = (named.offset, Ok(()), None);
        for fault in &self.profile.faults {
            match fault {
                Fault::WriteError { nth: planned } if *planned == nth => {
                    return Work::Answer(Err(IoError::EIO));
                }
                Fault::WriteLost { nth: planned } if *planned == nth => return Work::Answer(Ok(())),
                Fault::WriteTorn { nth: planned } if *planned == nth => {
                    (result, tear) = (Err(IoError::EIO), Some(Tear::Subset { seed: self.chance.next() }));
                }
                Fault::WriteMisdirected { nth: planned, by } if *planned == nth => {
                    at = self.misdirected(named.offset, named.length, *by);
                }
                _ => {}
            }
        }
        if let Err(error) = self.place(at, named.length) {
            return Work::Answer(Err(error));
        }
        let mut effect = Effect::write(at, from);
        if let Some(tear) = tear {
            effect = effect.torn(tear, Atomicity::Sector);
            self.flush_failed = true;
        }
        self.put(number, OperationLabel { offset: at, ..named }, effect);
        Work::Change { result, durability }
    }

    fn plan_flush(&mut self) -> Work {
        let nth = self.counts.flushes;
        self.counts.flushes += 1;
        let fate = self.profile.faults.iter().find_map(|fault| match fault {
            Fault::FlushError { nth: planned } if *planned == nth => Some(FlushFate::Fails),
            Fault::FlushIgnored { nth: planned } if *planned == nth => Some(FlushFate::Ignored),
            _ => None,
        });
        Work::Flush(fate.unwrap_or(FlushFate::Honest))
    }

    fn plan_change(&mut self, number: u64, operation: OperationLabel, effect: Effect) -> Work {
        self.put(number, operation, effect);
        Work::Change { result: Ok(()), durability: Durability::Cached }
    }

    fn put(&mut self, submitted: u64, operation: OperationLabel, effect: Effect) {
        let effect = Arc::new(effect);
        self.pending.push(Pending { submitted, completed: None, performed: false, operation, effect });
    }

    /// `by` bytes behind, or so many from the start if that is behind the end.
    fn misdirected(&self, offset: u64, length: u64, by: u64) -> u64 {
        let unit = bytes(self.profile.alignment);
        let places = (self.current.size() - length) / unit + 1;
        (offset / unit + by / unit) % places * unit
    }

    /// Bytes that can still find a place.
    pub(super) fn room(&self) -> u64 {
        let placed = bytes(self.placed.len()) * PAGE_BYTES_U64;
        self.profile.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(placed))
    }

    /// Finds a place for every page of the range, or for none.
    fn place(&mut self, offset: u64, length: u64) -> Result<(), IoError> {
        let Some(capacity) = self.profile.capacity else { return Ok(()) };
        let pages = offset / PAGE_BYTES_U64..(offset + length).div_ceil(PAGE_BYTES_U64);
        let fresh: Vec<u64> = pages.filter(|page| !self.placed.contains(page)).collect();
        if (bytes(self.placed.len()) + bytes(fresh.len())) * PAGE_BYTES_U64 > capacity {
            return Err(IoError::OutOfSpace);
        }
        self.placed.extend(fresh);
        Ok(())
    }

    /// Gives back the pages that lie in the range as a whole.
    fn unplace(&mut self, offset: u64, length: u64) {
        let pages = offset.div_ceil(PAGE_BYTES_U64)..(offset + length) / PAGE_BYTES_U64;
        self.placed.retain(|page| !pages.contains(page));
    }

    fn read(&mut self, at: u64, buffer: &mut [u8]) {
        // The range was checked when it was submitted; a resize since then may have cut it.
        let there = self.current.size().saturating_sub(at).min(bytes(buffer.len()));
        let (there, behind) = buffer.split_at_mut(legality::memory(there));
        self.current.read(at, there);
        behind.fill(0);
        if let Some(log) = &mut self.reads {
            log.read(&self.current, at, bytes(there.len()));
        }
    }

    /// The change takes effect: it is the last in the order of effect.
    fn perform(&mut self, number: u64) {
        let from =
            self.pending.iter().position(|pending| pending.submitted == number).expect("it is pending");
        if self.pending[from].performed {
            return;
        }
        let mut pending = self.pending.remove(from);
        pending.performed = true;
        pending.effect.apply(&mut self.current);
        if let Some(log) = &mut self.reads {
            log.written(&pending.effect);
        }
        let to = self.pending.iter().position(|pending| !pending.performed).unwrap_or(self.pending.len());
        self.pending.insert(to, pending);
    }

    /// The caller will know that the change has happened. A write through the cache settles with it every completed
    /// change of the size, without which its place would not be there.
    fn completed(&mut self, number: u64, through: bool) {
        let now = self.events;
        let pending =
            self.pending.iter_mut().find(|pending| pending.submitted == number).expect("it is pending");
        pending.completed = Some(now);
        if through {
            self.settle(|pending| {
                let resize = pending.operation.kind == OperationKind::Resize && pending.completed.is_some();
                pending.submitted == number || resize
            });
        }
    }

    fn flush(&mut self, submitted: u64, fate: FlushFate) -> Result<(), IoError> {
        if self.flush_failed && self.profile.after_failed_flush == AfterFailedFlush::Fail {
            return Err(IoError::FlushFailed);
        }
        let covered = |pending: &Pending| pending.completed.is_some_and(|completed| completed < submitted);
        match fate {
            FlushFate::Honest => {
                self.settle(covered);
                Ok(())
            }
            FlushFate::Ignored => Ok(()),
            FlushFate::Fails => {
                self.flush_failed = true;
                let Self { pending, chance, .. } = self;
                pending.retain(|pending| !covered(pending) || chance.coin());
                self.settle(covered);
                Err(IoError::EIO)
            }
        }
    }

    /// Moves changes to the durable image.
    fn settle(&mut self, chosen: impl Fn(&Pending) -> bool) {
        let mut left: Vec<Pending> = Vec::with_capacity(self.pending.len());
        for pending in std::mem::take(&mut self.pending) {
            if !chosen(&pending) {
                left.push(pending);
                continue;
            }
            pending.effect.apply(&mut self.durable);
            for earlier in left.iter_mut().filter(|earlier| earlier.effect.overlaps(&pending.effect)) {
                Arc::make_mut(&mut earlier.effect).overtaken_by(&pending.effect);
            }
        }
        // What is in flight stays listed however little is left of it: its completion looks for it.
        left.retain(|pending| pending.completed.is_none() || !pending.effect.is_empty());
        self.pending = left;
    }
}

fn label(channel: u64, operation: &Operation) -> OperationLabel {
    let (offset, length) = match operation {
        Operation::Read { offset, buffer } | Operation::Write { offset, buffer, .. } => {
            (*offset, bytes(buffer.len()))
        }
        Operation::Discard { offset, length }
        | Operation::WriteZeroes { offset, length }
        | Operation::Allocate { offset, length } => (*offset, *length),
        Operation::Resize { length } => (0, *length),
        Operation::Flush => (0, 0),
    };
    OperationLabel { channel, kind: operation.kind(), offset, length }
}
