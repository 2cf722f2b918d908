//! The workers of a server as its sessions see them: rings are handed to them and taken back.

use crate::address_space::AddressSpace;
use crate::counters::RingCounters;
use crate::mailbox::{Mailbox, Message};
use crate::ring::{Ring, Stopped};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

/// Clones are the same workers.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    mailboxes: Arc<[Mailbox]>,
    /// The next number of a ring.
    numbers: Arc<AtomicU64>,
    /// Whose turn it is to get a ring.
    turns: Arc<AtomicUsize>,
    /// For the memory of all guests.
    space: AddressSpace,
}

/// Which of the workers a ring has, once it has had one: what its worker's core holds of it stays there when it starts again, and
/// rings that were spread over the cores stay so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place(Option<usize>);

/// A ring a worker has.
#[derive(Debug)]
pub(crate) struct Running {
    mailbox: Mailbox,
    number: u64,
}

impl Workers {
    pub(crate) fn new(mailboxes: Vec<Mailbox>) -> Self {
        Self {
            mailboxes: mailboxes.into(),
            numbers: Arc::default(),
            turns: Arc::default(),
            space: AddressSpace::default(),
        }
    }

    pub(crate) fn space(&self) -> AddressSpace {
        self.space.clone()
    }

    pub(crate) fn start(&self, ring: Ring, counters: Arc<RingCounters>, place: &mut Place) -> Running {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mailbox = self.mailboxes[self.worker_of(place)].clone();
        mailbox.send(Message::Start { number, ring: Box::new(ring), counters });
        Running { mailbox, number }
    }

    /// The one it has; the first time in turn, so that the rings of an export are spread over the cores.
    fn worker_of(&self, place: &mut Place) -> usize {
        let next = || self.turns.fetch_add(1, Ordering::Relaxed) % self.mailboxes.len();
        *place.0.get_or_insert_with(next)
    }
}

impl Running {
    /// What became of the ring, once nothing of it is in flight.
    pub(crate) fn stop(self) -> Option<Stopped> {
        let (stopped, heard) = channel();
        self.mailbox.send(Message::Stop { number: self.number, stopped });
        heard.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Mailbox, Place, Workers};

    #[test]
    fn rings_are_spread_over_the_workers_and_come_back_to_their_own() {
        let mailboxes = (0..3).map(|_| Mailbox::new().expect("a mailbox")).collect();
        let workers = Workers::new(mailboxes);
        let mut places = [Place::default(); 6];
        assert_eq!(places.each_mut().map(|place| workers.worker_of(place)), [0, 1, 2, 0, 1, 2]);
        for started_again in [4, 4, 1, 5, 0] {
            assert_eq!(workers.worker_of(&mut places[started_again]), started_again % 3);
        }
        assert_eq!(workers.worker_of(&mut Place::default()), 0, "a new ring has the next turn");
    }
}
