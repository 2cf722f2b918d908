//! A simulated device's channel: takes operations, and completes in each poll those the seed lets it complete.

use super::Shared;
use crate::device::{IoChannel, clamp_depth};
use crate::error::{DeviceError, IoError};
use crate::operation::{Completion, Submission};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

pub(super) struct SimulatedChannel {
    shared: Arc<Shared>,
    number: u64,
    depth: usize,
    in_flight: usize,
    /// Always readable. There is none where every poll completes everything.
    descriptor: Option<OwnedFd>,
}

impl SimulatedChannel {
    pub(super) fn new(shared: Arc<Shared>, number: u64, depth: usize) -> Result<Self, DeviceError> {
        let descriptor = if shared.is_prompt() { None } else { Some(always_readable()?) };
        Ok(Self { shared, number, depth: clamp_depth(depth), in_flight: 0, descriptor })
    }

    fn complete(&mut self, number: u64) -> Completion {
        let (completion, point) = self.shared.step(|medium| medium.complete(number));
        self.in_flight -= 1;
        self.shared.tell(point);
        completion
    }
}

impl IoChannel for SimulatedChannel {
    /// On a halted device everything stays in the queue.
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        while self.in_flight < self.depth && !self.shared.is_halted() {
            let Some(submission) = queue.pop_front() else { return };
            let ((), point) = self.shared.step(|medium| medium.accept(self.number, submission));
            self.in_flight += 1;
            self.shared.tell(point);
        }
    }

    /// On a halted device nothing completes any more.
    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        let before = done.len();
        if self.in_flight == 0 || self.shared.is_halted() {
            return 0;
        }
        let due = self.shared.lock().due(self.number);
        for number in due {
            if self.shared.is_halted() {
                break;
            }
            let completion = self.complete(number);
            done.push(completion);
        }
        done.len() - before
    }

    /// Never sleeps: lets the next poll find something. On a halted device it is an error, so that nobody waits
    /// for ever.
    fn wait(&mut self, _timeout: Duration) -> Result<(), IoError> {
        let mut medium = self.shared.lock();
        if medium.is_halted() {
            return Err(IoError::Cancelled);
        }
        medium.hasten(self.number);
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for SimulatedChannel {
    /// B6: what is in flight takes effect, unless the device has halted.
    fn drop(&mut self) {
        let in_flight = self.shared.lock().in_flight(self.number);
        for number in in_flight {
            if !self.shared.is_halted() {
                drop(self.complete(number));
            }
        }
    }
}

fn always_readable() -> Result<OwnedFd, DeviceError> {
    eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| DeviceError::System {
        doing: "making the event descriptor of",
        path: "a simulated device".into(),
        source: errno.into(),
    })
}
