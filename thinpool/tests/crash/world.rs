//! The engine at work on a simulated device: performs actions, keeps the model of what was promised in step, and
//! records every moment at which a crash may come.

use crate::action::{Action, Durable, Space, Span};
use crate::chance::Chance;
use crate::model::{Change, Expectation, Kind, Mark, PoolModel, Progress};
use crate::pool::{self, BLOCK, DEVICE_BLOCKS, ROUND, chain, name, seen};
use crate::recorder::{Phase, Recorder};
use crate::stamp::{SECTOR, SECTORS_PER_BLOCK, Seen, Value, bytes};
use blockstore::simulated::{Profile, SimulatedDevice, SimulatedDisk};
use blockstore::{Buffer, Device, Durability, Operation, Submission, Token};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use thinpool::{
    Access, Attachment, Channel, CheckReport, Command, Error, Keeper, Outcome, Payload, Pool, Reply, Request,
    RequestError, Tail, Ticket, ZeroSpace,
};

/// Channels of guests; their lanes of the tail are 1 and up, the keeper's is 0.
const CHANNELS: usize = 2;
const KEEPER_LANE: usize = 0;
/// What a check says of a block it could not read.
const DEVICE_FAILED: &str = "the device failed";
/// Rounds after which something hangs.
const ROUNDS_MAX: usize = 100_000;
/// Rounds without progress after which nothing goes on by itself.
const IDLE_ROUNDS: usize = 12;

/// Why a workload ends before its time.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A planned fault has made the pool refuse further changes, as it must.
    Poisoned,
    /// A promise was broken.
    Wrong(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

/// Whether a guest writes a sector again before its last write of it has ended. What it then holds is open, but other
/// volumes must not notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Races {
    Avoided,
    Allowed,
}

/// What a workload asks of its world.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) profile: Profile,
    pub(crate) races: Races,
    /// Nodes one step of a sweep looks at: guests come in between two steps.
    pub(crate) sweep_nodes: usize,
}

impl From<Profile> for Setting {
    fn from(profile: Profile) -> Self {
        Self { profile, races: Races::Avoided, sweep_nodes: pool::limits().sweep_nodes }
    }
}

pub(crate) struct World {
    device: SimulatedDevice,
    tail: Tail,
    boot_id: [u8; 16],
    engine: Option<Engine>,
    attachments: BTreeMap<String, Attachment>,
    pub(crate) model: PoolModel,
    requests: BTreeMap<u64, Flying>,
    command: Option<FlyingCommand>,
    pub(crate) recorder: Recorder,
    chance: Chance,
    races: Races,
    sweep_nodes: usize,
    /// Faults are planned, so requests and commands may fail.
    faulty: bool,
    poisoned: bool,
    next_value: u64,
    next_tag: u64,
    now: Duration,
    /// Sequence and bytes of the tail when it was looked at last.
    newest: u64,
    tail_used: u64,
}

struct Engine {
    channels: Vec<Channel>,
    keeper: Keeper,
    pool: Pool,
}

/// A request without its reply.
struct Flying {
    volume: String,
    what: What,
}

enum What {
    /// `raced`: another write of the same sectors was under way at the same time.
    Write {
        range: Range<usize>,
        value: Value,
        durable: Durable,
        raced: bool,
    },
    Flush {
        mark: Mark,
    },
    Read {
        disturbed: bool,
    },
}

struct FlyingCommand {
    ticket: Arc<Ticket>,
    change: Change,
    mark: Mark,
}

/// A pool at rest and what is in it.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) disk: SimulatedDisk,
    pub(crate) model: PoolModel,
    /// Values below this one are taken.
    next_value: u64,
}

impl Start {
    /// Volumes `a` and `b`, a snapshot `a@s`, a clone `c` of it; blocks of each kind in each.
    pub(crate) fn prepared() -> Result<Self, Trouble> {
        let device = empty_device();
        thinpool::create(Arc::new(device.clone()), &pool::options())
            .map_err(|error| format!("create: {}", chain(&error)))?;
        let start = Self { disk: device.disk(), model: PoolModel::default(), next_value: 1 };
        let mut world = World::begin(&start, Profile::default(), 1)?;
        let write = |volume: &str, first, count| Action::Write {
            volume: volume.to_owned(),
            span: Span::blocks(first, count),
            durable: Durable::Later,
        };
        let text = str::to_owned;
        for action in [
            Action::Create { name: text("a"), blocks: 8 },
            Action::Create { name: text("b"), blocks: 8 },
            write("a", 0, 4),
            write("b", 1, 2),
            Action::snapshot(&["a"], "s"),
            Action::clone("a@s", &["c"]),
            write("a", 1, 1),
            write("a", 6, 1),
            write("c", 2, 2),
            Action::Flush { volume: text("a") },
            Action::Settle,
        ] {
            world.perform(&action)?;
            world.drain()?;
            world.recorder.take();
        }
        world.rest()
    }
}

pub(crate) fn empty_device() -> SimulatedDevice {
    SimulatedDevice::new(SimulatedDisk::new(DEVICE_BLOCKS * BLOCK), Profile::default(), 0)
}

impl World {
    /// Opens the pool; every moment from here on is recorded.
    pub(crate) fn begin(start: &Start, setting: impl Into<Setting>, seed: u64) -> Result<Self, Trouble> {
        let Setting { profile, races, sweep_nodes } = setting.into();
        let mut chance = Chance::new(seed);
        let faulty = !profile.faults.is_empty();
        let device = SimulatedDevice::new(start.disk.clone(), profile, chance.next());
        let tail = pool::new_tail();
        let expectation = Arc::new(Expectation::of(&start.model, None, faulty));
        let recorder = Recorder::new(tail.clone(), expectation, pool::journal());
        let observer = recorder.clone();
        device.observe(move |point| observer.observe(point));
        let mut world = Self {
            device,
            tail,
            boot_id: chance.id(),
            engine: None,
            attachments: BTreeMap::new(),
            model: start.model.clone(),
            requests: BTreeMap::new(),
            command: None,
            recorder,
            chance,
            races,
            sweep_nodes,
            faulty,
            poisoned: false,
            next_value: start.next_value,
            next_tag: 1,
            now: Duration::ZERO,
            newest: 0,
            tail_used: 0,
        };
        world.open()?;
        Ok(world)
    }

    /// What a power cut cannot take away.
    pub(crate) fn durable(&self) -> SimulatedDisk {
        self.device.durable()
    }

    pub(crate) fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    fn open(&mut self) -> Result<(), Trouble> {
        self.recorder.next_keeper();
        let mut opening = pool::opening(self.boot_id, &mut self.chance);
        opening.limits.sweep_nodes = self.sweep_nodes;
        let (pool, keeper) = thinpool::open(Arc::new(self.device.clone()), self.tail.clone(), opening)
            .map_err(|error| self.error("open", &error))?;
        let channels: Result<Vec<_>, _> = (0..CHANNELS).map(|_| pool.channel()).collect();
        let channels = channels.map_err(|error| format!("a channel: {}", chain(&error)))?;
        self.engine = Some(Engine { channels, keeper, pool });
        self.newest = 0;
        self.tail_used = 0;
        Ok(())
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("the pool is open")
    }

    /// Starts an action. Those that cannot overlap with what is under way wait for it first.
    pub(crate) fn perform(&mut self, action: &Action) -> Result<(), Trouble> {
        if let (Some(volume), Some(command)) = (action.volume(), &self.command)
            && command.change.takes(volume)
        {
            self.drain_command()?;
        }
        match action {
            Action::Write { volume, span, durable } => {
                let value = Value::written(self.take_value());
                let content = bytes(value, span.first, span.count);
                let action = thinpool::Action::Write {
                    offset: offset_of(span.first),
                    buffer: Buffer::from_slice(&content),
                    durability: durability(*durable),
                };
                self.change(volume, span.range(), value, *durable, action)
            }
            Action::Zeroes { volume, span, durable, space } => {
                let value = Value::zeroed(self.take_value());
                let action = thinpool::Action::WriteZeroes {
                    offset: offset_of(span.first),
                    length: offset_of(span.count),
                    durability: durability(*durable),
                    space: if *space == Space::Allocate { ZeroSpace::Allocate } else { ZeroSpace::Release },
                };
                self.change(volume, span.range(), value, *durable, action)
            }
            Action::Trim { volume, span, durable } => {
                let value = Value::zeroed(self.take_value());
                let action = thinpool::Action::Trim {
                    offset: offset_of(span.first),
                    length: offset_of(span.count),
                    durability: durability(*durable),
                };
                let first = span.first.next_multiple_of(SECTORS_PER_BLOCK);
                let end = (span.first + span.count) / SECTORS_PER_BLOCK * SECTORS_PER_BLOCK;
                self.change(volume, first..end.max(first), value, *durable, action)
            }
            Action::Flush { volume } => {
                let what = What::Flush { mark: self.model.mark(volume) };
                self.request(volume, what, thinpool::Action::Flush)
            }
            Action::Read { volume } => {
                let Some(disk) = self.model.disks.get(volume) else { return Ok(()) };
                let buffer = Buffer::zeroed(disk.sectors() * SECTOR);
                let disturbed = self.is_written(volume, &(0..disk.sectors()));
                self.request(volume, What::Read { disturbed }, thinpool::Action::Read { offset: 0, buffer })
            }
            Action::Grow { blocks } => self.grow(*blocks),
            Action::Reopen => self.reopen(),
            Action::Pass => self.pass(),
            Action::Drain => self.drain(),
            command => self.start_command(command),
        }
    }

    fn take_value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    fn change(
        &mut self,
        volume: &str,
        range: Range<usize>,
        value: Value,
        durable: Durable,
        action: thinpool::Action,
    ) -> Result<(), Trouble> {
        let Some(disk) = self.model.disks.get(volume) else { return Ok(()) };
        let wanted = match &action {
            thinpool::Action::Write { offset, buffer, .. } => offset + length_of(buffer.len()),
            thinpool::Action::Trim { offset, length, .. }
            | thinpool::Action::WriteZeroes { offset, length, .. } => offset + length,
            _ => 0,
        };
        if wanted > offset_of(disk.sectors()) || disk.kind != Kind::Volume {
            return Ok(());
        }
        let raced = self.is_written(volume, &range);
        if raced && self.races == Races::Avoided {
            self.drain_requests()?;
        }
        let raced = self.race(volume, &range);
        self.model.begin_write(volume, range.clone(), value);
        if let Some(command) = &mut self.command {
            command.change.meanwhile(volume, range.clone(), value);
        }
        for flying in self.requests.values_mut().filter(|flying| flying.volume == volume) {
            if let What::Read { disturbed } = &mut flying.what {
                *disturbed = true;
            }
        }
        self.promise();
        self.request(volume, What::Write { range, value, durable, raced }, action)
    }

    /// A write of these sectors begins: it races with all that are under way, and they with it.
    fn race(&mut self, volume: &str, sectors: &Range<usize>) -> bool {
        let mut any = false;
        for flying in self.requests.values_mut().filter(|flying| flying.volume == volume) {
            if let What::Write { range, raced, .. } = &mut flying.what
                && range.start < sectors.end
                && sectors.start < range.end
            {
                (*raced, any) = (true, true);
            }
        }
        any
    }

    /// Whether a request under way writes any of these sectors.
    fn is_written(&self, volume: &str, sectors: &Range<usize>) -> bool {
        self.requests.values().filter(|flying| flying.volume == volume).any(|flying| match &flying.what {
            What::Write { range, .. } => range.start < sectors.end && sectors.start < range.end,
            _ => false,
        })
    }

    fn request(&mut self, volume: &str, what: What, action: thinpool::Action) -> Result<(), Trouble> {
        if !self.model.disks.contains_key(volume) {
            return Ok(());
        }
        let attachment = self.attachment(volume)?;
        let tag = self.next_tag;
        self.next_tag += 1;
        let mut request = Request { tag, attachment, action };
        let at = self.chance.below(CHANNELS);
        self.requests.insert(tag, Flying { volume: volume.to_owned(), what });
        for _ in 0..ROUNDS_MAX {
            match self.engine().channels[at].submit(request) {
                Ok(()) => return self.after_call(at + 1, Vec::new()),
                Err(full) => request = full,
            }
            self.round()?;
        }
        Err("a full channel never has room again".to_owned().into())
    }

    fn attachment(&mut self, volume: &str) -> Result<Attachment, Trouble> {
        if let Some(attachment) = self.attachments.get(volume) {
            return Ok(attachment.clone());
        }
        let is_volume = self.model.disks.get(volume).is_some_and(|disk| disk.kind == Kind::Volume);
        let access = if is_volume { Access::ReadWrite } else { Access::ReadOnly };
        let opened = self.engine().pool.attach(&name(volume), access);
        let opened = opened.map_err(|error| self.error(&format!("attaching {volume}"), &error))?;
        // A reader keeps what it reads; it must not keep a snapshot for longer than a request.
        if is_volume {
            self.attachments.insert(volume.to_owned(), opened.clone());
        }
        Ok(opened)
    }

    /// Waits for the requests of a volume and closes it.
    fn detach(&mut self, volume: &str) -> Result<(), Trouble> {
        self.drain_requests()?;
        self.attachments.remove(volume);
        Ok(())
    }

    fn start_command(&mut self, action: &Action) -> Result<(), Trouble> {
        self.drain_command()?;
        let Some((command, change)) = self.plan(action)? else { return Ok(()) };
        let mark = match action {
            Action::Commit => self.model.mark_all(),
            Action::Snapshot { volumes, .. } => {
                volumes.iter().flat_map(|volume| self.model.mark(volume)).collect()
            }
            _ => Mark::new(),
        };
        match action {
            Action::Remove { name } if name.contains('@') => self.recorder.phase(Phase::Absorb, true),
            Action::Remove { .. } | Action::Rollback { .. } => self.recorder.phase(Phase::Free, true),
            _ => {}
        }
        self.submit(command, change, mark);
        Ok(())
    }

    fn submit(&mut self, command: Command, change: Change, mark: Mark) {
        let ticket = self.engine().pool.submit(command);
        self.command = Some(FlyingCommand { ticket, change, mark });
        self.promise();
    }

    /// The command, and what it does; `None` when its names do not exist (any more).
    fn plan(&mut self, action: &Action) -> Result<Option<(Command, Change)>, Trouble> {
        let bytes = |blocks: usize| offset_of(blocks * SECTORS_PER_BLOCK);
        let there = |name: &str| self.model.disks.contains_key(name);
        let names = |change: &Change| change.made().iter().map(|text| name(text)).collect();
        Ok(Some(match action {
            Action::Create { name: text, blocks } if !there(text) => (
                Command::CreateVolume { name: name(text), size: bytes(*blocks) },
                Change::Create { name: text.clone(), blocks: *blocks },
            ),
            Action::Snapshot { volumes, point } => {
                let Some(change) = Change::snapshot(&self.model, volumes, point) else { return Ok(None) };
                (Command::Snapshot { names: names(&change) }, change)
            }
            Action::Clone { source, names: clones }
                if there(source) && !clones.iter().any(|name| there(name)) =>
            {
                let change = Change::Clone { source: source.clone(), names: clones.clone() };
                (Command::Clone { source: name(source), names: names(&change), size: None }, change)
            }
            Action::Rollback { volume, point } => {
                let to = format!("{volume}@{point}");
                let fits = match (self.model.disks.get(&to), self.model.disks.get(volume)) {
                    (Some(to), Some(volume)) => to.blocks() == volume.blocks(),
                    _ => false,
                };
                if !fits {
                    return Ok(None);
                }
                self.detach(volume)?;
                (Command::Rollback { to: name(&to) }, Change::Rollback { volume: volume.clone(), to })
            }
            Action::Remove { name: text } if there(text) => {
                let points = format!("{text}@");
                let kept = |other: &&String| *other == text || other.starts_with(&points);
                let names: Vec<String> = self.model.disks.keys().filter(kept).cloned().collect();
                self.detach(text)?;
                (Command::Remove { name: name(text), recursive: true }, Change::Remove { names })
            }
            Action::Resize { name: text, blocks } if there(text) => {
                self.drain_requests()?;
                (
                    Command::Resize { name: name(text), size: bytes(*blocks) },
                    Change::Resize { name: text.clone(), blocks: *blocks },
                )
            }
            Action::Publish { volume, version } if there(volume) && !there(version) => {
                self.detach(volume)?;
                (
                    Command::Publish { volume: name(volume), version: name(version) },
                    Change::Publish { volume: volume.clone(), version: version.clone() },
                )
            }
            Action::Rename { from, to } if there(from) && !there(to) => {
                self.detach(from)?;
                (
                    Command::Rename { from: name(from), to: name(to) },
                    Change::Rename { from: from.clone(), to: to.clone() },
                )
            }
            Action::Checkpoint => (Command::Checkpoint, Change::Nothing),
            Action::Commit => (Command::Commit, Change::Nothing),
            Action::Settle => (Command::Settle, Change::Nothing),
            Action::Thin => (Command::Thin, Change::Nothing),
            _ => return Ok(None),
        }))
    }

    /// Makes the device longer, as an operator would, and tells the pool.
    fn grow(&mut self, blocks: u64) -> Result<(), Trouble> {
        self.drain_command()?;
        self.recorder.phase(Phase::Grow, true);
        let length = self.device.size() + blocks * BLOCK;
        let mut channel =
            self.device.open_channel(1).map_err(|error| format!("a channel: {}", chain(&error)))?;
        let mut queue =
            VecDeque::from([Submission { token: Token(0), operation: Operation::Resize { length } }]);
        channel.submit(&mut queue);
        let mut done = Vec::new();
        while done.is_empty() {
            channel.poll(&mut done);
        }
        self.submit(Command::Grow, Change::Nothing, Mark::new());
        Ok(())
    }

    fn close(&mut self) -> Result<(), Trouble> {
        self.drain()?;
        self.attachments.clear();
        self.submit(Command::Close, Change::Nothing, Mark::new());
        self.drain_command()?;
        self.engine = None;
        // Closed cleanly, everything is durable.
        let mark = self.model.mark_all();
        self.model.settle(&mark);
        self.promise();
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), Trouble> {
        self.close()?;
        self.open()
    }

    /// The pool at rest.
    fn rest(mut self) -> Result<Start, Trouble> {
        self.close()?;
        Ok(Start { disk: self.device.disk(), model: self.model.clone(), next_value: self.next_value })
    }

    /// Lets so much time pass that everything staged is due.
    fn pass(&mut self) -> Result<(), Trouble> {
        self.now += pool::limits().commit_interval;
        (0..IDLE_ROUNDS).try_for_each(|_| self.round().map(drop))
    }

    pub(crate) fn drain_requests(&mut self) -> Result<(), Trouble> {
        for _ in 0..ROUNDS_MAX {
            if self.requests.is_empty() {
                return Ok(());
            }
            self.round()?;
        }
        let status = self.engine().pool.status();
        Err(format!("{} requests hang; {status:?}", self.requests.len()).into())
    }

    fn drain_command(&mut self) -> Result<(), Trouble> {
        for _ in 0..ROUNDS_MAX {
            if self.command.is_none() {
                return Ok(());
            }
            self.round()?;
        }
        let hanging = self.command.as_ref().map(|command| command.change.words());
        let status = self.engine().pool.status();
        Err(format!("a command hangs: {hanging:?}; {status:?}").into())
    }

    /// Waits until nothing goes on by itself any more.
    pub(crate) fn drain(&mut self) -> Result<(), Trouble> {
        self.drain_requests()?;
        self.drain_command()?;
        let mut idle = 0;
        for _ in 0..ROUNDS_MAX {
            idle = if self.round()? { 0 } else { idle + 1 };
            if idle == IDLE_ROUNDS {
                for phase in [Phase::Absorb, Phase::Free, Phase::Grow] {
                    self.recorder.phase(phase, false);
                }
                return Ok(());
            }
        }
        Err("the keeper is never idle".to_owned().into())
    }

    /// Everybody gets on a little; tells whether anybody did.
    pub(crate) fn round(&mut self) -> Result<bool, Trouble> {
        let mut got_on = false;
        for at in 0..CHANNELS {
            let mut replies = Vec::new();
            self.engine().channels[at].poll(&mut replies);
            got_on |= !replies.is_empty();
            self.after_call(at + 1, replies)?;
        }
        self.now += ROUND;
        let now = self.now;
        got_on |= self.engine().keeper.poll(now);
        self.after_call(KEEPER_LANE, Vec::new())?;
        Ok(got_on)
    }

    /// The engine was called and may have staged records in this lane; then it may have answered.
    fn after_call(&mut self, lane: usize, replies: Vec<Reply>) -> Result<(), Trouble> {
        let used = self.tail.bytes_used();
        let mut changed = used != self.tail_used;
        self.tail_used = used;
        if changed {
            let newest = self.tail.read().records.last().map_or(0, |(sequence, _)| *sequence);
            if newest > self.newest {
                self.newest = newest;
                self.recorder.torn(self.device.crash_point(), lane);
            }
        }
        let outcome = self.command.as_ref().and_then(|command| command.ticket.take());
        changed |= !replies.is_empty() || outcome.is_some();
        if !changed {
            return Ok(());
        }
        for reply in replies {
            self.replied(reply)?;
        }
        if let Some(outcome) = outcome {
            self.answered(outcome)?;
        }
        self.promise();
        self.recorder.between(self.device.crash_point());
        if self.poisoned { Err(Trouble::Poisoned) } else { Ok(()) }
    }

    fn replied(&mut self, reply: Reply) -> Result<(), Trouble> {
        let flying = self.requests.remove(&reply.tag);
        let Flying { volume, what } = flying.ok_or_else(|| "a reply to no request".to_owned())?;
        match (what, reply.result) {
            (What::Write { range, value, raced: true, .. }, Ok(_)) => {
                self.model.acknowledge_raced(&volume, range, value);
            }
            (What::Write { range, value, durable, .. }, Ok(_)) => {
                self.model.acknowledge_write(&volume, range, value, durable == Durable::Through);
            }
            (What::Write { range, .. }, Err(RequestError::OutOfSpace)) => {
                self.model.fail_write(&volume, range)
            }
            (What::Flush { mark }, Ok(_)) => self.model.settle(&mark),
            (What::Read { disturbed }, Ok(Payload::Buffer(buffer))) => {
                let seen = seen(&buffer);
                self.look_at_read(&volume, disturbed, &seen)?;
                self.model.saw(&volume, &seen);
            }
            (_, Ok(other)) => return Err(format!("a reply of the wrong kind: {other:?}").into()),
            (what, Err(error @ (RequestError::Io | RequestError::Poisoned))) if self.faulty => {
                self.poisoned |= error == RequestError::Poisoned;
                if let What::Write { range, .. } = what {
                    self.model.fail_write(&volume, range);
                }
            }
            (_, Err(error)) => return Err(format!("a request of {volume} failed: {error}").into()),
        }
        Ok(())
    }

    fn look_at_read(&self, volume: &str, disturbed: bool, seen: &[Seen]) -> Result<(), Trouble> {
        let garbage = seen.iter().position(|seen| matches!(seen, Seen::Garbage { .. }));
        let wrong = match garbage {
            Some(at) => Some(format!("a read of {volume}: sector {at} is garbage")),
            None if disturbed => None,
            None => self.model.refuted_read(volume, 0, seen),
        };
        wrong.map_or(Ok(()), |wrong| Err(wrong.into()))
    }

    fn answered(&mut self, outcome: Result<Outcome, Error>) -> Result<(), Trouble> {
        let command = self.command.take().expect("an outcome is of a command");
        match outcome {
            Ok(Outcome::Checked(report)) if !report.is_clean() && !self.was_hindered(&report) => {
                let (leaked, errors) = (report.leaked_blocks, report.errors.join("; "));
                return Err(format!("an online check: {leaked} leaked blocks; {errors}").into());
            }
            Ok(_) => {
                self.model.settle(&command.mark);
                command.change.apply(&mut self.model, Progress::Answered);
            }
            Err(Error::OutOfSpace | Error::Busy { .. } | Error::Invalid(_) | Error::DrainTimeout) => {}
            Err(Error::Poisoned | Error::Io { .. }) if self.faulty => {
                // Whether it has happened is known only after the pool is opened again.
                self.poisoned = true;
                self.command = Some(command);
            }
            Err(error) => return Err(self.error(&command.change.words(), &error)),
        }
        Ok(())
    }

    /// A node that could not be read was not checked.
    fn was_hindered(&self, report: &CheckReport) -> bool {
        self.faulty && report.errors.iter().any(|error| error.contains(DEVICE_FAILED))
    }

    fn error(&self, doing: &str, error: &Error) -> Trouble {
        match error {
            Error::Poisoned | Error::Io { .. } if self.faulty => Trouble::Poisoned,
            _ => Trouble::Wrong(format!("{doing}: {}", chain(error))),
        }
    }

    /// Nothing is under way: a check is clean and everything shows what was acknowledged last.
    pub(crate) fn inspect(&mut self) -> Result<(), Trouble> {
        self.drain_requests()?;
        self.drain_command()?;
        self.submit(Command::Check, Change::Nothing, Mark::new());
        self.drain_command()?;
        let volumes: Vec<String> = self.model.disks.keys().cloned().collect();
        for volume in volumes {
            self.perform(&Action::Read { volume })?;
            self.drain_requests()?;
        }
        Ok(())
    }

    /// What a crash from now on is held to.
    fn promise(&self) {
        let under_way = self.command.as_ref().map(|command| &command.change);
        self.recorder.expect(Arc::new(Expectation::of(&self.model, under_way, self.faulty)));
    }
}

fn durability(durable: Durable) -> Durability {
    match durable {
        Durable::Later => Durability::Cached,
        Durable::Through => Durability::Through,
    }
}

/// Bytes of so many sectors.
fn offset_of(sectors: usize) -> u64 {
    length_of(sectors * SECTOR)
}

fn length_of(length: usize) -> u64 {
    u64::try_from(length).expect("a small length")
}
