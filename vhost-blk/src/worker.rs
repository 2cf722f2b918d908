//! One thread of the server: one channel to the pool, and the rings it was given.
//!
//! It polls while there is work and for a while after, then sleeps on the kicks, the channel and its own inbox. While a device
//! works it does not spin, since the completions may need this very core; but for a disk that works alone, about when its answer is
//! due.

use crate::chain::{Chain, Turn, take_front, take_last_byte};
use crate::clock::{Clock, Moment};
use crate::completion::Pending;
use crate::counters::{Asked, Kind, bytes_of};
use crate::limits::{SLEEP, WORKER_BYTES_MAX};
use crate::mailbox::{Mailbox, Message};
use crate::poll_delay::{DELAY_MAX, PollDelay};
use crate::preparation::{Lending, Prepared, judge, perform};
use crate::request::{Command, HEADER_BYTES, Header, Status};
use crate::served::Served;
use crate::watch::Watch;
use rustix::thread::set_current_timer_slack;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::time::Duration;
use thinpool::{Action, Channel, Reply, Request};

const STAYS: &str = "a ring stays until its last request (V4)";
/// Polls between two looks at the clock.
const POLLS_PER_LOOK: u32 = 32;
/// The shortest sleep for the turn of a ring that is held back: after it, more than one may have come.
const TURN_MIN: Duration = Duration::from_millis(1);

pub(crate) struct Worker {
    channel: Channel,
    mailbox: Mailbox,
    /// The channel, the mailbox, and the kicks of the rings that are listened to.
    watch: Watch,
    clock: Clock,
    lending: Lending,
    /// How long it looks for work before it sleeps.
    spin: Duration,
    /// How long it sleeps before it looks for the answer of a disk.
    poll_delay: PollDelay,
    /// By place; a ring keeps its place until it has stopped.
    rings: Vec<Option<Served>>,
    /// By the tag of a request.
    pending: Vec<Pending>,
    vacant: Vec<usize>,
    /// Without what went aside.
    bytes_in_flight: u64,
    /// Transfers that wait for their next part.
    waiting: VecDeque<usize>,
    /// Who is the first to take in this turn.
    first: usize,
    chain: Chain,
    replies: Vec<Reply>,
    ending: bool,
}

/// What a look at everything has come upon.
#[derive(Default, Clone, Copy)]
struct Found {
    requests: bool,
    answers: bool,
}

impl Found {
    fn is_any(self) -> bool {
        self.requests || self.answers
    }
}

impl Worker {
    pub(crate) fn new(channel: Channel, mailbox: Mailbox, spin: Duration) -> std::io::Result<Self> {
        let watch = Watch::new()?;
        watch.add_events(mailbox.as_fd())?;
        channel.descriptors().into_iter().try_for_each(|descriptor| watch.add(descriptor))?;
        Ok(Self {
            lending: Lending::of(&channel),
            channel,
            mailbox,
            watch,
            clock: Clock::new(),
            spin,
            poll_delay: PollDelay::new(spin),
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
        if self.channel.works_alone() {
            // Timers may be 50 us late otherwise: as long as it is awake for an answer.
            let _late_is_not_wrong = set_current_timer_slack(NonZeroU64::new(1));
        }
        self.read_mail();
        while !self.is_over() {
            while self.turn().is_any() {}
            if self.channel.works_alone() && self.channel.is_device_busy() {
                self.wait_for_disk();
            } else if !self.spin(self.clock.now()).is_any() {
                self.sleep(SLEEP);
            }
        }
    }

    /// Sleeps until the answer is nearly due, looks for it for a while, and sleeps again if it has not come.
    fn wait_for_disk(&mut self) {
        let begun = self.clock.now();
        let delay = self.poll_delay.get();
        if let Some(delay) = delay {
            if !delay.is_zero() {
                self.sleep(delay);
                if self.hear() {
                    return self.poll_delay.learn(Duration::ZERO);
                }
                if self.waited(begun) < delay {
                    return;
                }
            }
            let awake = self.clock.now();
            let found = self.spin(awake);
            if found.answers {
                self.poll_delay.learn(self.waited(awake));
            }
            if found.is_any() {
                return;
            }
        }
        self.sleep(SLEEP);
        if self.hear() {
            self.poll_delay.learn(self.waited(begun).saturating_sub(delay.unwrap_or(DELAY_MAX)));
        }
    }

    fn waited(&self, begun: Moment) -> Duration {
        Duration::from_nanos(self.clock.now().nanoseconds_since(begun))
    }

    /// Answers what has been heard of the disk, and tells drivers of it: they ask for more while further answers are looked at.
    fn hear(&mut self) -> bool {
        let has_heard = self.answer();
        self.call();
        has_heard
    }

    fn is_over(&self) -> bool {
        self.ending && self.rings.iter().all(Option::is_none)
    }

    /// One look at everything.
    fn turn(&mut self) -> Found {
        if self.mailbox.has_mail() {
            self.read_mail();
        }
        let requests = self.take_requests();
        let answers = self.hear();
        self.let_go();
        Found { requests, answers }
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
        let (mut turn, mut any) = (Turn::default(), self.let_through(place));
        while !turn.is_over() && self.may_take() {
            let goes_on = |served: &&mut Served| {
                served.may_hold_more() && (served.stopping.is_none() || served.ring.owes())
            };
            let Some(served) = self.rings[place].as_mut().filter(goes_on) else { break };
            let Some(head) = served.ring.take(&mut self.chain) else { break };
            let now = *taken.get_or_insert_with(|| self.clock.now());
            turn.count(&self.chain);
            self.begin(place, head, now);
            any = true;
        }
        any
    }

    /// Begins the request of a ring that has waited long enough for its turn.
    fn let_through(&mut self, place: usize) -> bool {
        let is_held = self.rings[place].as_ref().is_some_and(|served| served.held.is_some());
        if !is_held || !self.may_take() {
            return false;
        }
        let now = self.clock.instant();
        let due = self.rings[place].as_mut().and_then(|served| served.take_due(now));
        due.inspect(|index| self.go_on(*index)).is_some()
    }

    /// Goes on with transfers that are longer than what the engine gets at a time.
    fn resume(&mut self) -> bool {
        let mut any = false;
        for _ in 0..self.waiting.len() {
            if !self.may_take() {
                break;
            }
            let index = self.waiting.pop_front().expect("it has so many");
            let pending = &self.pending[index];
            let served = self.rings[pending.ring].as_mut().expect(STAYS);
            if !served.may_hold_more() {
                self.waiting.push_back(index);
                continue;
            }
            let command = pending.rest.command().expect("or it would not wait");
            // Its first part has paid for the request.
            if !served.holds_back(index, 0, command, &self.clock) {
                self.go_on(index);
                any = true;
            }
        }
        any
    }

    /// Gives the engine the next part of a request.
    fn go_on(&mut self, index: usize) {
        let pending = &mut self.pending[index];
        let served = self.rings[pending.ring].as_mut().expect(STAYS);
        let command = pending.rest.next(&mut self.chain).expect("the caller has seen that there is one");
        if matches!(command, Command::Read(_)) {
            pending.data.clear();
            pending.data.extend_from_slice(&self.chain.writable);
        }
        match perform(&served.ring, &self.chain, command, self.lending) {
            Ok(Prepared::Engine(action, bytes)) => self.enqueue(index, action, bytes),
            Ok(Prepared::Now(_)) => unreachable!("an identifier never waits"),
            Err(status) => {
                served.complete(pending, Err(status), self.clock.now());
                self.vacant.push(index);
            }
        }
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
        let judged = judge(ring, &mut self.chain, header);
        pending.asked = Asked { kind: Kind::of(header), bytes: 0, taken: now };
        if let Ok(command) = judged
            && served.holds_back(index, 1, command, &self.clock)
        {
            pending.rest.keep(command, &mut self.chain);
            pending.data.clear();
            return pending.data.extend_from_slice(&self.chain.writable);
        }
        let command = judged.map(|command| pending.rest.cut(command, &mut self.chain));
        pending.data.clear();
        pending.data.extend_from_slice(&self.chain.writable);
        match command.and_then(|command| perform(&served.ring, &self.chain, command, self.lending)) {
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

    /// What waits for space is no longer in the way of other rings, however long it waits.
    fn set_aside(&mut self) {
        for tag in self.channel.gone_aside() {
            let pending = &mut self.pending[usize::try_from(tag).expect("an index of ours")];
            let bytes = std::mem::take(&mut pending.bytes);
            pending.bytes_aside += bytes;
            self.bytes_in_flight -= bytes;
            self.rings[pending.ring].as_mut().expect(STAYS).bytes_aside += bytes;
        }
    }

    /// Lets the engine go on and answers what it has finished.
    fn answer(&mut self) -> bool {
        self.channel.poll(&mut self.replies);
        self.set_aside();
        if self.replies.is_empty() {
            return false;
        }
        let now = self.clock.now();
        for Reply { tag, result } in self.replies.drain(..) {
            let index = usize::try_from(tag).expect("an index of ours");
            let pending = &mut self.pending[index];
            self.bytes_in_flight -= pending.bytes;
            let served = self.rings[pending.ring].as_mut().expect(STAYS);
            served.bytes_aside -= std::mem::take(&mut pending.bytes_aside);
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
        for message in self.mailbox.read() {
            match message {
                Message::Start { number, mut ring, counters } => {
                    ring.stop_listening();
                    if self.watch.add_events(ring.kick.as_fd()).is_err() {
                        ring.break_off();
                    }
                    let served = Some(Served::new(number, ring, counters));
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
                        served.ring.attachment.end_patience();
                    }
                }
                Message::Relimited => {
                    let now = self.clock.instant();
                    self.rings.iter_mut().flatten().for_each(|served| served.renew_turn(now));
                }
                Message::End => self.ending = true,
            }
        }
        self.let_go();
    }

    /// Looks for work for a while, or until there is some.
    fn spin(&mut self, begun: Moment) -> Found {
        while self.may_spin() {
            for _ in 0..POLLS_PER_LOOK {
                let found = self.turn();
                if found.is_any() {
                    return found;
                }
                std::hint::spin_loop();
            }
            if self.waited(begun) > self.spin {
                break;
            }
        }
        Found::default()
    }

    fn may_spin(&self) -> bool {
        let has_rings = self.rings.iter().any(Option::is_some);
        has_rings && (self.channel.works_alone() || !self.channel.is_device_busy())
    }

    /// Sleeps until a kick, a completion or a message, unless one of them is there already; for `most` at most.
    fn sleep(&mut self, most: Duration) {
        let mut quiet = self.channel.listen() && !self.is_over();
        let may_take = self.may_take();
        let is_heard = |served: &&mut Served| served.stopping.is_none() && served.may_hold_more();
        for served in self.rings.iter_mut().flatten().filter(is_heard) {
            quiet &= served.ring.listen() || !may_take;
        }
        if quiet {
            self.watch.sleep(if may_take { self.next_turn().min(most) } else { most });
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

    /// How long nobody's turn comes.
    fn next_turn(&self) -> Duration {
        let held = || self.rings.iter().flatten().filter_map(|served| served.held);
        if held().next().is_none() {
            return SLEEP;
        }
        let now = self.clock.instant();
        let wait = held().map(|held| held.wait(now)).min().unwrap_or(SLEEP);
        if wait.is_zero() { wait } else { wait.clamp(TURN_MIN, SLEEP) }
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
