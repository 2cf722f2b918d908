//! A channel: one thread's way to read and write volumes.
//!
//! Requests live in a slab of small state machines. [`Channel::submit`] runs a request as far as it gets without
//! waiting; [`Channel::poll`] takes what the device has completed, lets those requests go on, looks again at the
//! parked ones when something they may wait for has happened, and hands out replies. A channel never blocks.

mod changes;
mod content;
mod device;
mod extents;
mod flush;
mod overwrite;
mod plan;
mod read;
mod shape;
mod slot;
mod space;
mod update;

use crate::core::Core;
use crate::epoch::EpochCounts;
use crate::error::Error;
use crate::node_cache::CachedNodes;
use crate::request::{Action, Payload, Reply, Request, RequestError};
use crate::wake::{Bell, sleep_on};
use blockstore::{Completion, IoChannel, Submission};
use crossbeam_utils::CachePadded;
use slot::{Flow, Slot, Work};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Operations a device hears of before the others of their batch are looked at: to tell it of each costs more than it wins.
const SHARE_MIN: usize = 4;
/// While it has nothing to do: of three or more by one call, io_uring makes all ready before the device gets the first.
const FIRST_SHARE: usize = 2;
/// Requests aside that look again before others on the channel have their turn.
const LOOKS_MAX: usize = 64;

/// What others see of a channel.
#[derive(Debug)]
pub(crate) struct ChannelShared {
    pub(crate) bell: Bell,
    /// Every request changes them: no other channel's may lie beside them.
    pub(crate) epochs: CachePadded<EpochCounts>,
    lane: usize,
}

/// One thread's channel to the pool; aligned so that no other thread's lies on the same cache lines.
#[repr(align(128))]
pub struct Channel {
    core: Arc<Core>,
    shared: Arc<ChannelShared>,
    io: Box<dyn IoChannel>,
    nodes: CachedNodes,
    slots: Vec<Option<Slot>>,
    vacant: Vec<usize>,
    parked: Vec<usize>,
    /// Writes that wait for space or for one that does, without a place among the slots. What they are bounded by is how many
    /// requests a door lets its clients have.
    aside: VecDeque<Slot>,
    /// How many of them, at the front, have not looked again since something has happened.
    unseen: usize,
    /// How many of them, at the back, went aside since somebody asked.
    untold: usize,
    /// Requests that let others go first.
    resting: Vec<usize>,
    /// Operations the device has had no room for yet.
    outbox: VecDeque<Submission>,
    completions: Vec<Completion>,
    replies: Vec<Reply>,
    events_seen: u64,
    pieces: Vec<device::Piece>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Channel(lane {}, {} in flight)", self.shared.lane, self.in_flight())
    }
}

impl Channel {
    pub(crate) fn open(core: Arc<Core>) -> Result<Self, Error> {
        let io = core.device.open_channel(core.limits.device_depth)?;
        let bell = if core.limits.polled { Bell::silent() } else { Bell::new()? };
        let mut channels = core.channels.lock();
        let lane = free_lane(&channels, core.tail.lanes()).ok_or_else(|| {
            Error::Invalid(format!("{} channels are open already; that is the most", channels.len()))
        })?;
        let shared = Arc::new(ChannelShared { bell, epochs: CachePadded::new(EpochCounts::default()), lane });
        channels.push(shared.clone());
        drop(channels);
        let requests = core.limits.requests_max;
        Ok(Self {
            nodes: CachedNodes::new(core.cache.clone()),
            events_seen: core.events.load(Ordering::SeqCst),
            core,
            shared,
            io,
            slots: (0..requests).map(|_| None).collect(),
            vacant: (0..requests).rev().collect(),
            parked: Vec::new(),
            aside: VecDeque::new(),
            unseen: 0,
            untold: 0,
            resting: Vec::new(),
            outbox: VecDeque::new(),
            completions: Vec::new(),
            replies: Vec::new(),
            pieces: Vec::new(),
        })
    }

    /// Takes a request; gives it back when as many are in flight as the channel has places for. Those that wait for space take none.
    ///
    /// # Panics
    /// When the attachment is of another pool, or may not be written and the request writes it.
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        self.enqueue(request)?;
        self.send();
        Ok(())
    }

    /// Like [`Channel::submit`], but the device may hear of it with the next [`Channel::poll`] only, together with others.
    ///
    /// # Panics
    /// As [`Channel::submit`].
    pub fn enqueue(&mut self, request: Request) -> Result<(), Request> {
        assert!(
            request.attachment.belongs_to(&self.core),
            "an attachment is used with channels of its own pool"
        );
        let Some(index) = self.vacant.pop() else { return Err(request) };
        let Request { tag, attachment, action } = request;
        assert_legal(&attachment, &action);
        let work = match action {
            Action::Read { offset, buffer } => Work::Read(read::Read::new(offset, buffer)),
            Action::Write { offset, buffer, durability } => {
                Work::Overwrite(overwrite::Overwrite::new(offset, buffer, durability))
            }
            Action::Flush => Work::Flush(flush::Flush::default()),
            Action::Trim { offset, length, durability } => {
                Work::Update(Box::new(update::Update::trim(offset, length, durability)))
            }
            Action::WriteZeroes { offset, length, durability, space } => {
                Work::Update(Box::new(update::Update::zeroes(offset, length, durability, space)))
            }
            Action::Extents { offset, length, limit, depths } => {
                Work::Extents(extents::Extents::new(offset, length, limit, depths))
            }
            Action::Changes { since, offset, length, limit } => {
                Work::Changes(Box::new(changes::Changes::new(since, offset, length, limit)))
            }
        };
        self.slots[index] = Some(Slot::new(tag, attachment, work));
        self.drive(index);
        self.send_early();
        Ok(())
    }

    /// Goes on with everything that can go on; appends the replies that are ready and returns their number.
    pub fn poll(&mut self, replies: &mut Vec<Reply>) -> usize {
        self.shared.bell.clear();
        self.shared.bell.take();
        self.send();
        let mut completions = std::mem::take(&mut self.completions);
        self.io.poll(&mut completions);
        for completion in completions.drain(..) {
            self.complete(completion);
            self.send_early();
        }
        self.completions = completions;
        for index in std::mem::take(&mut self.resting) {
            self.drive(index);
        }
        self.look_again();
        self.send();
        let count = self.replies.len();
        replies.append(&mut self.replies);
        count
    }

    /// Sleeps until `poll` would get on, or the time is over.
    pub fn wait(&mut self, timeout: Duration) {
        if !self.listen() {
            return;
        }
        if self.has_news() {
            return;
        }
        let descriptors = self.descriptors();
        if !descriptors.is_empty() {
            sleep_on(&descriptors, timeout);
        }
    }

    /// Readable when [`Channel::poll`] would get on; call [`Channel::listen`] before sleeping on them.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.shared.bell.descriptor().into_iter().chain(self.io.descriptor()).collect()
    }

    /// Prepares for sleeping on the descriptors; false means: poll first. A device without a descriptor has completed
    /// what it took, and nothing would wake a sleeper for that.
    pub fn listen(&self) -> bool {
        let device_wakes = match self.io.descriptor() {
            Some(_) => {
                let is_under_way = self.outbox.is_empty() || self.io.in_flight() > 0;
                is_under_way && !self.io.is_unfinished()
            }
            None => !self.is_device_busy(),
        };
        let is_idle = self.replies.is_empty() && self.resting.is_empty() && !self.has_unseen();
        is_idle && device_wakes && self.shared.bell.listen()
    }

    /// What the memory of a [`Loan`](blockstore::Loan) must be aligned to, in bytes.
    pub fn memory_alignment(&self) -> usize {
        self.core.device.alignment()
    }

    /// Whether the memory of a write may be a [`Loan`](blockstore::Loan). Others may change its bytes under way.
    pub fn may_lend_writes(&self) -> bool {
        self.core.device.bears_changing_memory()
    }

    /// Whether what the device works on needs no processor: whoever waits for it may as well stay awake.
    pub fn works_alone(&self) -> bool {
        self.core.device.works_alone()
    }

    /// Requests submitted and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.vacant.len() + self.aside.len()
    }

    /// Whether [`Channel::submit`] would take one more request.
    pub fn has_room(&self) -> bool {
        !self.vacant.is_empty()
    }

    /// Whether the device works for this channel at this moment (not only parked requests).
    pub fn is_device_busy(&self) -> bool {
        self.io.in_flight() > 0 || !self.outbox.is_empty()
    }

    /// A device that works alone gets what there is whenever that is half of what it has or more, and worth a call.
    fn send_early(&mut self) {
        let queued = self.outbox.len();
        let is_share = |busy: usize| busy == 0 || queued >= SHARE_MIN.max(busy.div_ceil(2));
        if queued >= FIRST_SHARE && self.io.under_way().is_some_and(is_share) {
            self.send();
        }
    }

    fn send(&mut self) {
        while !self.outbox.is_empty() {
            let before = self.outbox.len();
            self.io.submit(&mut self.outbox);
            if self.outbox.len() == before {
                break;
            }
        }
    }

    /// Nobody waits for a request that lets others go first.
    fn rest(&self, slot: &mut Slot) -> Flow {
        self.leave_epoch(slot);
        Flow::Rest
    }

    /// Runs a request until it waits or ends.
    fn drive(&mut self, index: usize) {
        let mut slot = self.slots[index].take().expect("only occupied slots are driven");
        loop {
            let flow = match &mut slot.work {
                Work::Read(_) => self.step_read(index, &mut slot),
                Work::Overwrite(_) => self.step_overwrite(index, &mut slot),
                Work::Update(_) => self.step_update(index, &mut slot),
                Work::Flush(_) => self.step_flush(index, &mut slot),
                Work::Extents(_) => self.step_extents(index, &mut slot),
                Work::Changes(_) => self.step_changes(index, &mut slot),
            };
            match flow {
                Flow::Again => {}
                Flow::Device => return self.slots[index] = Some(slot),
                Flow::Parked => {
                    self.slots[index] = Some(slot);
                    return self.parked.push(index);
                }
                Flow::Aside => {
                    self.vacant.push(index);
                    self.untold += 1;
                    return self.aside.push_back(slot);
                }
                Flow::Rest => {
                    self.slots[index] = Some(slot);
                    return self.resting.push(index);
                }
                Flow::Done(result) => return self.finish(index, slot, result),
            }
        }
    }

    fn finish(&mut self, index: usize, mut slot: Slot, result: Result<Payload, RequestError>) {
        self.leave_epoch(&mut slot);
        assert_eq!(slot.pending, 0, "a request ends when the device is through with it");
        self.vacant.push(index);
        self.replies.push(Reply { tag: slot.tag, result });
    }

    /// Enters the epoch unless the request is in one already.
    fn enter_epoch(&self, slot: &mut Slot) {
        if slot.epoch.is_none() && !crate::mutants::active(crate::mutants::Mutant::ReuseBeforeDrained) {
            slot.epoch = Some(self.shared.epochs.enter(&self.core.epochs));
        }
    }

    fn leave_epoch(&self, slot: &mut Slot) {
        if let Some(epoch) = slot.epoch.take()
            && self.shared.epochs.leave(epoch)
            && self.core.grace.is_under_way()
        {
            self.core.keeper.ring();
        }
    }

    /// Whether something has happened since requests were parked or went aside that one of them may wait for.
    fn has_news(&self) -> bool {
        let is_somebody_waiting = !self.parked.is_empty() || !self.aside.is_empty();
        is_somebody_waiting && self.core.events.load(Ordering::SeqCst) != self.events_seen
    }

    /// Parked requests, and some of those that went aside, try again when something has happened.
    fn look_again(&mut self) {
        if self.has_news() {
            self.events_seen = self.core.events.load(Ordering::SeqCst);
            self.unseen = self.aside.len();
            for index in std::mem::take(&mut self.parked) {
                self.drive(index);
            }
        }
        for _ in 0..self.unseen.min(LOOKS_MAX) {
            let Some(index) = self.vacant.pop() else { return };
            self.unseen -= 1;
            self.slots[index] = self.aside.pop_front();
            self.untold = self.untold.min(self.aside.len());
            self.drive(index);
        }
    }

    /// Whether some that went aside have yet to look again, and can.
    fn has_unseen(&self) -> bool {
        self.unseen > 0 && !self.vacant.is_empty()
    }

    /// The tags of requests that went aside since it was last asked, and still are: they wait for space, or for one that does, and
    /// hold no place on the channel. A request may go aside more than once.
    pub fn gone_aside(&mut self) -> impl Iterator<Item = u64> {
        let told = self.aside.len() - std::mem::take(&mut self.untold);
        self.aside.range(told..).map(|slot| slot.tag)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // What is in flight keeps its epoch until the device is through with it.
        let mut replies = Vec::new();
        while self.is_device_busy() {
            self.poll(&mut replies);
            if self.is_device_busy() && self.io.wait(Duration::from_millis(100)).is_err() {
                break;
            }
        }
        for slot in self.slots.iter_mut().filter_map(Option::take).chain(self.aside.drain(..)) {
            update::abandon(&self.core, slot, &self.shared);
        }
        let mut channels = self.core.channels.lock();
        channels.retain(|channel| !Arc::ptr_eq(channel, &self.shared));
    }
}

/// Lane 0 is the keeper's.
fn free_lane(channels: &[Arc<ChannelShared>], lanes: usize) -> Option<usize> {
    (1..lanes).find(|lane| channels.iter().all(|channel| channel.lane != *lane))
}

fn assert_legal(attachment: &crate::attachment::Attachment, action: &Action) {
    let writes = match action {
        Action::Write { .. } | Action::Trim { .. } | Action::WriteZeroes { .. } => true,
        Action::Read { .. } | Action::Flush | Action::Extents { .. } | Action::Changes { .. } => false,
    };
    assert!(!(writes && attachment.is_read_only()), "the door refuses writes to a read-only export");
}
