//! The transmission phase of one connection, without I/O: bytes in, engine actions out; engine replies in,
//! bytes out.
//!
//! Every request, legal or not, takes a slot before anything else and keeps it until its reply is sent or staged for
//! sending (W4). So a client that only asks and never reads stops being read itself.

use crate::contexts::Context;
use crate::handshake::Terms;
use crate::limits::{
    Limits, PAYLOAD_SKIP_BYTES_MAX, STAGE_BYTES, STATUS_BYTES, STATUS_DESCRIPTORS_MAX, ZEROES_BYTES, bytes,
};
use crate::proto::Errno;
use crate::reply::{Answer, Body, Head, ReadBody, Staged, fault_of};
use crate::request::{Command, Fault, Force, Front, Header, Holes, Layout, Range, validate};
use crate::survey::Survey;
use blockstore::{Buffer, Durability};
use std::collections::VecDeque;
use thinpool::{Action, Depths, Payload, RequestError, ZeroSpace};

/// Whether new requests are still done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// The server is closing: new requests fail with ESHUTDOWN.
    Draining,
}

/// What came of [`Session::next`].
#[derive(Debug)]
pub(crate) enum Step {
    /// More bytes are needed.
    Hungry,
    /// Hand this to the engine and its answer to [`Session::complete`].
    Submit(Slot, Ask),
    /// An illegal request was answered.
    Answered,
    /// As much as allowed is in flight; go on when something was staged.
    Full,
    /// The client says goodbye: nothing more is read.
    Disconnect,
    /// The stream cannot be followed any more: close it.
    Lost,
}

/// What the engine is asked for a request.
#[derive(Debug)]
pub(crate) enum Ask {
    Act(Action),
    /// What has changed since one of the snapshots that were selected, by its place among them.
    Changes {
        since: usize,
        range: Range,
    },
}

/// A request in flight, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

/// A reply of which a run of data is being sent from where it is; it keeps its slot meanwhile.
#[derive(Debug)]
pub(crate) struct Leaving {
    slot: Slot,
    answer: Answer,
}

impl Leaving {
    pub(crate) fn run(&self) -> &[u8] {
        self.answer.run()
    }
}

#[derive(Debug)]
struct InFlight {
    head: Head,
    /// Bytes this request holds in memory.
    weight: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Read(Range, Layout),
    Status(Box<Survey>),
    Plain,
}

#[derive(Debug)]
enum Intake {
    Header,
    Payload {
        slot: Slot,
        range: Range,
        force: Force,
        buffer: Buffer,
        filled: usize,
    },
    /// The payload of a refused write.
    Skip {
        slot: Slot,
        left: u64,
        fault: Fault,
    },
}

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    terms: Terms,
    slots_max: u32,
    bytes_max: u64,
    bytes: u64,
    slots: Vec<Option<InFlight>>,
    vacant: Vec<Slot>,
    intake: Intake,
    answers: VecDeque<(Slot, Answer)>,
}

impl Session {
    pub(crate) fn new(terms: Terms, limits: &Limits) -> Self {
        Self {
            terms,
            slots_max: limits.requests_in_flight.max(1),
            bytes_max: limits.bytes_in_flight,
            bytes: 0,
            slots: Vec::new(),
            vacant: Vec::new(),
            intake: Intake::Header,
            answers: VecDeque::new(),
        }
    }

    /// Requests that came whole and whose replies are not staged yet.
    pub(crate) fn unanswered(&self) -> usize {
        let incoming = usize::from(!matches!(self.intake, Intake::Header));
        self.slots.len() - self.vacant.len() - incoming
    }

    /// Looks at the front of `input` for one request. `size` is the export's size at this moment.
    pub(crate) fn next(&mut self, input: &mut &[u8], size: u64, phase: Phase) -> Step {
        match std::mem::replace(&mut self.intake, Intake::Header) {
            Intake::Header => self.header(input, size, phase),
            Intake::Payload { slot, range, force, buffer, filled } => {
                self.payload(input, slot, range, force, buffer, filled)
            }
            Intake::Skip { slot, left, fault } => self.skip(input, slot, left, fault),
        }
    }

    /// The client is gone or done: a request that came only in part is forgotten.
    pub(crate) fn end_intake(&mut self) {
        match std::mem::replace(&mut self.intake, Intake::Header) {
            Intake::Payload { slot, .. } | Intake::Skip { slot, .. } => self.vacate(slot),
            Intake::Header => {}
        }
    }

    fn header(&mut self, input: &mut &[u8], size: u64, phase: Phase) -> Step {
        let mut rest = *input;
        let header = match Header::take(&mut rest, self.terms.dialect) {
            Front::Header(header) => header,
            Front::Hungry => return Step::Hungry,
            Front::Lost => return Step::Lost,
        };
        if header.payload > u64::from(PAYLOAD_SKIP_BYTES_MAX) {
            return Step::Lost;
        }
        let verdict = match (validate(&header, &self.terms, size), phase) {
            (Ok(Command::Disconnect), _) => return Step::Disconnect,
            (Ok(_), Phase::Draining) => Err(Fault { errno: Errno::Shutdown, text: "the server is closing" }),
            (verdict, _) => verdict,
        };
        let Some(slot) = self.occupy(&header, verdict.ok()) else {
            return Step::Full;
        };
        *input = rest;
        match verdict {
            Ok(command) => self.accept(slot, command, input),
            Err(fault) => self.skip(input, slot, header.payload, fault),
        }
    }

    /// A slot for a request, unless that is one too many or its payload too much.
    fn occupy(&mut self, header: &Header, command: Option<Command>) -> Option<Slot> {
        let (weight, kind) = match command {
            // What is not whole blocks is read into a buffer beside the client's.
            Some(Command::Read { range, layout }) if range.is_whole_blocks() => {
                (range.length, Kind::Read(range, layout))
            }
            Some(Command::Read { range, layout }) => (2 * range.length, Kind::Read(range, layout)),
            Some(Command::Write { range, .. }) => (range.length, Kind::Plain),
            Some(Command::Status { range, descriptors }) => {
                let contexts = u64::try_from(self.terms.contexts.len()).expect("few");
                (u64::from(STATUS_BYTES) * contexts, Kind::Status(Box::new(Survey::new(range, descriptors))))
            }
            Some(Command::Cache { .. }) => (u64::from(STATUS_BYTES), Kind::Plain),
            // Blocks of zeros are written a mebibyte at a time, a hole with bytes beside it in four.
            Some(Command::WriteZeroes { range, holes, .. })
                if holes == Holes::Forbidden || !range.is_whole_blocks() =>
            {
                (range.length.min(ZEROES_BYTES), Kind::Plain)
            }
            _ => (0, Kind::Plain),
        };
        if self.bytes > 0 && self.bytes + weight > self.bytes_max {
            return None;
        }
        let slot = match self.vacant.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot < self.slots_max)?;
                self.slots.push(None);
                Slot(slot)
            }
        };
        self.bytes += weight;
        let head = Head { dialect: self.terms.dialect, cookie: header.cookie, offset: header.offset };
        self.slots[bytes(slot.0)] = Some(InFlight { head, weight, kind });
        Some(slot)
    }

    fn vacate(&mut self, slot: Slot) {
        let gone = self.slots[bytes(slot.0)].take().expect("a slot is vacated once");
        self.bytes -= gone.weight;
        self.vacant.push(slot);
    }

    fn accept(&mut self, slot: Slot, command: Command, input: &mut &[u8]) -> Step {
        let action = match command {
            Command::Read { range, .. } => {
                Action::Read { offset: range.offset, buffer: Buffer::uncleared(range.payload_bytes()) }
            }
            Command::Write { range, force } => {
                return match input.split_at_checked(range.payload_bytes()) {
                    Some((front, rest)) => {
                        *input = rest;
                        Step::Submit(slot, Ask::Act(write(range, force, Buffer::from_slice(front))))
                    }
                    None => {
                        let buffer = Buffer::uncleared(range.payload_bytes());
                        self.payload(input, slot, range, force, buffer, 0)
                    }
                };
            }
            Command::Trim { range, force } => {
                Action::Trim { offset: range.offset, length: range.length, durability: durability(force) }
            }
            Command::WriteZeroes { range, force, holes } => Action::WriteZeroes {
                offset: range.offset,
                length: range.length,
                durability: durability(force),
                space: match holes {
                    Holes::Allowed => ZeroSpace::Release,
                    Holes::Forbidden => ZeroSpace::Allocate,
                },
            },
            Command::Status { range, .. } => {
                return Step::Submit(slot, survey(&self.terms.contexts, range, 0));
            }
            Command::Cache { range } => extents(range, Depths::Alike),
            Command::Flush | Command::Disconnect => Action::Flush,
        };
        Step::Submit(slot, Ask::Act(action))
    }

    fn payload(
        &mut self,
        input: &mut &[u8],
        slot: Slot,
        range: Range,
        force: Force,
        mut buffer: Buffer,
        filled: usize,
    ) -> Step {
        let here = input.len().min(buffer.len() - filled);
        let (front, rest) = input.split_at(here);
        buffer[filled..filled + here].copy_from_slice(front);
        *input = rest;
        let filled = filled + here;
        if filled < buffer.len() {
            self.intake = Intake::Payload { slot, range, force, buffer, filled };
            return Step::Hungry;
        }
        Step::Submit(slot, Ask::Act(write(range, force, buffer)))
    }

    fn skip(&mut self, input: &mut &[u8], slot: Slot, left: u64, fault: Fault) -> Step {
        let here = usize::try_from(left).map_or(input.len(), |left| input.len().min(left));
        *input = &input[here..];
        let left = left - u64::try_from(here).expect("a size in memory");
        if left > 0 {
            self.intake = Intake::Skip { slot, left, fault };
            return Step::Hungry;
        }
        self.fail(slot, fault);
        Step::Answered
    }

    /// Takes the engine's answer to a request of [`Step::Submit`], or to what was asked for it since; gives back what
    /// else must be asked before it can be answered.
    ///
    /// # Panics
    /// When the slot is empty, or the engine answers a read without data: bugs of ours.
    pub(crate) fn complete(&mut self, slot: Slot, result: Result<Payload, RequestError>) -> Option<Ask> {
        let contexts = &self.terms.contexts;
        let request = self.slots[bytes(slot.0)].as_mut().expect("answers belong to requests in flight");
        let body = match (&mut request.kind, result) {
            (_, Err(error)) => Body::Failed(fault_of(error)),
            (Kind::Plain, Ok(_)) => Body::Done,
            (Kind::Read(range, layout), Ok(Payload::Buffer(buffer))) => {
                assert_eq!(buffer.len(), range.payload_bytes(), "a read returns the buffer it was given");
                Body::Read(ReadBody::new(*layout, buffer))
            }
            (Kind::Status(found), Ok(payload @ (Payload::Extents(_) | Payload::Changes(_)))) => {
                match found.take(contexts, &payload) {
                    None => Body::Failed(fault_of(RequestError::Io)),
                    Some(told) if told < contexts.len() => {
                        return Some(survey(contexts, found.range(), told));
                    }
                    Some(_) => Body::Status(found.described()),
                }
            }
            (_, Ok(_)) => panic!("the engine answers in kind"),
        };
        let head = request.head;
        self.answers.push_back((slot, Answer { head, body }));
        None
    }

    fn fail(&mut self, slot: Slot, fault: Fault) {
        let head = self.slots[bytes(slot.0)].as_ref().expect("a refused request has its slot").head;
        self.answers.push_back((slot, Answer { head, body: Body::Failed(fault) }));
    }

    /// Appends replies to `out` until it is well filled or there are no more, or until a run of data longer than
    /// `copied_max` comes next: that is sent behind `out`, and its reply given to [`Session::has_left`].
    pub(crate) fn stage(&mut self, out: &mut Vec<u8>, copied_max: usize) -> Option<Leaving> {
        while out.len() < STAGE_BYTES
            && let Some((slot, mut answer)) = self.answers.pop_front()
        {
            match answer.stage(out, STAGE_BYTES, copied_max) {
                Staged::Whole => self.vacate(slot),
                Staged::Partly => self.answers.push_front((slot, answer)),
                Staged::Lent => return Some(Leaving { slot, answer }),
            }
        }
        None
    }

    /// A run of data has been sent, or its client is gone.
    pub(crate) fn has_left(&mut self, leaving: Leaving) {
        let Leaving { slot, mut answer } = leaving;
        match answer.skip_run() {
            Staged::Whole => self.vacate(slot),
            Staged::Partly | Staged::Lent => self.answers.push_front((slot, answer)),
        }
    }
}

/// What is asked next of a block status when `told` of the contexts are.
fn survey(contexts: &[Context], range: Range, told: usize) -> Ask {
    let snapshots = |context: &&Context| matches!(context, Context::Since(_));
    match &contexts[told] {
        Context::Since(_) => Ask::Changes { since: contexts[..told].iter().filter(snapshots).count(), range },
        _ if contexts.contains(&Context::Depth) => Ask::Act(extents(range, Depths::Told)),
        _ => Ask::Act(extents(range, Depths::Alike)),
    }
}

fn extents(range: Range, depths: Depths) -> Action {
    Action::Extents { offset: range.offset, length: range.length, limit: STATUS_DESCRIPTORS_MAX, depths }
}

fn write(range: Range, force: Force, buffer: Buffer) -> Action {
    Action::Write { offset: range.offset, buffer, durability: durability(force) }
}

fn durability(force: Force) -> Durability {
    match force {
        Force::No => Durability::Cached,
        Force::Yes => Durability::Through,
    }
}

#[cfg(test)]
mod tests;
