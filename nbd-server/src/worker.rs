//! One thread of the server: a ring for its sockets, one channel to the pool, and the connections it was given.
//!
//! Connections hand their requests to [`Worker::submit`] and call [`Worker::pump`] once a batch; whoever pumps
//! delivers the replies of all connections. Nobody spins: the runtime sends what was written to the sockets only
//! when it goes to sleep, so a worker that never sleeps would never answer. Whoever is not through rings a
//! descriptor the runtime sleeps on, and goes on after a sleep of no length.

use crate::acceptor::Place;
use crate::connection::Connection;
use crate::error::Error;
use crate::exports::ExportTable;
use crate::limits::{CACHED_BYTES_IN_FLIGHT, Limits};
use crate::session::{Phase, Slot};
use crate::signal::Signal;
use crate::tls::{Stance, Tls};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::task::Poll;
use std::time::Duration;
use thinpool::{Channel, Pool, Reply, Request};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

/// How often deadlines are looked at, at most and at least.
const TICK: Duration = Duration::from_millis(250);
const TICK_MIN: Duration = Duration::from_millis(1);
/// Polls in a row before the other tasks of the thread get their turn.
const POLLS_MAX: usize = 4;

/// What a worker is told by the rest of the server.
#[derive(Debug)]
pub(crate) enum Message {
    /// A connected stream socket and the place it takes among the server's connections.
    Serve(OwnedFd, Stance, Place),
    /// The limits of an export have changed.
    Relimited,
    Drain,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) limits: Limits,
    pub(crate) exports: Arc<ExportTable>,
    pub(crate) tls: Option<Tls>,
    channel: RefCell<Channel>,
    /// Requests the channel had no room for; bounded by the connections' slots.
    waiting: RefCell<VecDeque<Request>>,
    replies: RefCell<Vec<Reply>>,
    /// By index, which is the upper half of a request's tag.
    connections: RefCell<Vec<Option<Rc<Connection>>>>,
    phase: Cell<Phase>,
    /// A pump gave up its turn before the engine was ready to be slept on.
    unfinished: Signal,
    emptied: Notify,
}

/// Runs a worker until it is drained. `ready` hears whether it came up.
pub(crate) fn run(
    pool: &Pool,
    limits: Limits,
    exports: Arc<ExportTable>,
    tls: Option<Tls>,
    inbox: UnboundedReceiver<Message>,
    ready: &SyncSender<Result<(), Error>>,
) {
    let started = || -> Result<_, Error> {
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder()).map_err(Error::Ring)?;
        let channel = pool.channel()?;
        let mut limits = limits;
        if !channel.works_alone() {
            limits.bytes_in_flight = limits.bytes_in_flight.min(CACHED_BYTES_IN_FLIGHT);
        }
        let worker = Rc::new(Worker {
            limits,
            exports,
            tls,
            channel: RefCell::new(channel),
            waiting: RefCell::default(),
            replies: RefCell::default(),
            connections: RefCell::default(),
            phase: Cell::new(Phase::Serving),
            unfinished: Signal::new().map_err(Error::Thread)?,
            emptied: Notify::new(),
        });
        let watched = worker.watched().map_err(Error::Thread)?;
        Ok((runtime, watched, worker))
    };
    // The starter is gone only if it panicked; then nobody wants the worker.
    match started() {
        Err(error) => drop(ready.send(Err(error))),
        Ok((runtime, watched, worker)) => {
            if ready.send(Ok(())).is_ok() {
                runtime.block_on(worker.serve(inbox, watched));
            }
        }
    }
}

impl Worker {
    /// Everything that says "pump".
    fn watched(&self) -> std::io::Result<Vec<OwnedFd>> {
        let channel = self.channel.borrow();
        let engine = channel.descriptors().into_iter().map(|descriptor| descriptor.try_clone_to_owned());
        engine.chain([self.unfinished.try_clone().map(Signal::into_descriptor)]).collect()
    }

    async fn serve(self: Rc<Self>, mut inbox: UnboundedReceiver<Message>, watched: Vec<OwnedFd>) {
        tokio_uring::spawn(watch_engine(self.clone(), watched));
        tokio_uring::spawn(watch_deadlines(self.clone()));
        while let Some(message) = inbox.recv().await {
            match message {
                Message::Serve(socket, tls, place) => self.add(socket, tls, place),
                Message::Relimited => self.for_each(Connection::look_again),
                Message::Drain => break,
            }
        }
        self.drain().await;
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Makes room for one more that has no export: whoever has been without one for longest has had its time.
    fn cut_oldest_handshake(&self) {
        let connections = self.connections.borrow();
        let waiting = || connections.iter().flatten().filter(|connection| connection.is_shaking_hands());
        if waiting().count() >= self.limits.handshakes_max
            && let Some(oldest) = waiting().min_by_key(|connection| connection.deadline())
        {
            oldest.cut();
        }
    }

    fn add(self: &Rc<Self>, socket: OwnedFd, tls: Stance, place: Place) {
        self.cut_oldest_handshake();
        let mut connections = self.connections.borrow_mut();
        let index = connections.iter().position(Option::is_none).unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let tag = u32::try_from(index).expect("connections are bounded");
        let deadline = Instant::now() + self.limits.handshake_deadline;
        let connection = Rc::new(Connection::new(tag, socket, deadline));
        connections[index] = Some(connection.clone());
        let worker = self.clone();
        let run = tokio_uring::spawn(connection.clone().run(worker.clone(), tls));
        tokio_uring::spawn(async move {
            if run.await.is_err() {
                // It panicked. Its client must not wait for ever; its slot stays, for the engine may still answer it.
                return connection.cut();
            }
            worker.connections.borrow_mut()[index] = None;
            worker.emptied.notify_one();
            drop(place);
        });
    }

    /// Gives a request to the engine, now or as soon as it has room.
    pub(crate) fn submit(&self, request: Request) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.is_empty() {
            return waiting.push_back(request);
        }
        if let Err(request) = self.channel.borrow_mut().submit(request) {
            waiting.push_back(request);
        }
    }

    /// Lets the engine go on and delivers its replies, until it may be slept on.
    pub(crate) fn pump(&self) {
        for _ in 0..POLLS_MAX {
            self.submit_waiting();
            let mut replies = self.replies.take();
            self.channel.borrow_mut().poll(&mut replies);
            let moved = !replies.is_empty() && !self.waiting.borrow().is_empty();
            self.deliver(&mut replies);
            self.replies.replace(replies);
            if !moved && self.channel.borrow().listen() {
                return;
            }
        }
        self.unfinished.give();
    }

    fn submit_waiting(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(request) = waiting.pop_front() {
            if let Err(request) = self.channel.borrow_mut().submit(request) {
                return waiting.push_front(request);
            }
        }
    }

    fn deliver(&self, replies: &mut Vec<Reply>) {
        let connections = self.connections.borrow();
        for Reply { tag, result } in replies.drain(..) {
            let (index, slot) = split_tag(tag);
            let connection = connections.get(index).and_then(Option::as_ref);
            let more = connection.expect("a connection stays until its last reply").complete(slot, result);
            if let Some(request) = more {
                self.submit(request);
            }
        }
    }

    /// New requests fail from here on; connections close when theirs are answered, at the latest at the deadline.
    async fn drain(&self) {
        self.phase.set(Phase::Draining);
        self.for_each(Connection::wind_up);
        let emptied = async {
            while self.connections.borrow().iter().any(Option::is_some) {
                self.emptied.notified().await;
            }
        };
        if tokio::time::timeout(self.limits.drain_deadline, emptied).await.is_err() {
            self.for_each(Connection::cut);
        }
    }

    fn for_each(&self, act: impl Fn(&Connection)) {
        self.connections.borrow().iter().flatten().for_each(|connection| act(connection));
    }
}

/// Where a reply goes: the connection above, the slot below.
pub(crate) fn join_tag(connection: u32, slot: Slot) -> u64 {
    u64::from(connection) << 32 | u64::from(slot.0)
}

fn split_tag(tag: u64) -> (usize, Slot) {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).expect("masked to 32 bits");
    (crate::limits::bytes(half(tag >> 32)), Slot(half(tag)))
}

/// Pumps when a descriptor says that it is worth it. Only changes wake the runtime, so nothing is read from them
/// here; the engine empties its own.
async fn watch_engine(worker: Rc<Worker>, watched: Vec<OwnedFd>) {
    let watched: Vec<_> = watched.into_iter().map(watch).collect();
    worker.pump();
    loop {
        poll_fn(|context| {
            let mut woken = Poll::Pending;
            for descriptor in &watched {
                while let Poll::Ready(Ok(mut guard)) = descriptor.poll_read_ready(context) {
                    guard.clear_ready();
                    woken = Poll::Ready(());
                }
            }
            woken
        })
        .await;
        worker.pump();
    }
}

#[expect(deprecated, reason = "an OwnedFd stays what it is, which is all that the unsafe successor asks for")]
fn watch(descriptor: OwnedFd) -> AsyncFd<OwnedFd> {
    AsyncFd::with_interest(descriptor, Interest::READABLE).expect("the runtime watches event descriptors")
}

/// Cuts connections whose handshake or whose reply takes too long, and those of clients that are gone while a request of theirs
/// waits for its turn. Cutting a socket ends its operations in the ring; nothing is ever cancelled.
async fn watch_deadlines(worker: Rc<Worker>) {
    let tick = TICK.min(worker.limits.handshake_deadline / 4).min(worker.limits.write_stall / 4);
    loop {
        tokio::time::sleep(tick.max(TICK_MIN)).await;
        let now = Instant::now();
        worker.for_each(|connection| connection.look_after(now));
    }
}

#[cfg(test)]
mod tests {
    use super::{join_tag, split_tag};
    use crate::session::Slot;

    #[test]
    fn a_tag_holds_a_connection_and_a_slot() {
        for (connection, slot) in [(0, 0), (7, 127), (u32::MAX, u32::MAX)] {
            let (index, found) = split_tag(join_tag(connection, Slot(slot)));
            assert_eq!((index, found), (crate::limits::bytes(connection), Slot(slot)));
        }
    }
}
