//! One client: a reader that feeds the handshake and then the session, and a writer that sends what is staged.
//!
//! The connection is over when both have ended and the engine has answered everything (W5). No operation of the
//! ring is ever dropped half-way; whoever wants it to end cuts the socket.

use crate::exports::{OpenExport, PoolExports};
use crate::handshake::{Handshake, Progress, Terms};
use crate::limiters::cost_of;
use crate::limits::{HANDSHAKE_RECEIVE_BYTES, RECEIVE_BYTES, STAGE_BYTES, STATUS_DESCRIPTORS_MAX};
use crate::session::{Ask, Phase, Session, Slot, Step};
use crate::tls::{Access, Stance};
use crate::wire::{Gone, Wire};
use crate::worker::{Worker, join_tag};
use rate_limit::{RateLimiter, Turn};
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use thinpool::{Action, Payload, Request, RequestError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

pub(crate) struct Connection {
    index: u32,
    wire: Wire,
    /// Present in the transmission phase.
    session: RefCell<Option<Session>>,
    /// What its requests are about; present with it.
    export: RefCell<Option<Rc<OpenExport>>>,
    /// When the handshake or the send under way has taken too long.
    deadline: Cell<Option<Instant>>,
    is_cut: Cell<bool>,
    /// Nothing more is read from the client.
    intake_ended: Cell<bool>,
    /// There may be something to stage, or the connection may be over.
    answered: Notify,
    /// Something was staged: slots are free.
    staged: Notify,
    /// A request waits until the export's limits let it begin.
    waits_for_turn: Cell<bool>,
    /// Nothing is read from the client until something is answered.
    is_full: Cell<bool>,
    /// It should look whether it still has to.
    hurried: Notify,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Connection({}, {:?})", self.index, self.session)
    }
}

/// Why no more is taken off the stream for now.
enum Pause {
    /// More bytes are needed.
    Hungry,
    /// As much as allowed is in flight.
    Full,
    /// The export's limits hold this request back.
    Limited(Request, Turn),
    /// The client says goodbye, or cannot be followed any more.
    Over,
}

/// What was received and not yet used.
struct Received {
    bytes: Vec<u8>,
    used: usize,
}

impl Connection {
    pub(crate) fn new(index: u32, socket: OwnedFd, deadline: Instant) -> Self {
        Self {
            index,
            wire: Wire::new(socket),
            session: RefCell::new(None),
            export: RefCell::new(None),
            deadline: Cell::new(Some(deadline)),
            is_cut: Cell::new(false),
            intake_ended: Cell::new(false),
            answered: Notify::new(),
            staged: Notify::new(),
            waits_for_turn: Cell::new(false),
            is_full: Cell::new(false),
            hurried: Notify::new(),
        }
    }

    /// Whether it has no export yet and may still get one.
    pub(crate) fn is_shaking_hands(&self) -> bool {
        !self.is_cut.get() && self.session.borrow().is_none()
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// Nobody waits any more for the request that waits for its turn.
    fn is_abandoned(&self) -> bool {
        self.waits_for_turn.get() && self.wire.has_hung_up()
    }

    /// Writes that find no space need not wait for it: nobody waits for them.
    fn end_patience(&self) {
        if let Some(export) = &*self.export.borrow() {
            export.attachment().end_patience();
        }
    }

    /// A client that is not read from is seen to go away all the same.
    pub(crate) fn look_after(&self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) || self.is_abandoned() {
            self.cut();
        } else if self.is_full.get() && self.wire.has_hung_up() {
            self.end_patience();
        }
    }

    /// Ends all traffic at once.
    pub(crate) fn cut(&self) {
        self.is_cut.set(true);
        self.hurried.notify_one();
        self.end_patience();
        self.wire.cut();
    }

    /// The server is closing: whoever has nothing in flight is cut, the others when they are answered.
    pub(crate) fn wind_up(&self) {
        match &*self.session.borrow() {
            None => self.cut(),
            Some(_) => {
                self.end_patience();
                self.answered.notify_one();
                self.hurried.notify_one();
            }
        }
    }

    /// The limits of an export have changed: it may be this one's.
    pub(crate) fn look_again(&self) {
        self.hurried.notify_one();
    }

    /// Delivers the engine's answer to a request of this connection; gives back what else it must be asked.
    pub(crate) fn complete(&self, slot: Slot, result: Result<Payload, RequestError>) -> Option<Request> {
        let more = self.with_session(|session| session.complete(slot, result));
        self.answered.notify_one();
        let export = self.export.borrow();
        more.map(|ask| self.request(export.as_ref().expect("open as long as it has requests"), slot, ask))
    }

    fn request(&self, export: &OpenExport, slot: Slot, ask: Ask) -> Request {
        let attachment = export.attachment().clone();
        let action = match ask {
            Ask::Act(action) => action,
            Ask::Changes { since, range } => Action::Changes {
                since: export.since(since).clone(),
                offset: range.offset,
                length: range.length,
                limit: STATUS_DESCRIPTORS_MAX,
            },
        };
        Request { tag: join_tag(self.index, slot), attachment, action }
    }

    fn with_session<T>(&self, act: impl FnOnce(&mut Session) -> T) -> T {
        act(self.session.borrow_mut().as_mut().expect("requests come after the handshake"))
    }

    /// Serves the client to the end.
    pub(crate) async fn run(self: Rc<Self>, worker: Rc<Worker>, tls: Stance) {
        let mut received = Received { bytes: Vec::with_capacity(HANDSHAKE_RECEIVE_BYTES), used: 0 };
        let Ok(Some((terms, export))) = self.handshake(&worker, tls, &mut received).await else {
            return;
        };
        self.deadline.set(None);
        let export = Rc::new(export);
        self.session.replace(Some(Session::new(terms, &worker.limits)));
        self.export.replace(Some(export.clone()));
        let writer = tokio_uring::spawn(self.clone().write(worker.clone()));
        received.grow();
        self.read(&worker, &export, received).await;
        self.end_patience();
        self.with_session(Session::end_intake);
        self.intake_ended.set(true);
        self.answered.notify_one();
        // The writer ends by itself when the last request is answered; if it panicked, nothing is left to send.
        drop(writer.await);
        // Whoever sees the connection end may already remove what was exported.
        drop((self.export.take(), export));
        self.deadline.set(Some(Instant::now() + worker.limits.write_stall));
        self.wire.say_goodbye().await;
        self.cut();
    }

    async fn handshake(
        &self,
        worker: &Worker,
        tls: Stance,
        received: &mut Received,
    ) -> Result<Option<(Terms, OpenExport)>, Gone> {
        let mut out = Vec::new();
        let mut exports = PoolExports { table: worker.exports.clone(), opened: None, access: Access::All };
        let mut handshake = Handshake::new(tls, &mut out);
        loop {
            let mut input = received.unused();
            let before = input.len();
            let progress = handshake.advance(&mut input, &mut exports, &mut out);
            let used = before - input.len();
            received.use_up(used);
            if !out.is_empty() {
                out = self.wire.send(std::mem::take(&mut out)).await?;
                out.clear();
                out.shrink_to(HANDSHAKE_RECEIVE_BYTES);
            }
            match progress {
                Progress::Answered => {}
                Progress::Hungry => self.receive(received).await?,
                Progress::StartTls => {
                    let tls = worker.tls.as_ref().ok_or(Gone)?;
                    let (access, plain) = self.wire.start_tls(tls).await?;
                    exports.access = access;
                    received.replace(&plain);
                }
                Progress::Agreed(terms) => return Ok(exports.opened.map(|export| (terms, export))),
                Progress::Over => {
                    self.wire.say_goodbye().await;
                    return Ok(None);
                }
            }
        }
    }

    /// Takes requests until the client is done, gone or out of step.
    async fn read(&self, worker: &Worker, export: &OpenExport, mut received: Received) {
        loop {
            let pause = self.take_requests(worker, export, &mut received);
            worker.pump();
            match pause {
                Pause::Hungry => {
                    if self.receive(&mut received).await.is_err() {
                        return;
                    }
                }
                Pause::Full => {
                    self.is_full.set(true);
                    self.staged.notified().await;
                    self.is_full.set(false);
                }
                Pause::Limited(request, turn) => {
                    self.wait_for_turn(worker, export.limiter(), &request, turn).await;
                    worker.submit(request);
                    // What is behind it is nobody's any more.
                    if self.is_cut.get() {
                        return worker.pump();
                    }
                }
                Pause::Over => return,
            }
        }
    }

    /// Hands over all requests that are there and may begin.
    fn take_requests(&self, worker: &Worker, export: &OpenExport, received: &mut Received) -> Pause {
        let size = export.attachment().size();
        let mut input = received.unused();
        let before = input.len();
        let pause = loop {
            match self.with_session(|session| session.next(&mut input, size, worker.phase())) {
                Step::Submit(slot, ask) => {
                    let request = self.request(export, slot, ask);
                    match reserve(export.limiter(), &request) {
                        None => worker.submit(request),
                        Some(turn) => break Pause::Limited(request, turn),
                    }
                }
                Step::Answered => self.answered.notify_one(),
                Step::Hungry => break Pause::Hungry,
                Step::Full => break Pause::Full,
                Step::Disconnect | Step::Lost => break Pause::Over,
            }
        };
        let used = before - input.len();
        received.use_up(used);
        pause
    }

    /// Returns when a request may begin: in its turn, or at once when the client is cut off or the server closes (W10).
    async fn wait_for_turn(&self, worker: &Worker, limiter: &RateLimiter, request: &Request, turn: Turn) {
        self.waits_for_turn.set(true);
        let mut turn = Some(turn);
        while let Some(waiting) = turn
            && !self.is_cut.get()
            && worker.phase() == Phase::Serving
        {
            let _in_time_or_hurried =
                timeout_at(Instant::from_std(waiting.due()), self.hurried.notified()).await;
            turn = limiter.renew(waiting, cost_of(&request.action), Instant::now().into_std());
        }
        self.waits_for_turn.set(false);
    }

    async fn receive(&self, received: &mut Received) -> Result<(), Gone> {
        received.bytes = self.wire.receive(received.take_for_filling()).await?;
        if self.wire.wants_to_speak() {
            self.answered.notify_one();
        }
        Ok(())
    }

    /// Sends replies until the intake has ended and everything is answered. When the client does not take them
    /// any more, they are thrown away.
    async fn write(self: Rc<Self>, worker: Rc<Worker>) {
        let mut out = Vec::with_capacity(STAGE_BYTES);
        let mut gone = false;
        loop {
            out.clear();
            let copied_max = self.wire.copied_max();
            let (leaving, unanswered) =
                self.with_session(|session| (session.stage(&mut out, copied_max), session.unanswered()));
            self.staged.notify_one();
            if out.is_empty() && leaving.is_none() && (gone || !self.wire.wants_to_speak()) {
                if unanswered == 0 && self.intake_ended.get() {
                    return;
                }
                if unanswered == 0 && worker.phase() == Phase::Draining {
                    self.cut();
                }
                self.answered.notified().await;
                continue;
            }
            if !gone {
                self.deadline.set(Some(Instant::now() + worker.limits.write_stall));
                let sent = match &leaving {
                    None => self.wire.send(out).await,
                    Some(leaving) => self.wire.send_both(out, leaving.run()).await,
                };
                self.deadline.set(None);
                gone = sent.is_err();
                out = sent.unwrap_or_default();
                // A reply may have gone beyond the bound by a chunk.
                out.clear();
                out.shrink_to(STAGE_BYTES);
                if gone {
                    self.cut();
                }
            }
            if let Some(leaving) = leaving {
                self.with_session(|session| session.has_left(leaving));
            }
        }
    }
}

/// The turn of a request that the export's limits hold back.
fn reserve(limiter: &RateLimiter, request: &Request) -> Option<Turn> {
    if !limiter.is_limiting() {
        return None;
    }
    limiter.reserve(cost_of(&request.action), Instant::now().into_std())
}

impl Received {
    fn unused(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    fn use_up(&mut self, count: usize) {
        self.used += count;
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        }
    }

    /// Only `bytes` are here, and nothing that came before.
    fn replace(&mut self, bytes: &[u8]) {
        self.used = 0;
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// The buffer with what is unused at its front and room behind it.
    fn take_for_filling(&mut self) -> Vec<u8> {
        self.bytes.drain(..self.used);
        self.used = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Requests carry payloads, options do not.
    fn grow(&mut self) {
        let length = self.bytes.len();
        self.bytes.reserve_exact(RECEIVE_BYTES.saturating_sub(length));
    }
}
