//! The channel of devices that do an operation at once: RAM, maps and plain system calls.
//!
//! `submit` performs each operation, so completions are ready when it returns and there is no descriptor. What was
//! performed and not yet polled counts as in flight and is bounded by the depth like everywhere else (B5).

use crate::device::{IoChannel, clamp_depth};
use crate::error::IoError;
use crate::legality::{self, Geometry};
use crate::operation::{Completion, Operation, Submission};
use rustix::event::{self, Timespec};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// A medium that performs an operation while the caller waits.
pub(crate) trait Perform: Send + Sync {
    fn geometry(&self) -> Geometry;

    /// Does what `legality::check` has found legal.
    fn perform(&self, operation: &mut Operation) -> Result<(), IoError>;

    /// Told of the operation that comes after the one to be performed now; it may not be legal.
    fn foresee(&self, _next: &Operation) {}

    /// The same for one of several operations handed over together.
    fn perform_in(&self, _batch: &mut Batch, operation: &mut Operation) -> Result<(), IoError> {
        self.perform(operation)
    }
}

/// What is known of the medium while one call of `submit` lasts.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Whether the medium is as long as it should be, once somebody has looked.
    pub(crate) length: Option<Result<(), IoError>>,
}

pub(crate) struct ImmediateChannel<M> {
    medium: Arc<M>,
    depth: usize,
    ready: VecDeque<Completion>,
}

impl<M: Perform> ImmediateChannel<M> {
    pub(crate) fn new(medium: Arc<M>, depth: usize) -> Self {
        Self { medium, depth: clamp_depth(depth), ready: VecDeque::new() }
    }
}

impl<M: Perform> IoChannel for ImmediateChannel<M> {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        let mut batch = Batch::default();
        while self.ready.len() < self.depth {
            let Some(mut submission) = queue.pop_front() else { return };
            if let Some(next) = queue.front() {
                self.medium.foresee(&next.operation);
            }
            let result = legality::check(&submission.operation, &self.medium.geometry())
                .and_then(|()| self.medium.perform_in(&mut batch, &mut submission.operation));
            self.ready.push_back(Completion::of(submission, result));
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        let count = self.ready.len();
        done.extend(self.ready.drain(..));
        count
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        if self.ready.is_empty() { sleep(timeout) } else { Ok(()) }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn in_flight(&self) -> usize {
        self.ready.len()
    }
}

/// Waits for the time to pass; a signal ends it early.
pub(crate) fn sleep(timeout: Duration) -> Result<(), IoError> {
    match event::poll(&mut [], Some(&timespec(timeout))) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A duration for the kernel; longer than 292 years is as good as that.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
