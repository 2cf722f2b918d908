//! The keeper's device channel as futures.

use crate::error::Error;
use blockstore::{Buffer, Completion, Durability, IoChannel, IoError, Operation, Submission, Token};
use cow_tree::units::{BLOCK_BYTES, BlockAddress};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Longest sleep while nothing completes.
const NAP: Duration = Duration::from_millis(100);

/// Writes of one task in flight; the keeper does other things between them.
const WRITES_AT_ONCE: usize = 32;

pub(crate) struct KeeperIo {
    inner: Mutex<Inner>,
    descriptor: Option<OwnedFd>,
}

struct Inner {
    channel: Box<dyn IoChannel>,
    outbox: VecDeque<Submission>,
    results: HashMap<Token, Completion>,
    next: u64,
    arrived: Vec<Completion>,
}

impl fmt::Debug for KeeperIo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "KeeperIo({} waiting)", self.inner.lock().results.len())
    }
}

impl KeeperIo {
    pub(crate) fn new(channel: Box<dyn IoChannel>) -> std::io::Result<Self> {
        let descriptor = channel.descriptor().map(|fd| fd.as_fd().try_clone_to_owned()).transpose()?;
        let inner =
            Inner { channel, outbox: VecDeque::new(), results: HashMap::new(), next: 0, arrived: Vec::new() };
        Ok(Self { inner: Mutex::new(inner), descriptor })
    }

    pub(crate) fn descriptor(&self) -> Option<&OwnedFd> {
        self.descriptor.as_ref()
    }

    /// Sends what waits and collects what has completed; tells whether anything has.
    pub(crate) fn pump(&self) -> bool {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if !inner.outbox.is_empty() {
            inner.channel.submit(&mut inner.outbox);
        }
        inner.channel.poll(&mut inner.arrived);
        let any = !inner.arrived.is_empty();
        for completion in inner.arrived.drain(..) {
            inner.results.insert(completion.token, completion);
        }
        any
    }

    /// Sleeps until something completes, or a moment.
    fn wait(&self) {
        let mut inner = self.inner.lock();
        if inner.channel.in_flight() > 0 {
            // An error here is met again, with its operation, by the next poll.
            let _met_again = inner.channel.wait(NAP);
        }
    }

    /// Starts an operation; the future ends with its result.
    pub(crate) fn start(&self, operation: Operation) -> Token {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let token = Token(inner.next);
        inner.next += 1;
        inner.outbox.push_back(Submission { token, operation });
        inner.channel.submit(&mut inner.outbox);
        token
    }

    pub(crate) async fn finish(&self, token: Token) -> Result<Option<Buffer>, IoError> {
        loop {
            let completion = self.inner.lock().results.remove(&token);
            if let Some(completion) = completion {
                return completion.result.map(|()| completion.buffer);
            }
            yield_now().await;
        }
    }

    pub(crate) async fn run(&self, operation: Operation) -> Result<Option<Buffer>, IoError> {
        let token = self.start(operation);
        self.finish(token).await
    }

    pub(crate) async fn flush(&self, doing: &'static str) -> Result<(), Error> {
        self.run(Operation::Flush).await.map(drop).map_err(Error::io(doing))
    }

    /// Reads whole blocks.
    pub(crate) async fn read(
        &self,
        address: BlockAddress,
        blocks: usize,
        doing: &'static str,
    ) -> Result<Buffer, Error> {
        let buffer = Buffer::zeroed(blocks * BLOCK_BYTES);
        let operation = Operation::Read { offset: address.byte_offset(), buffer };
        let buffer = self.run(operation).await.map_err(Error::io(doing))?;
        Ok(buffer.expect("a read gives its buffer back"))
    }

    /// Writes blocks at several places and waits for all that were begun: none is after one has failed.
    pub(crate) async fn write_all(
        &self,
        writes: Vec<(BlockAddress, Buffer)>,
        doing: &'static str,
    ) -> Result<(), Error> {
        let mut tokens = VecDeque::with_capacity(WRITES_AT_ONCE);
        let mut outcome = Ok(());
        let mut writes = writes.into_iter();
        loop {
            let next = writes.next();
            if next.is_none() || tokens.len() == WRITES_AT_ONCE {
                let Some(token) = tokens.pop_front() else { break };
                let written = self.finish(token).await;
                outcome = outcome.and(written.map(drop).map_err(Error::io(doing)));
            }
            if let Some((address, buffer)) = next
                && outcome.is_ok()
            {
                let (offset, durability) = (address.byte_offset(), Durability::Cached);
                tokens.push_back(self.start(Operation::Write { offset, buffer, durability }));
            }
        }
        outcome
    }
}

/// Runs a future over a channel that nobody else uses yet: opening and making pools.
pub(crate) fn block_on<T>(io: &KeeperIo, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        if !io.pump() {
            io.wait();
        }
    }
}

/// Lets the other tasks run once.
pub(crate) fn yield_now() -> impl Future<Output = ()> + Send {
    Yield { yielded: false }
}

struct Yield {
    yielded: bool,
}

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}
