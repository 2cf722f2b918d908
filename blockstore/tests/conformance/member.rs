//! A member of a span, taken for a device of its own: the second of two, so that every offset has to find its way.

use crate::factory::{Factory, Made};
use blockstore::{
    Completion, Device, DeviceError, IoChannel, IoError, MEMBER_BITS, Operation, RamDevice, Span, Submission,
};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

const START: u64 = 1 << MEMBER_BITS;

/// The devices of another factory, each behind a memory device.
pub(crate) struct BehindRam<F>(pub(crate) F);

/// The devices of another factory, each behind a device of its own kind.
pub(crate) struct BehindItsLike<F>(pub(crate) F);

impl<F: Factory> Factory for BehindRam<F> {
    fn make(&self, size: u64) -> Made {
        self.0.make(size).map(|device| member(Arc::new(RamDevice::new(4096)), device))
    }

    fn can_make(&self) -> bool {
        self.0.can_make()
    }

    fn can_resize(&self) -> bool {
        self.0.can_resize()
    }
}

impl<F: Factory> Factory for BehindItsLike<F> {
    fn make(&self, size: u64) -> Made {
        let first = self.0.make(4096).device;
        self.0.make(size).map(|device| member(first, device))
    }

    fn can_make(&self) -> bool {
        self.0.can_make()
    }

    fn can_resize(&self) -> bool {
        self.0.can_resize()
    }
}

fn member(first: Arc<dyn Device>, second: Arc<dyn Device>) -> Arc<dyn Device> {
    Arc::new(Member { span: Span::new(vec![first, second.clone()]), second })
}

#[derive(Debug)]
struct Member {
    span: Span,
    second: Arc<dyn Device>,
}

impl Device for Member {
    fn size(&self) -> u64 {
        self.second.size()
    }

    fn alignment(&self) -> usize {
        self.span.alignment()
    }

    fn discard_granularity(&self) -> Option<u64> {
        self.second.discard_granularity()
    }

    fn description(&self) -> String {
        self.second.description()
    }

    fn is_read_only(&self) -> bool {
        self.span.is_read_only()
    }

    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        Ok(Box::new(MemberChannel(self.span.open_channel(depth)?)))
    }
}

struct MemberChannel(Box<dyn IoChannel>);

impl IoChannel for MemberChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        let mut moved: VecDeque<Submission> = queue.drain(..).map(|one| shifted(one, there)).collect();
        self.0.submit(&mut moved);
        queue.extend(moved.into_iter().map(|one| shifted(one, back)));
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.0.poll(done)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        self.0.wait(timeout)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.descriptor()
    }

    fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    fn is_unfinished(&self) -> bool {
        self.0.is_unfinished()
    }
}

/// Where a place of the member lies in the span; what no member can have lies behind all of them.
fn there(place: u64) -> u64 {
    if place < START { START + place } else { place.max(2 * START) }
}

fn back(place: u64) -> u64 {
    if place < 2 * START { place - START } else { place }
}

fn shifted(submission: Submission, shift: fn(u64) -> u64) -> Submission {
    let Submission { token, mut operation } = submission;
    match &mut operation {
        Operation::Read { offset, .. }
        | Operation::Write { offset, .. }
        | Operation::Discard { offset, .. }
        | Operation::WriteZeroes { offset, .. }
        | Operation::Allocate { offset, .. } => *offset = shift(*offset),
        Operation::Resize { length } => *length = shift(*length),
        Operation::Flush => {}
    }
    Submission { token, operation }
}
