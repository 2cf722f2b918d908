//! One thread of the server: one channel to the pool, and the rings it was given.
//!
//! It polls while there is work and for [`SPIN`] after, then sleeps on the kicks, the channel and its own inbox. While a device
//! works it does not spin, since the completions may need this very core; but for a disk that works alone, as long as its answers
//! come soon enough.

use crate::chain::{Chain, Turn, take_front, take_last_byte, total};
use crate::clock::{Clock, Moment};
use crate::completion::{Pending, deliver, gather, identifier, lend};
use crate::counters::{Asked, Kind, RingCounters, bytes_of};
use crate::limits::{SLEEP, SPIN, WORKER_BYTES_MAX};
use crate::notifier::Signal;
use crate::parts::Rest;
use crate::request::{Command, Data, HEADER_BYTES, Header, SEGMENT_BYTES, Segment, Status, validate};
use crate::ring::{Ring, Stopped};
use crate::watch::Watch;
use blockstore::{Buffer, Durability};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;
use thinpool::{Action, Channel, Payload, Reply, Request, ZeroSpace};

/// Polls between two looks at the clock.
const POLLS_PER_LOOK: u32 = 32;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this ring under this number, which no other ring of the worker has.
    Start {
        number: u64,
        ring: Box<Ring>,
        counters: Arc<RingCounters>,
    },
    /// Take nothing more from the ring, finish what was taken, and say what became of it (V4).
    Stop {
        number: u64,
        stopped: Sender<Stopped>,
    },
    End,
}

/// How to reach a worker. Clones reach the same one.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox(Arc<Inbox>);

#[derive(Debug)]
struct Inbox {
    messages: Mutex<Vec<Message>>,
    /// Looked at by a worker that is busy and does not sleep.
    has_mail: AtomicBool,
    signal: Signal,
}

impl Mailbox {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(Inbox {
            messages: Mutex::default(),
            has_mail: AtomicBool::new(false),
            signal: Signal::new()?,
        })))
    }

    pub(crate) fn send(&self, message: Message) {
        self.0.messages.lock().push(message);
        self.0.has_mail.store(true, Ordering::Release);
        self.0.signal.give();
    }

    fn has_mail(&self) -> bool {
        self.0.has_mail.load(Ordering::Acquire)
    }
}

struct Served {
    number: u64,
    ring: Box<Ring>,
    counters: Arc<RingCounters>,
    /// Who wants to hear that it has stopped.
    stopping: Option<Sender<Stopped>>,
}

impl Served {
    /// Gives the driver an answer, counted before the driver can see it.
    fn complete(&mut self, pending: &Pending, result: Result<&Payload, Status>, now: Moment) {
        let (status, payload) =
            result.map_or_else(|status| (status, &Payload::None), |payload| (Status::Ok, payload));
        let delivered = deliver(&self.ring, pending, status, payload);
        self.counters.note(&pending.asked, delivered.status, now);
        self.ring.use_head(pending.head, delivered.written);
    }
}

pub(crate) struct Worker {
    channel: Channel,
    mailbox: Mailbox,
    /// The channel, the mailbox, and the kicks of the rings that are listened to.
    watch: Watch,
    clock: Clock,
    lending: Lending,
    /// The last answer of a disk that was waited for came within [`SPIN`].
    is_disk_fast: bool,
    /// By place; a ring keeps its place until it has stopped.
    rings: Vec<Option<Served>>,
    /// By the tag of a request.
    pending: Vec<Pending>,
    vacant: Vec<usize>,
    bytes_in_flight: u64,
    /// Transfers that wait for their next part.
    waiting: VecDeque<usize>,
    /// Who is the first to take in this turn.
    first: usize,
    chain: Chain,
    replies: Vec<Reply>,
    ending: bool,
}

impl Worker {
    pub(crate) fn new(channel: Channel, mailbox: Mailbox) -> std::io::Result<Self> {
        let watch = Watch::new()?;
        watch.add_events(mailbox.0.signal.as_fd())?;
        channel.descriptors().into_iter().try_for_each(|descriptor| watch.add(descriptor))?;
        Ok(Self {
            lending: Lending::of(&channel),
            channel,
            mailbox,
            watch,
            clock: Clock::new(),
            is_disk_fast: false,
            rings: Vec::new(),
            pending: Vec::new(),
            vacant: Vec::new(),
            bytes_in_flight: 0,
            waiting: VecDeque::new(),
            first: 0,
            chain: Chain::default(),
            replies: Vec::new(),
            ending: false,
        })
    }

    /// Serves until it is told to end and every ring has stopped.
    pub(crate) fn run(mut self) {
        self.read_mail();
        while !self.is_over() {
            while self.turn() {}
            let begun = self.clock.now();
            if !self.spin(begun) {
                let waits_for_disk = self.channel.works_alone() && self.channel.is_device_busy();
                self.sleep();
                self.is_disk_fast = waits_for_disk && self.answer() && self.is_within_spin(begun);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ending && self.rings.iter().all(Option::is_none)
    }

    /// One look at everything; whether there was something to do.
    fn turn(&mut self) -> bool {
        if self.mailbox.has_mail() {
            self.read_mail();
        }
        let taken = self.take_requests();
        let answered = self.answer();
        self.call();
        self.let_go();
        taken | answered
    }

    /// Rings, and behind them the transfers that have more parts. Each turn another is first: what is left of room and memory is
    /// nobody's for long.
    fn take_requests(&mut self) -> bool {
        // One look at the clock for all that this turn takes.
        let mut taken = None;
        let count = self.rings.len() + 1;
        self.first = (self.first + 1) % count;
        let mut any = false;
        for place in (self.first..count).chain(0..self.first) {
            any |= if place < self.rings.len() { self.take_from(place, &mut taken) } else { self.resume() };
        }
        any
    }

    fn may_take(&self) -> bool {
        self.channel.has_room() && self.bytes_in_flight < WORKER_BYTES_MAX
    }

    fn take_from(&mut self, place: usize, taken: &mut Option<Moment>) -> bool {
        let (mut turn, mut any) = (Turn::default(), false);
        while !turn.is_over() && self.may_take() {
            let goes_on = |served: &&mut Served| served.stopping.is_none() || served.ring.owes();
            let Some(served) = self.rings[place].as_mut().filter(goes_on) else { break };
            let Some(head) = served.ring.take(&mut self.chain) else { break };
            let now = *taken.get_or_insert_with(|| self.clock.now());
            turn.count(&self.chain);
            self.begin(place, head, now);
            any = true;
        }
        any
    }

    /// Gives the engine the next part of transfers that are longer than it gets at a time.
    fn resume(&mut self) -> bool {
        let mut any = false;
        while self.may_take() {
            let Some(index) = self.waiting.pop_front() else { break };
            let pending = &mut self.pending[index];
            let served = self.rings[pending.ring].as_mut().expect(STAYS);
            let command = pending.rest.next(&mut self.chain).expect("or it would not wait");
            pending.data.clear();
            pending.data.extend_from_slice(&self.chain.writable);
            match perform(&served.ring, &self.chain, command, self.lending) {
                Ok(Prepared::Engine(action, bytes)) => self.enqueue(index, action, bytes),
                Ok(Prepared::Now(_)) => unreachable!("only transfers have parts"),
                Err(status) => {
                    served.complete(pending, Err(status), self.clock.now());
                    self.vacant.push(index);
                }
            }
            any = true;
        }
        any
    }

    /// Judges the chain that was just walked, and gives it to the engine or answers it at once.
    fn begin(&mut self, place: usize, head: u16, now: Moment) {
        let served = self.rings[place].as_mut().expect("the caller has just taken from it");
        let ring = &mut served.ring;
        let mut raw = [0; HEADER_BYTES];
        let header = take_front(&ring.memory, &mut self.chain.readable, &mut raw);
        let (Some(()), Some(status)) = (header, take_last_byte(&mut self.chain.writable)) else {
            return ring.abandon();
        };
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.pending.push(Pending::default());
            self.pending.len() - 1
        });
        let pending = &mut self.pending[index];
        (pending.ring, pending.head, pending.status, pending.bytes) = (place, head, status, 0);
        pending.written = 0;
        let header = Header::parse(&raw);
        let prepared = prepare(ring, &mut self.chain, header, self.lending, &mut pending.rest);
        pending.data.clear();
        pending.data.extend_from_slice(&self.chain.writable);
        pending.asked = Asked { kind: Kind::of(header), bytes: 0, taken: now };
        match prepared {
            Ok(Prepared::Engine(action, bytes)) => self.enqueue(index, action, bytes),
            Ok(Prepared::Now(payload)) => {
                served.complete(pending, Ok(&payload), now);
                self.vacant.push(index);
            }
            Err(status) => {
                served.complete(pending, Err(status), now);
                self.vacant.push(index);
            }
        }
    }

    /// Holds `bytes` of memory until the engine has answered.
    fn enqueue(&mut self, index: usize, action: Action, bytes: u64) {
        let pending = &mut self.pending[index];
        pending.bytes = bytes;
        pending.asked.bytes += bytes_of(&action);
        self.bytes_in_flight += bytes;
        let served = self.rings[pending.ring].as_ref().expect(STAYS);
        let tag = u64::try_from(index).expect("an index");
        let request = Request { tag, attachment: served.ring.attachment.clone(), action };
        self.channel.enqueue(request).expect("the channel has room");
    }

    /// Lets the engine go on and answers what it has finished.
    fn answer(&mut self) -> bool {
        self.channel.poll(&mut self.replies);
        if self.replies.is_empty() {
            return false;
        }
        let now = self.clock.now();
        for Reply { tag, result } in self.replies.drain(..) {
            let index = usize::try_from(tag).expect("an index of ours");
            let pending = &mut self.pending[index];
            self.bytes_in_flight -= pending.bytes;
            let served = self.rings[pending.ring].as_mut().expect(STAYS);
            match result {
                // Its head is used with its last part.
                Ok(payload) if pending.deliver_part(&served.ring, &payload) => {
                    self.waiting.push_back(index);
                    continue;
                }
                result => served.complete(pending, result.as_ref().map_err(|_| Status::IoError), now),
            }
            self.vacant.push(index);
        }
        true
    }

    fn call(&mut self) {
        self.rings.iter_mut().flatten().for_each(|served| served.ring.call());
    }

    /// Rings that are to stop and have nothing in flight any more are gone.
    fn let_go(&mut self) {
        for place in &mut self.rings {
            let done = |served: &mut Served| served.stopping.is_some() && served.ring.is_idle();
            if let Some(Served { ring, stopping: Some(stopped), .. }) = place.take_if(done) {
                let outcome = ring.stopped();
                // Whoever hears of the end finds nothing of the ring any more, its attachment neither (V6).
                drop(ring);
                // A session that has gone does not want to know.
                let _gone_is_fine = stopped.send(outcome);
            }
        }
    }

    fn read_mail(&mut self) {
        if !self.mailbox.0.has_mail.swap(false, Ordering::SeqCst) {
            return;
        }
        let messages = std::mem::take(&mut *self.mailbox.0.messages.lock());
        for message in messages {
            match message {
                Message::Start { number, mut ring, counters } => {
                    ring.stop_listening();
                    if self.watch.add_events(ring.kick.as_fd()).is_err() {
                        ring.break_off();
                    }
                    let served = Some(Served { number, ring, counters, stopping: None });
                    match self.rings.iter_mut().find(|place| place.is_none()) {
                        Some(place) => *place = served,
                        None => self.rings.push(served),
                    }
                }
                Message::Stop { number, stopped } => {
                    let found = self.rings.iter_mut().flatten().find(|served| served.number == number);
                    if let Some(served) = found {
                        self.watch.remove(served.ring.kick.as_fd());
                        served.stopping = Some(stopped);
                    }
                }
                Message::End => self.ending = true,
            }
        }
        self.let_go();
    }

    /// Looks for work for a while; whether there is some.
    fn spin(&mut self, begun: Moment) -> bool {
        if self.rings.iter().all(Option::is_none) {
            return false;
        }
        while self.is_disk_fast || !self.channel.is_device_busy() {
            for _ in 0..POLLS_PER_LOOK {
                if self.turn() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if !self.is_within_spin(begun) {
                return false;
            }
        }
        false
    }

    fn is_within_spin(&self, begun: Moment) -> bool {
        Duration::from_nanos(self.clock.now().nanoseconds_since(begun)) <= SPIN
    }

    /// Sleeps until a kick, a completion or a message, unless one of them is there already.
    fn sleep(&mut self) {
        let mut quiet = self.channel.listen() && !self.is_over();
        let may_take = self.may_take();
        for served in self.rings.iter_mut().flatten().filter(|served| served.stopping.is_none()) {
            quiet &= served.ring.listen() || !may_take;
        }
        if quiet {
            self.watch.sleep(SLEEP);
        }
        for served in self.rings.iter_mut().flatten() {
            if served.ring.is_broken() {
                // Whatever is done to its kick.
                self.watch.remove(served.ring.kick.as_fd());
            }
            served.ring.stop_listening();
        }
        self.read_mail();
    }
}

impl Drop for Worker {
    /// Sessions wait for a worker for ever: one that cannot go on takes the process with it, and the in-flight regions bring
    /// back what was under way (V3).
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// What the device lets be lent to it; the same as long as it is open.
#[derive(Clone, Copy)]
struct Lending {
    /// Of memory, in bytes.
    alignment: usize,
    /// The guest may change what is being written.
    writes: bool,
}

impl Lending {
    fn of(channel: &Channel) -> Self {
        Self { alignment: channel.memory_alignment(), writes: channel.may_lend_writes() }
    }
}

/// What a legal request needs.
enum Prepared {
    /// The engine, and so many bytes of memory.
    Engine(Action, u64),
    Now(Payload),
}

const STAYS: &str = "a ring stays until its last request (V4)";

/// `rest` is what comes after the first part.
fn prepare(
    ring: &Ring,
    chain: &mut Chain,
    header: Header,
    lending: Lending,
    rest: &mut Rest,
) -> Result<Prepared, Status> {
    let mut segment = None;
    if header.has_segment() {
        let mut raw = [0; SEGMENT_BYTES];
        let there = take_front(&ring.memory, &mut chain.readable, &mut raw);
        segment = there.map(|()| Segment::parse(&raw));
    }
    let data = Data { readable: total(&chain.readable), writable: total(&chain.writable) };
    let command = validate(header, segment, data, ring.terms())?;
    let command = rest.cut(command, chain);
    perform(ring, chain, command, lending)
}

/// What of the chain is data belongs to the command.
fn perform(ring: &Ring, chain: &Chain, command: Command, lending: Lending) -> Result<Prepared, Status> {
    let durability = if ring.write_through { Durability::Through } else { Durability::Cached };
    let action = match command {
        Command::Read(range) => {
            let buffer = lend(ring, &chain.writable, lending.alignment)
                .unwrap_or_else(|| Buffer::zeroed(usize::try_from(range.length).expect("it is bounded")));
            return Ok(Prepared::Engine(Action::Read { offset: range.offset, buffer }, range.length));
        }
        Command::Write(range) => {
            let lent = lending.writes.then(|| lend(ring, &chain.readable, lending.alignment)).flatten();
            let buffer = lent.or_else(|| gather(ring, &chain.readable)).ok_or(Status::IoError)?;
            let write = Action::Write { offset: range.offset, buffer, durability };
            return Ok(Prepared::Engine(write, range.length));
        }
        Command::Flush => Action::Flush,
        Command::Discard(range) => Action::Trim { offset: range.offset, length: range.length, durability },
        Command::WriteZeroes { range, may_unmap } => {
            let space = if may_unmap { ZeroSpace::Release } else { ZeroSpace::Allocate };
            Action::WriteZeroes { offset: range.offset, length: range.length, durability, space }
        }
        Command::GetId => return Ok(Prepared::Now(Payload::Buffer(identifier(&ring.identifier)))),
    };
    Ok(Prepared::Engine(action, 0))
}
