//! A running ring: a split virtqueue in guest memory, with its descriptors and its part of the in-flight region.

use crate::chain::{Broken, Chain, Table};
use crate::inflight::InFlight;
use crate::memory::GuestMemory;
use crate::notifier::{Call, Kick};
use crate::request::Terms;
use rate_limit::RateLimiter;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thinpool::Attachment;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestAddress;

/// What a session hands to a worker.
#[derive(Debug)]
pub(crate) struct Ring {
    queue: Queue,
    pub(crate) memory: GuestMemory,
    pub(crate) kick: Kick,
    call: Option<Call>,
    error: Option<Call>,
    in_flight: Option<InFlight>,
    pub(crate) attachment: Attachment,
    /// Of its export.
    pub(crate) limiter: Arc<RateLimiter>,
    pub(crate) identifier: String,
    /// The driver cannot flush, or has switched the cache off: every write is durable before it is acknowledged (V5).
    pub(crate) write_through: bool,
    /// Heads of an earlier life of this ring, to be taken again before any other.
    again: VecDeque<u16>,
    /// Heads that the driver has made available since, in its order, and that are to be taken; no more than the ring has entries. A
    /// driver writes its index all the time, so it is looked at once for all of them.
    ahead: VecDeque<u16>,
    /// Requests taken and not yet used.
    taken: u32,
    is_broken: bool,
    needs_call: bool,
    /// The driver may have missed a call, of an earlier life of this ring or before there was anything to call: it gets one
    /// whether it asks for it or not.
    must_call: bool,
}

/// What a session says a ring is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) queue: Queue,
    pub(crate) memory: GuestMemory,
    pub(crate) kick: Kick,
    pub(crate) call: Option<Call>,
    pub(crate) error: Option<Call>,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) attachment: Attachment,
    pub(crate) limiter: Arc<RateLimiter>,
    pub(crate) write_through: bool,
}

/// What became of a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopped {
    /// Where the next request would be.
    pub(crate) base: u16,
    pub(crate) is_broken: bool,
}

impl Ring {
    /// Brings the queue, the in-flight region and the guest's memory into agreement. Nothing when the ring is not in
    /// the guest's memory.
    pub(crate) fn start(parts: Parts) -> Option<Self> {
        let Parts { mut queue, memory, kick, call, error, mut in_flight, attachment, limiter, write_through } =
            parts;
        queue.set_ready(true);
        if !queue.is_valid(&memory) {
            return None;
        }
        let used = queue.used_idx(&memory, Ordering::Acquire).ok()?.0;
        queue.set_next_used(used);
        let must_call = used != 0
            || queue.avail_idx(&memory, Ordering::Acquire).ok()?.0 != 0
            || in_flight.as_ref().is_some_and(|in_flight| !in_flight.is_new());
        let again = in_flight.as_mut().map(|in_flight| in_flight.recover(used));
        if let Some(again) = &again {
            let count = u16::try_from(again.len()).expect("no more than entries");
            queue.set_next_avail(used.wrapping_add(count));
        }
        let identifier = attachment.name();
        let ahead = VecDeque::with_capacity(queue.size().into());
        Some(Self {
            queue,
            memory,
            kick,
            call,
            error,
            in_flight,
            attachment,
            limiter,
            identifier,
            write_through,
            again: again.unwrap_or_default().into(),
            ahead,
            taken: 0,
            is_broken: false,
            needs_call: false,
            must_call,
        })
    }

    /// Whether heads of an earlier life wait to be taken: where the ring is cannot be said before (V4).
    pub(crate) fn owes(&self) -> bool {
        !self.is_broken && !self.again.is_empty()
    }

    /// Nothing of it is in flight, nor waits to be.
    pub(crate) fn is_idle(&self) -> bool {
        self.taken == 0 && !self.owes()
    }

    /// What there is to say of it when it stops.
    pub(crate) fn stopped(&self) -> Stopped {
        let ahead = u16::try_from(self.ahead.len()).expect("no more than entries");
        Stopped { base: self.queue.next_avail().wrapping_sub(ahead), is_broken: self.is_broken }
    }

    /// The next head and its chain, if the driver has one for us.
    pub(crate) fn take(&mut self, chain: &mut Chain) -> Option<u16> {
        if self.is_broken {
            return None;
        }
        let head = self.again.pop_front().or_else(|| self.next_head())?;
        if head >= self.queue.size() {
            self.break_off();
            return None;
        }
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.take(head);
        }
        self.taken += 1;
        let table = Table { address: GuestAddress(self.queue.desc_table()), size: self.queue.size() };
        match chain.walk(&self.memory, table, head) {
            Ok(()) => Some(head),
            Err(
                Broken::OutsideMemory
                | Broken::NoSuchDescriptor
                | Broken::Endless
                | Broken::IndirectTable
                | Broken::Order,
            ) => {
                self.abandon();
                None
            }
        }
    }

    fn next_head(&mut self) -> Option<u16> {
        if self.ahead.is_empty() && self.look_ahead().is_none() {
            self.break_off();
        }
        self.ahead.pop_front()
    }

    /// Nothing when what the driver offers cannot be read.
    fn look_ahead(&mut self) -> Option<()> {
        if self.queue.avail_idx(&self.memory, Ordering::Acquire).ok()?.0 == self.queue.next_avail() {
            return Some(());
        }
        let chains = self.queue.iter(&self.memory).ok()?;
        self.ahead.extend(chains.map(|chain| chain.head_index()));
        // None, where an entry lies in two regions of memory, or the driver has taken its offer back.
        (!self.ahead.is_empty()).then_some(())
    }

    /// A head whose chain makes no sense: it is never used, and nothing after it is believed.
    pub(crate) fn abandon(&mut self) {
        self.taken -= 1;
        self.break_off();
    }

    pub(crate) fn break_off(&mut self) {
        self.is_broken = true;
        if let Some(error) = &self.error {
            error.give();
        }
    }

    /// Puts a head into the used ring; `written` is how many bytes of the chain the device has written (V3).
    pub(crate) fn use_head(&mut self, head: u16, written: u32) {
        self.taken -= 1;
        if let Some(in_flight) = &self.in_flight {
            in_flight.before_use(head);
        }
        if self.queue.add_used(&self.memory, head, written).is_err() {
            return self.break_off();
        }
        if let Some(in_flight) = &self.in_flight {
            in_flight.after_use(head, self.queue.next_used());
        }
        self.needs_call = true;
    }

    /// Tells the driver about what was used since the last time, if it wants to hear of it.
    pub(crate) fn call(&mut self) {
        let must = std::mem::take(&mut self.must_call);
        if !std::mem::take(&mut self.needs_call) && !must {
            return;
        }
        let wanted = self.queue.needs_notification(&self.memory).unwrap_or(true) || must;
        if let Some(call) = self.call.as_ref().filter(|_| wanted) {
            call.give();
        }
    }

    /// Asks for a kick with the next request; false when there is one already.
    pub(crate) fn listen(&mut self) -> bool {
        if self.is_broken {
            return true;
        }
        if !self.ahead.is_empty() {
            return false;
        }
        match self.queue.enable_notification(&self.memory) {
            Ok(more) => !more,
            Err(_) => {
                self.break_off();
                true
            }
        }
    }

    /// Asks for no kicks.
    pub(crate) fn stop_listening(&mut self) {
        if !self.is_broken && self.queue.disable_notification(&self.memory).is_err() {
            self.break_off();
        }
    }

    /// A broken ring is not listened to.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(crate) fn terms(&self) -> Terms {
        Terms { size: self.attachment.size(), read_only: self.attachment.is_read_only() }
    }
}
