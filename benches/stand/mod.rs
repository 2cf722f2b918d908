//! What the benches stand on: a pool on a RAM device, its keeper polled by hand, and one channel.
//!
//! The medium is written once before the pool is made, so that no figure contains the operating system's work of
//! finding memory for the device. The keeper is polled every [`KEEPER_EVERY`] requests and inside the measured time:
//! commits and checkpoints belong to what a write costs.
#![allow(dead_code, reason = "each bench uses its own part of it")]

use blockstore::{Buffer, Completion, Device, Durability, Operation, RamDevice, Submission, Token};
use cow_tree::units::PoolId;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use thinpool::{
    Access, Action, Attachment, Channel, Command, CreateOptions, Depths, GeometryOptions, Keeper, Limits,
    Name, Opening, Pool, Reply, Request, Shape, Tail,
};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const BLOCK: u64 = 4096;
/// Requests between two polls of the keeper.
pub(crate) const KEEPER_EVERY: u64 = 256;
/// Bytes of a golden image and so of its clones.
pub(crate) const IMAGE_BYTES: u64 = 128 * MIB;
/// A request that is not answered after so many polls is a hang.
const POLLS_MAX: u64 = 10_000_000;

pub(crate) struct Stand {
    pub(crate) pool: Pool,
    pub(crate) keeper: Keeper,
    pub(crate) channel: Channel,
    replies: Vec<Reply>,
    now: Duration,
    asked: u64,
}

impl Stand {
    pub(crate) fn new(bytes: u64) -> Self {
        let device: Arc<dyn Device> = Arc::new(RamDevice::new(bytes));
        warm(&*device);
        let options = CreateOptions {
            name: "bench".to_owned(),
            pool_id: PoolId([7; 16]),
            geometry: GeometryOptions::default(),
            ..CreateOptions::default()
        };
        thinpool::create(device.clone(), &options).expect("an empty device takes a pool");
        let (pool, keeper) =
            thinpool::open(device, Tail::in_memory(Shape::default()), opening()).expect("a new pool opens");
        let channel = pool.channel().expect("the first channel");
        Self { pool, keeper, channel, replies: Vec::new(), now: Duration::ZERO, asked: 0 }
    }

    pub(crate) fn tick(&mut self) {
        self.now += Duration::from_millis(1);
        self.keeper.poll(self.now);
    }

    pub(crate) fn run(&mut self, command: Command) {
        let ticket = self.pool.submit(command);
        for _ in 0..POLLS_MAX {
            self.tick();
            self.channel.poll(&mut self.replies);
            if let Some(outcome) = ticket.take() {
                outcome.expect("the command is legal and there is space");
                return;
            }
        }
        panic!("a command does not end")
    }

    /// One request from submission to reply.
    pub(crate) fn ask(&mut self, attachment: &Attachment, action: Action) {
        self.asked += 1;
        if self.asked.is_multiple_of(KEEPER_EVERY) {
            self.tick();
        }
        let request = Request { tag: 0, attachment: attachment.clone(), action };
        self.channel.submit(request).expect("the channel is empty");
        for _ in 0..POLLS_MAX {
            self.channel.poll(&mut self.replies);
            if let Some(reply) = self.replies.pop() {
                reply.result.expect("the request is legal and there is space");
                return;
            }
            if !self.channel.is_device_busy() {
                self.tick();
            }
        }
        panic!("a request is not answered")
    }

    pub(crate) fn write(&mut self, attachment: &Attachment, block: u64) {
        let buffer = Buffer::from_slice(&CONTENT);
        self.ask(attachment, Action::Write { offset: block * BLOCK, buffer, durability: Durability::Cached });
    }

    /// What is mapped at one block: a lookup, and no transfer.
    pub(crate) fn look_up(&mut self, attachment: &Attachment, block: u64) {
        self.ask(
            attachment,
            Action::Extents { offset: block * BLOCK, length: BLOCK, limit: 1, depths: Depths::Alike },
        );
    }

    pub(crate) fn attach(&self, name: &str) -> Attachment {
        self.pool.attach(&n(name), Access::ReadWrite).expect("the volume opens")
    }

    /// An image whose every second block is written, so that its tree has leaves: `golden@v1`.
    pub(crate) fn golden(&mut self) {
        self.run(Command::CreateVolume { name: n("golden"), size: IMAGE_BYTES });
        let golden = self.attach("golden");
        for block in 0..IMAGE_BYTES / BLOCK / 2 {
            self.write(&golden, block * 2);
        }
        self.run(Command::Snapshot { names: vec![n("golden@v1")] });
        self.run(Command::Checkpoint);
    }

    pub(crate) fn clone(&mut self, source: &str, name: &str) -> Attachment {
        self.run(Command::Clone { source: n(source), names: vec![n(name)], size: None });
        self.attach(name)
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.run(Command::Remove { name: n(name), recursive: true });
        self.run(Command::Settle);
    }
}

pub(crate) const CONTENT: [u8; 4096] = [0x5a; 4096];

pub(crate) fn n(name: &str) -> Name {
    name.parse().expect("a legal name")
}

/// The `index`th of `count` blocks in an order without neighbours; `count` is a power of two.
pub(crate) fn scattered(index: u64, count: u64) -> u64 {
    index.wrapping_mul(0x9e37_79b9_7f4a_7c15) % count
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn opening() -> Opening {
    Opening {
        incarnation: [1; 16],
        boot_id: [1; 16],
        process_id: 1,
        host: "bench".to_owned(),
        now_unix: 1_700_000_000,
        read_only: false,
        accept_lost_writes: false,
        limits: Limits { polled: true, discard: false, ..Limits::default() },
    }
}

/// Writes every byte of the device once.
fn warm(device: &dyn Device) {
    let mut channel = device.open_channel(1).expect("a RAM device opens channels");
    let mut done: Vec<Completion> = Vec::new();
    for chunk in 0..device.size() / MIB {
        let buffer = Buffer::zeroed(usize::try_from(MIB).expect("a mebibyte"));
        let operation = Operation::Write { offset: chunk * MIB, buffer, durability: Durability::Cached };
        channel.submit(&mut VecDeque::from([Submission { token: Token(chunk), operation }]));
        channel.poll(&mut done);
        done.drain(..).for_each(|completion| completion.result.expect("a RAM device has its memory"));
    }
}
