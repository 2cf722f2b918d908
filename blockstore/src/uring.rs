//! The io_uring channel: operations go to the kernel in batches.
//!
//! Every submission, refused or not, becomes a flight in the ring, so that all completions come out of one place and
//! the ring's descriptor tells of all of them. What is settled without a step flies as an empty operation.
//!
//! A disk that waits for the last operation of a batch before it gets the first stands still meanwhile, and answers the whole
//! batch at once: after that it would stand still each time. So it tells how little it has to do, that it may get the beginnings of a
//! batch early, and its first answers are handed on before the others are looked at. A medium that works while it is told gets the
//! batch as a whole.
//!
//! The ring belongs to no thread: a channel may be handed from one to another, also with operations in flight.
//! That is why the "single issuer" and "deferred task running" modes are not used, which tie a ring to the thread
//! that made it.

mod ring;

use crate::device::{IoChannel, clamp_depth};
use crate::error::{DeviceError, IoError};
use crate::file::FileMedium;
use crate::file::progress::Progress;
use crate::immediate::{Perform, sleep};
use crate::legality;
use crate::operation::{Completion, Submission};
use ring::Ring;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// Completions that a poll takes of a disk that stands still: what follows the first of them gives it something to do while the
/// others are answered.
const FIRST_MAX: usize = 4;

/// One submission on its way.
pub(crate) struct Flight {
    submission: Submission,
    progress: Progress,
    /// The result, when no step of the kernel is needed for it.
    settled: Option<Result<(), IoError>>,
}

pub(crate) struct UringChannel {
    // Before the medium, so that everything has landed when the medium may end.
    ring: Ring,
    medium: Arc<FileMedium>,
    depth: usize,
    /// The last poll has left completions behind.
    has_left_some: bool,
}

/// Whether the kernel offers io_uring, as far as it is needed here.
pub(crate) fn probe() -> io::Result<()> {
    Ring::probe()
}

impl UringChannel {
    pub(crate) fn new(medium: Arc<FileMedium>, depth: usize) -> Result<Self, DeviceError> {
        let depth = clamp_depth(depth);
        let ring = Ring::new(depth, medium.file(), medium.transfer().medium)
            .map_err(DeviceError::UringUnavailable)?;
        Ok(Self { ring, medium, depth, has_left_some: false })
    }

    fn board(&self, submission: Submission) -> Flight {
        let settled = match legality::check(&submission.operation, &self.medium.geometry()) {
            Ok(()) => self.medium.at_once(&submission.operation),
            Err(error) => Some(Err(error)),
        };
        Flight { submission, progress: Progress::default(), settled }
    }
}

impl IoChannel for UringChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        while self.ring.in_flight() < self.depth {
            let Some(submission) = queue.pop_front() else { break };
            let flight = self.board(submission);
            self.ring.start(flight);
        }
        self.ring.send();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        let before = done.len();
        let alignment = self.medium.geometry().alignment;
        self.ring.gather();
        let stands_still = self.medium.works_alone() && self.ring.under_way() == 0;
        let most = if stands_still { FIRST_MAX } else { usize::MAX };
        for _ in 0..most {
            let Some((mut flight, answer)) = self.ring.land() else { break };
            let operation = &flight.submission.operation;
            let result = match flight.settled {
                Some(result) => Some(result),
                None => flight
                    .progress
                    .advance(operation, answer, alignment)
                    .map(|answer| self.medium.settle(operation.kind(), answer)),
            };
            match result {
                Some(result) => done.push(Completion::of(flight.submission, result)),
                None => self.ring.start(flight),
            }
        }
        self.has_left_some = self.ring.has_landed();
        self.ring.send();
        done.len() - before
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        if self.ring.in_flight() == 0 { sleep(timeout) } else { self.ring.wait(timeout) }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ring.descriptor())
    }

    fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    fn under_way(&mut self) -> Option<usize> {
        (self.medium.works_alone() && !self.ring.is_held_up()).then(|| self.ring.under_way())
    }

    fn is_unfinished(&self) -> bool {
        self.has_left_some || self.ring.is_held_up()
    }
}
