//! An engine on one thread: the keeper and the channels are polled by hand, so that a test decides what happens when.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use blockstore::simulated::{Profile, SimulatedDevice, SimulatedDisk};
use blockstore::{Buffer, Device, Durability, RamDevice};
use cow_tree::units::PoolId;
use std::sync::Arc;
use std::time::Duration;
use thinpool::{
    Access, Action, Attachment, Channel, CheckReport, Command, CreateOptions, Depths, Entry, Error,
    ExtentStatus, GeometryOptions, Keeper, Limits, Name, NewDevice, Opening, Outcome, Payload, Pool, Request,
    RequestError, Shape, Status, Tail, ZeroSpace,
};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const BLOCK: u64 = 4096;
/// Polls without any progress before a test calls it a hang.
const IDLE_POLLS_MAX: u32 = 10_000;

pub(crate) fn limits() -> Limits {
    Limits { polled: true, ..Limits::default() }
}

/// Small nodes and few of them, so that splits, checkpoints and evictions happen all the time.
pub(crate) fn tiny_limits() -> Limits {
    Limits {
        polled: true,
        nodes_max: 64,
        dirty_nodes_max: 48,
        requests_max: 16,
        device_depth: 16,
        sweep_nodes: 1,
        checkpoint_pages: 1,
        tree: cow_tree::Limits::new(4, 3),
        ..Limits::default()
    }
}

pub(crate) fn opening(number: u8, limits: Limits) -> Opening {
    Opening {
        incarnation: [number; 16],
        boot_id: [1; 16],
        process_id: 7,
        host: "test".to_owned(),
        now_unix: 1_700_000_000,
        read_only: false,
        accept_lost_writes: false,
        limits,
    }
}

pub(crate) fn small_tail() -> Tail {
    Tail::in_memory(Shape::new(4, 1 << 20).expect("a small shape"))
}

pub(crate) struct Engine {
    pub(crate) device: Arc<dyn Device>,
    /// The devices of the pool after the first.
    pub(crate) further: Vec<Arc<dyn Device>>,
    pub(crate) tail: Tail,
    pub(crate) pool: Pool,
    pub(crate) keeper: Keeper,
    pub(crate) channel: Channel,
    now: Duration,
    openings: u8,
    limits: Limits,
    tag: u64,
}

impl Engine {
    pub(crate) fn new(bytes: u64) -> Self {
        Self::with(bytes, limits(), GeometryOptions::default())
    }

    pub(crate) fn with(bytes: u64, limits: Limits, geometry: GeometryOptions) -> Self {
        let device: Arc<dyn Device> = Arc::new(RamDevice::new(bytes));
        let options = CreateOptions {
            name: "p0".to_owned(),
            pool_id: PoolId([9; 16]),
            geometry,
            ..CreateOptions::default()
        };
        thinpool::create(device.clone(), &options).expect("an empty device takes a pool");
        Self::open(device, small_tail(), 1, limits).expect("a new pool opens")
    }

    /// A new pool on a simulated device of so many bytes.
    pub(crate) fn simulated(
        bytes: u64,
        profile: Profile,
        limits: Limits,
        geometry: GeometryOptions,
    ) -> (Self, Arc<SimulatedDevice>) {
        let device = Arc::new(SimulatedDevice::new(SimulatedDisk::new(bytes), profile, 1));
        let options = CreateOptions { pool_id: PoolId([7; 16]), geometry, ..CreateOptions::default() };
        thinpool::create(device.clone(), &options).expect("an empty device takes a pool");
        let engine = Self::open(device.clone(), small_tail(), 1, limits).expect("a new pool opens");
        (engine, device)
    }

    pub(crate) fn open(
        device: Arc<dyn Device>,
        tail: Tail,
        number: u8,
        limits: Limits,
    ) -> Result<Self, Error> {
        Self::open_as(device, tail, opening(number, limits))
    }

    pub(crate) fn open_as(device: Arc<dyn Device>, tail: Tail, how: Opening) -> Result<Self, Error> {
        Self::open_all(vec![device], None, tail, how)
    }

    pub(crate) fn open_all(
        mut devices: Vec<Arc<dyn Device>>,
        joining: Option<NewDevice>,
        tail: Tail,
        how: Opening,
    ) -> Result<Self, Error> {
        let (limits, number) = (how.limits, how.incarnation[0]);
        let (pool, keeper) = thinpool::open_all(devices.clone(), joining.clone(), tail.clone(), how)?;
        let channel = pool.channel()?;
        let device = devices.remove(0);
        devices.extend(joining.map(|new| new.device));
        Ok(Self {
            device,
            further: devices,
            tail,
            pool,
            keeper,
            channel,
            now: Duration::ZERO,
            openings: number,
            limits,
            tag: 0,
        })
    }

    /// The process dies: what it had acknowledged stays in the device and in the tail.
    pub(crate) fn kill(self) -> Self {
        let devices = self.devices();
        let Self { tail, pool, keeper, channel, openings, limits, .. } = self;
        let image = tail.image();
        drop((keeper, channel, pool));
        let tail = Tail::from_image(&image).expect("an image of a tail is a tail");
        Self::open_all(devices, None, tail, opening(openings + 1, limits)).expect("a killed pool opens")
    }

    pub(crate) fn close(mut self) -> Self {
        self.run(Command::Close).expect("a healthy pool closes");
        let devices = self.devices();
        let Self { tail, openings, limits, .. } = self;
        Self::open_all(devices, None, tail, opening(openings + 1, limits)).expect("a closed pool opens")
    }

    pub(crate) fn devices(&self) -> Vec<Arc<dyn Device>> {
        std::iter::once(&self.device).chain(&self.further).cloned().collect()
    }

    pub(crate) fn tick(&mut self) -> bool {
        self.now += Duration::from_millis(1);
        self.keeper.poll(self.now)
    }

    pub(crate) fn run(&mut self, command: Command) -> Result<Outcome, Error> {
        let ticket = self.pool.submit(command);
        for _ in 0..IDLE_POLLS_MAX {
            self.tick();
            self.channel.poll(&mut Vec::new());
            if let Some(outcome) = ticket.take() {
                return outcome;
            }
        }
        panic!("the command does not end: {:#?}", self.pool.status())
    }

    pub(crate) fn must(&mut self, command: Command) {
        let what = format!("{command:?}");
        if let Err(error) = self.run(command) {
            panic!("{what}: {error}");
        }
    }

    pub(crate) fn check(&mut self) -> CheckReport {
        match self.run(Command::Check) {
            Ok(Outcome::Checked(report)) => report,
            other => panic!("a check reports, not {other:?}"),
        }
    }

    pub(crate) fn assert_clean(&mut self) {
        let report = self.check();
        assert!(report.is_clean(), "{report:#?}");
    }

    pub(crate) fn attach(&self, name: &str) -> Attachment {
        self.pool.attach(&n(name), Access::ReadWrite).expect("the volume opens")
    }

    pub(crate) fn look(&self, name: &str) -> Attachment {
        self.pool.attach(&n(name), Access::ReadOnly).expect("it opens for reading")
    }

    pub(crate) fn ask(&mut self, attachment: &Attachment, action: Action) -> Result<Payload, RequestError> {
        self.tag += 1;
        let request = Request { tag: self.tag, attachment: attachment.clone(), action };
        self.channel.submit(request).expect("the channel has room");
        let mut replies = Vec::new();
        for _ in 0..IDLE_POLLS_MAX {
            self.channel.poll(&mut replies);
            if let Some(reply) = replies.pop() {
                assert_eq!(reply.tag, self.tag);
                return reply.result;
            }
            self.tick();
        }
        panic!("the request is never answered: {:#?}", self.pool.status())
    }

    pub(crate) fn write(
        &mut self,
        attachment: &Attachment,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), RequestError> {
        let (buffer, durability) = (Buffer::from_slice(bytes), Durability::Cached);
        self.ask(attachment, Action::Write { offset, buffer, durability }).map(drop)
    }

    pub(crate) fn read(&mut self, attachment: &Attachment, offset: u64, length: usize) -> Vec<u8> {
        match self.ask(attachment, Action::Read { offset, buffer: Buffer::zeroed(length) }) {
            Ok(Payload::Buffer(buffer)) => buffer.to_vec(),
            other => panic!("a read returns its buffer, not {other:?}"),
        }
    }

    pub(crate) fn flush(&mut self, attachment: &Attachment) {
        self.ask(attachment, Action::Flush).expect("a healthy device flushes");
    }

    pub(crate) fn trim(
        &mut self,
        attachment: &Attachment,
        offset: u64,
        length: u64,
    ) -> Result<(), RequestError> {
        self.ask(attachment, Action::Trim { offset, length, durability: Durability::Cached }).map(drop)
    }

    pub(crate) fn zeroes(
        &mut self,
        attachment: &Attachment,
        offset: u64,
        length: u64,
        space: ZeroSpace,
    ) -> Result<(), RequestError> {
        let action = Action::WriteZeroes { offset, length, durability: Durability::Cached, space };
        self.ask(attachment, action).map(drop)
    }

    pub(crate) fn extents(&mut self, attachment: &Attachment, offset: u64, length: u64) -> Vec<ExtentStatus> {
        match self.ask(attachment, Action::Extents { offset, length, limit: 1 << 20, depths: Depths::Alike })
        {
            Ok(Payload::Extents(extents)) => extents,
            other => panic!("extents, not {other:?}"),
        }
    }

    pub(crate) fn entry(&self, name: &str) -> Entry {
        self.pool.entry(&n(name)).expect("the name exists")
    }

    pub(crate) fn status(&self) -> Status {
        self.pool.status()
    }
}

pub(crate) fn n(name: &str) -> Name {
    name.parse().expect("a legal name")
}

pub(crate) fn volume(name: &str, size: u64) -> Command {
    Command::CreateVolume { name: n(name), size }
}

pub(crate) fn snapshot(name: &str) -> Command {
    Command::Snapshot { names: vec![n(name)] }
}

pub(crate) fn clone(source: &str, name: &str) -> Command {
    Command::Clone { source: n(source), names: vec![n(name)], size: None }
}

pub(crate) fn remove(name: &str) -> Command {
    Command::Remove { name: n(name), recursive: false }
}
