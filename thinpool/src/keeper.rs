//! The keeper: the pool's background work, as a handful of cooperating tasks that somebody polls.
//!
//! One thread, or the simulation, owns the keeper and calls [`Keeper::poll`]. Tasks are futures over the keeper's own
//! device channel; they never block, and they are the only writers of journal, trees and superblock.

pub(crate) mod checkpoint;
pub(crate) mod command;
pub(crate) mod commit;
pub(crate) mod freeze;
pub(crate) mod give_back;
pub(crate) mod grow;
pub(crate) mod io;
pub(crate) mod plan;
pub(crate) mod provision;
pub(crate) mod quarantine;
pub(crate) mod reclaim;
pub(crate) mod space_waits;

use crate::core::Core;
use crate::error::Error;
use crate::wake::sleep_on;
use io::KeeperIo;
use std::future::Future;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

/// Longest sleep between two looks at the clock.
const TICK: Duration = Duration::from_millis(100);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the tasks share.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) core: Arc<Core>,
    pub(crate) io: Arc<KeeperIo>,
}

impl Desk {
    /// Monotonic time, as the owner of the keeper last told it.
    pub(crate) fn now(&self) -> Duration {
        *self.core.clock.lock()
    }

    /// Lets the other tasks run until the condition holds.
    pub(crate) async fn until(&self, mut condition: impl FnMut() -> bool) {
        while !condition() {
            io::yield_now().await;
        }
        self.core.stepped();
    }
}

/// The pool's background work.
pub struct Keeper {
    desk: Desk,
    tasks: Vec<Task>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Keeper({} tasks)", self.tasks.len())
    }
}

impl Keeper {
    pub(crate) fn new(core: Arc<Core>, io: Arc<KeeperIo>) -> Self {
        let desk = Desk { core, io };
        let mut tasks: Vec<Task> = vec![Box::pin(command::run(desk.clone()))];
        if !desk.core.read_only {
            tasks.push(Box::pin(commit::run(desk.clone())));
            tasks.push(Box::pin(checkpoint::run(desk.clone())));
            tasks.push(Box::pin(quarantine::grace_periods(desk.clone())));
            tasks.push(Box::pin(quarantine::run(desk.clone())));
            tasks.push(Box::pin(give_back::run(desk.clone())));
            tasks.push(Box::pin(provision::run(desk.clone())));
            tasks.push(Box::pin(reclaim::run(desk.clone())));
            tasks.push(Box::pin(space_waits::run(desk.clone())));
        }
        Self { desk, tasks }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.desk.core
    }

    /// Runs every task as far as it gets; tells whether any of them got on. `now` is monotonic.
    pub fn poll(&mut self, now: Duration) -> bool {
        let core = self.desk.core.clone();
        *core.clock.lock() = now;
        core.keeper.clear();
        core.keeper.take();
        let mut got_on = false;
        loop {
            let before = core.steps.load(Ordering::SeqCst);
            let moved = self.desk.io.pump();
            let mut context = Context::from_waker(Waker::noop());
            self.tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            let stepped = core.steps.load(Ordering::SeqCst) != before;
            got_on |= moved | stepped;
            // A simulation decides what happens between two steps.
            if !stepped || core.limits.polled {
                return got_on;
            }
        }
    }

    /// Sleeps until there is something to do, at most until the next tick.
    pub fn wait(&self) {
        if !self.desk.core.keeper.listen() {
            return;
        }
        let io = self.desk.io.descriptor();
        let descriptors: Vec<BorrowedFd<'_>> = self
            .desk
            .core
            .keeper
            .descriptor()
            .into_iter()
            .chain(io.iter().map(std::os::fd::AsFd::as_fd))
            .collect();
        sleep_on(&descriptors, TICK);
    }

    /// Whether the pool has been closed: cleanly, or because it cannot be closed cleanly any more.
    pub fn is_closed(&self) -> bool {
        self.desk.core.closed.load(Ordering::SeqCst)
    }

    /// Runs the pool until it is closed. `clock` tells monotonic time.
    pub fn run(mut self, clock: impl Fn() -> Duration) -> Result<(), Error> {
        while !self.is_closed() {
            if !self.poll(clock()) {
                self.wait();
            }
        }
        if self.desk.core.is_poisoned() { Err(Error::Poisoned) } else { Ok(()) }
    }
}
