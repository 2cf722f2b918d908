//! The channel of a span: one channel to each member, and flights that know which answer belongs to whom.
//!
//! There are never more operations in flight than the channel's depth, and a flush is one operation at each member, so
//! no member's channel gets more than it takes.

use super::alarm::Alarm;
use super::ledger::{Effect, Mark};
use super::{Member, localize};
use crate::device::{IoChannel, clamp_depth};
use crate::error::{DeviceError, IoError};
use crate::immediate::{sleep, timespec};
use crate::legality::{self, Geometry};
use crate::operation::{Completion, Operation, Submission, Token};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct SpanChannel {
    /// Before the members, so that everything has landed when they may end.
    channels: Vec<Box<dyn IoChannel>>,
    outboxes: Vec<VecDeque<Submission>>,
    members: Arc<[Member]>,
    alignment: usize,
    depth: usize,
    /// Operations whose completion was not yet polled.
    in_flight: usize,
    flights: Vec<Option<Flight>>,
    vacant: Vec<usize>,
    /// Completions of what needed no member.
    settled: Vec<Completion>,
    arrived: Vec<Completion>,
    alarm: Option<Alarm>,
}

/// Something that members will answer, by its place in the list of flights.
enum Flight {
    One { token: Token, effect: Effect },
    Flush { token: Token, missing: usize, result: Result<(), IoError> },
    FlushOfMember { flush: usize, mark: Mark },
}

impl SpanChannel {
    pub(super) fn new(members: Arc<[Member]>, alignment: usize, depth: usize) -> Result<Self, DeviceError> {
        let depth = clamp_depth(depth);
        let channels =
            members.iter().map(|member| member.device.open_channel(depth)).collect::<Result<Vec<_>, _>>()?;
        let alarm = Alarm::new(&channels)?;
        Ok(Self {
            outboxes: channels.iter().map(|_| VecDeque::new()).collect(),
            channels,
            members,
            alignment,
            depth,
            in_flight: 0,
            flights: Vec::new(),
            vacant: Vec::new(),
            settled: Vec::new(),
            arrived: Vec::new(),
            alarm,
        })
    }

    fn board(&mut self, mut submission: Submission) {
        match localize(&mut submission.operation) {
            None => self.flush(submission.token),
            Some(number) => match self.judge(number, &submission.operation) {
                Ok(()) => self.send_one(number, submission),
                Err(error) => self.settled.push(Completion::of(submission, Err(error))),
            },
        }
    }

    /// B3, with the alignment of the whole.
    fn judge(&self, number: usize, operation: &Operation) -> Result<(), IoError> {
        let nothing = Geometry { size: 0, alignment: self.alignment, read_only: false, can_discard: true };
        match self.members.get(number) {
            Some(member) => legality::check(operation, &member.geometry(self.alignment)),
            None => legality::check(operation, &nothing).and(Err(IoError::OutOfRange)),
        }
    }

    fn send_one(&mut self, number: usize, submission: Submission) {
        let Submission { token, operation } = submission;
        let slot = self.take_off(Flight::One { token, effect: Effect::of(&operation) });
        self.outboxes[number].push_back(Submission { token: token_of(slot), operation });
    }

    fn flush(&mut self, token: Token) {
        let due: Vec<(usize, Mark)> = self
            .members
            .iter()
            .enumerate()
            .filter_map(|(number, member)| member.ledger.due().map(|mark| (number, mark)))
            .collect();
        if due.is_empty() {
            return self.settled.push(Completion { token, buffer: None, result: Ok(()) });
        }
        let flush = self.take_off(Flight::Flush { token, missing: due.len(), result: Ok(()) });
        for (number, mark) in due {
            let slot = self.take_off(Flight::FlushOfMember { flush, mark });
            let submission = Submission { token: token_of(slot), operation: Operation::Flush };
            self.outboxes[number].push_back(submission);
        }
    }

    fn take_off(&mut self, flight: Flight) -> usize {
        match self.vacant.pop() {
            Some(slot) => {
                self.flights[slot] = Some(flight);
                slot
            }
            None => {
                self.flights.push(Some(flight));
                self.flights.len() - 1
            }
        }
    }

    fn land(&mut self, slot: usize) -> Flight {
        self.vacant.push(slot);
        self.flights[slot].take().expect("a member answers an operation once")
    }

    /// What a member's completion completes.
    fn arrive(&mut self, number: usize, completion: Completion) -> Option<Completion> {
        let Completion { token, buffer, result } = completion;
        match self.land(slot_of(token)) {
            Flight::One { token, effect } => {
                self.members[number].ledger.note(effect, result);
                Some(Completion { token, buffer, result })
            }
            Flight::FlushOfMember { flush, mark } => {
                self.members[number].ledger.settle(mark, result);
                self.arrive_flush(flush, result)
            }
            Flight::Flush { .. } => unreachable!("no member was asked by that name"),
        }
    }

    fn arrive_flush(&mut self, slot: usize, of_member: Result<(), IoError>) -> Option<Completion> {
        let Some(Flight::Flush { token, missing, result }) = &mut self.flights[slot] else {
            unreachable!("a flush is there until all members have answered")
        };
        *missing -= 1;
        *result = result.and(of_member);
        if *missing > 0 {
            return None;
        }
        let completion = Completion { token: *token, buffer: None, result: *result };
        self.land(slot);
        Some(completion)
    }

    /// Hands to the members what they have room for.
    fn send(&mut self) {
        for (channel, outbox) in self.channels.iter_mut().zip(&mut self.outboxes) {
            if !outbox.is_empty() {
                channel.submit(outbox);
            }
        }
        let is_ringing = self.has_silent_completions();
        if let Some(alarm) = &mut self.alarm {
            alarm.set(is_ringing);
        }
    }

    /// Completions that are there, and that no member's descriptor tells of.
    fn has_silent_completions(&self) -> bool {
        let mut silent = self.channels.iter().filter(|channel| channel.descriptor().is_none());
        !self.settled.is_empty() || silent.any(|channel| channel.in_flight() > 0)
    }

    /// Sleeps until one of several channels, which all have descriptors, may have completed something.
    fn sleep_on_all(&self, timeout: Duration) -> Result<(), IoError> {
        let busy = self.channels.iter().filter(|channel| channel.in_flight() > 0);
        let descriptors: Vec<BorrowedFd<'_>> = busy.filter_map(|channel| channel.descriptor()).collect();
        let mut polled: Vec<PollFd<'_>> =
            descriptors.iter().map(|descriptor| PollFd::new(descriptor, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&timespec(timeout))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl IoChannel for SpanChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        while self.in_flight < self.depth {
            let Some(submission) = queue.pop_front() else { break };
            self.in_flight += 1;
            self.board(submission);
        }
        self.send();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        let before = done.len();
        done.append(&mut self.settled);
        let mut arrived = std::mem::take(&mut self.arrived);
        for number in 0..self.channels.len() {
            self.channels[number].poll(&mut arrived);
            for completion in arrived.drain(..) {
                done.extend(self.arrive(number, completion));
            }
        }
        self.arrived = arrived;
        self.send();
        let count = done.len() - before;
        self.in_flight -= count;
        count
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        if !self.settled.is_empty() {
            return Ok(());
        }
        let is_busy =
            |number: &usize| self.channels[*number].in_flight() > 0 || !self.outboxes[*number].is_empty();
        let busy: Vec<usize> = (0..self.channels.len()).filter(is_busy).collect();
        match busy.as_slice() {
            [] => sleep(timeout),
            [only] => self.channels[*only].wait(timeout),
            several => {
                if !self.has_silent_completions() {
                    self.sleep_on_all(timeout)?;
                }
                // A simulated device's time passes only by being waited for.
                several.iter().try_for_each(|number| self.channels[*number].wait(Duration::ZERO))
            }
        }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.alarm.as_ref().map(Alarm::descriptor)
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Of all members together: what waits for them is not told apart here.
    fn under_way(&mut self) -> Option<usize> {
        self.channels.iter_mut().map(|channel| channel.under_way()).sum()
    }

    fn is_unfinished(&self) -> bool {
        self.channels.iter().any(|channel| channel.is_unfinished())
            || self.outboxes.iter().any(|outbox| !outbox.is_empty())
    }
}

fn token_of(slot: usize) -> Token {
    Token(u64::try_from(slot).expect("a place in a list"))
}

fn slot_of(token: Token) -> usize {
    usize::try_from(token.0).expect("a place in a list")
}
