//! Any device, given lent memory: each operation's buffer is exchanged for a loan with the same bytes at the same place
//! in its page, and given back with what the device has left there.

use crate::factory::{Factory, Made};
use blockstore::{
    Buffer, Completion, Device, DeviceError, IoChannel, IoError, Loan, Operation, Submission, Token,
};
use memmap2::{MmapMut, MmapRaw};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

const PAGE_BYTES: usize = 4096;

pub(crate) struct Lent<F>(pub(crate) F);

impl<F: Factory> Factory for Lent<F> {
    fn make(&self, size: u64) -> Made {
        self.0.make(size).map(|device| Arc::new(LentDevice(device)))
    }

    fn can_make(&self) -> bool {
        self.0.can_make()
    }

    fn can_resize(&self) -> bool {
        self.0.can_resize()
    }
}

#[derive(Debug)]
struct LentDevice(Arc<dyn Device>);

impl Device for LentDevice {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn alignment(&self) -> usize {
        self.0.alignment()
    }

    fn discard_granularity(&self) -> Option<u64> {
        self.0.discard_granularity()
    }

    fn description(&self) -> String {
        self.0.description()
    }

    fn is_read_only(&self) -> bool {
        self.0.is_read_only()
    }

    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        let inner = self.0.open_channel(depth)?;
        Ok(Box::new(LentChannel { inner, next: 0, given: BTreeMap::new() }))
    }
}

struct LentChannel {
    inner: Box<dyn IoChannel>,
    next: u64,
    /// By this channel's own token: the caller's token and buffer.
    given: BTreeMap<u64, (Token, Option<Buffer>)>,
}

impl LentChannel {
    /// Submits one; false when there is no room, and everything is as it was.
    fn pass_on(&mut self, queue: &mut VecDeque<Submission>) -> bool {
        let Some(Submission { token, operation }) = queue.pop_front() else { return false };
        let (operation, given) = exchange(operation);
        self.given.insert(self.next, (token, given));
        let mut single = VecDeque::from([Submission { token: Token(self.next), operation }]);
        self.inner.submit(&mut single);
        if let Some(refused) = single.pop_front() {
            let (token, given) = self.given.remove(&self.next).expect("it was just put there");
            queue.push_front(Submission { token, operation: with_buffer(refused.operation, given) });
            return false;
        }
        self.next += 1;
        true
    }
}

impl IoChannel for LentChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        while self.pass_on(queue) {}
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        let mut inner = Vec::new();
        self.inner.poll(&mut inner);
        for completion in &mut inner {
            let (token, given) = self.given.remove(&completion.token.0).expect("one answer each");
            completion.token = token;
            if let (Some(mut given), Some(lent)) = (given, completion.buffer.take()) {
                lent.copy_to(0, &mut given);
                completion.buffer = Some(given);
            }
        }
        let count = inner.len();
        done.append(&mut inner);
        count
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        self.inner.wait(timeout)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

/// The operation with lent memory, and its own buffer.
fn exchange(operation: Operation) -> (Operation, Option<Buffer>) {
    match operation {
        Operation::Read { offset, buffer } => {
            let lent = lend(&buffer);
            (Operation::Read { offset, buffer: lent }, Some(buffer))
        }
        Operation::Write { offset, buffer, durability } => {
            let lent = lend(&buffer);
            (Operation::Write { offset, buffer: lent, durability }, Some(buffer))
        }
        other => (other, None),
    }
}

fn with_buffer(operation: Operation, given: Option<Buffer>) -> Operation {
    match (operation, given) {
        (Operation::Read { offset, .. }, Some(buffer)) => Operation::Read { offset, buffer },
        (Operation::Write { offset, durability, .. }, Some(buffer)) => {
            Operation::Write { offset, buffer, durability }
        }
        (other, _) => other,
    }
}

fn lend(buffer: &Buffer) -> Buffer {
    let into_page = buffer.as_ptr().addr() % PAGE_BYTES;
    let memory = MmapMut::map_anon(into_page + buffer.len().max(1)).expect("memory");
    let memory = Arc::new(MmapRaw::from(memory));
    let start = NonNull::new(memory.as_mut_ptr()).expect("it is mapped");
    // SAFETY: the map exists as long as its owner, and only pointers lead to it.
    let loan = unsafe { Loan::new(start, memory.len(), memory.clone()) };
    let Some(mut lent) = loan.buffer(into_page, buffer.len()) else { return Buffer::zeroed(0) };
    lent.copy_from(0, buffer);
    lent
}
