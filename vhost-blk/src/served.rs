//! A ring a worker has, and the request of it that waits for its turn (V8).
//!
//! What waits is a request that was taken and is not prepared yet. Nothing more is taken from its ring meanwhile, nor do other
//! transfers of the ring go on; so the driver's requests begin in their order.

use crate::clock::{Clock, Moment};
use crate::completion::{Pending, deliver};
use crate::counters::RingCounters;
use crate::limits::{PART_BYTES_MAX, RING_BYTES_ASIDE_MAX};
use crate::request::{Command, Status};
use crate::ring::{Ring, Stopped};
use rate_limit::{Cost, Turn};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use thinpool::Payload;

pub(crate) struct Served {
    pub(crate) number: u64,
    pub(crate) ring: Box<Ring>,
    pub(crate) counters: Arc<RingCounters>,
    /// Who wants to hear that it has stopped.
    pub(crate) stopping: Option<Sender<Stopped>>,
    pub(crate) held: Option<Held>,
    /// Bytes of requests that wait for space, or for one that does.
    pub(crate) bytes_aside: u64,
}

/// A request, or a part of one, that the export's limits hold back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// The worker's number of the request.
    pub(crate) index: usize,
    pub(crate) cost: Cost,
    /// None when it may begin.
    pub(crate) turn: Option<Turn>,
}

impl Held {
    /// How long it still has to wait.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.turn.map_or(Duration::ZERO, |turn| turn.due().saturating_duration_since(now))
    }
}

impl Served {
    pub(crate) fn new(number: u64, ring: Box<Ring>, counters: Arc<RingCounters>) -> Self {
        Self { number, ring, counters, stopping: None, held: None, bytes_aside: 0 }
    }

    /// Whether it may have more under way.
    pub(crate) fn may_hold_more(&self) -> bool {
        self.held.is_none() && self.bytes_aside < RING_BYTES_ASIDE_MAX
    }

    /// Gives the driver an answer, counted before the driver can see it.
    pub(crate) fn complete(&mut self, pending: &Pending, result: Result<&Payload, Status>, now: Moment) {
        let (status, payload) =
            result.map_or_else(|status| (status, &Payload::None), |payload| (Status::Ok, payload));
        let delivered = deliver(&self.ring, pending, status, payload);
        self.counters.note(&pending.asked, delivered.status, now);
        self.ring.use_head(pending.head, delivered.written);
    }

    /// Pays for the next part of a request; whether it has to wait for its turn.
    pub(crate) fn holds_back(
        &mut self,
        index: usize,
        requests: u64,
        command: Command,
        clock: &Clock,
    ) -> bool {
        if !self.ring.limiter.is_limiting() {
            return false;
        }
        let bytes = match command {
            Command::Read(range) | Command::Write(range) => range.length.min(u64::from(PART_BYTES_MAX)),
            Command::WriteZeroes { range, may_unmap: false } => range.length,
            Command::WriteZeroes { .. } | Command::Discard(_) | Command::Flush => 0,
            // The engine is not asked.
            Command::GetId => return false,
        };
        let cost = Cost { requests, bytes };
        let turn = self.ring.limiter.reserve(cost, clock.instant());
        self.held = turn.map(|turn| Held { index, cost, turn: Some(turn) });
        self.held.is_some()
    }

    /// The request that has waited long enough. A ring that stops waits no longer (V4, V8).
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<usize> {
        let is_stopping = self.stopping.is_some();
        let may_begin = |held: &mut Held| is_stopping || held.wait(now).is_zero();
        self.held.take_if(may_begin).map(|held| held.index)
    }

    /// The export has other limits.
    pub(crate) fn renew_turn(&mut self, now: Instant) {
        if let Some(held) = &mut self.held {
            held.turn = held.turn.and_then(|turn| self.ring.limiter.renew(turn, held.cost, now));
        }
    }
}
