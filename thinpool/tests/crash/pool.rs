//! A tiny pool under simulation: its geometry and limits, opening it, and running it by hand.

use crate::chance::Chance;
use crate::recorder::Journal;
use crate::stamp::{SECTOR, Seen, look};
use blockstore::Buffer;
use blockstore::simulated::SimulatedDevice;
use std::sync::Arc;
use std::time::Duration;
use thinpool::{
    Access, Action, Attachment, Channel, Command, CreateOptions, Error, GeometryOptions, Keeper, Limits,
    Name, Opening, Outcome, Payload, Pool, Reply, Request, RequestError, Shape, Tail,
};

pub(crate) const BLOCK: u64 = 4096;
pub(crate) const DEVICE_BLOCKS: u64 = 416;
const JOURNAL_START: u64 = 8;
const JOURNAL_BLOCKS: u64 = 8;
const GROUP_BLOCKS: u32 = 48;
/// A lane of the tail; small, so that full ones are met.
const LANE_BYTES: u64 = 4096;
/// The keeper's and two channels'.
const LANES: u32 = 3;
/// Rounds of polling after which something hangs.
const ROUNDS_MAX: usize = 200_000;
/// Time that passes in a round.
pub(crate) const ROUND: Duration = Duration::from_millis(1);

pub(crate) fn options() -> CreateOptions {
    CreateOptions {
        name: "crash".to_owned(),
        pool_id: cow_tree::units::PoolId([7; 16]),
        geometry: GeometryOptions { journal_blocks: Some(JOURNAL_BLOCKS), group_blocks: Some(GROUP_BLOCKS) },
        ..CreateOptions::default()
    }
}

pub(crate) fn limits() -> Limits {
    Limits {
        nodes_max: 64,
        dirty_nodes_max: 24,
        requests_max: 8,
        device_depth: 8,
        commit_interval: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(3600),
        tree: cow_tree::Limits::small(4),
        sweep_nodes: 2,
        checkpoint_pages: 2,
        discard: true,
        polled: true,
    }
}

/// The journal begins at a fixed block in this version of the format.
pub(crate) fn journal() -> Journal {
    Journal { start: JOURNAL_START, end: JOURNAL_START + JOURNAL_BLOCKS }
}

pub(crate) fn new_tail() -> Tail {
    Tail::in_memory(Shape::new(LANES, LANE_BYTES).expect("a legal shape"))
}

pub(crate) fn opening(boot_id: [u8; 16], chance: &mut Chance) -> Opening {
    Opening {
        incarnation: chance.id(),
        boot_id,
        process_id: 1,
        host: "simulated".to_owned(),
        now_unix: 0,
        read_only: false,
        accept_lost_writes: false,
        limits: limits(),
    }
}

/// An open pool with one channel, polled by hand.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pool: Pool,
    pub(crate) keeper: Keeper,
    pub(crate) channel: Channel,
    pub(crate) now: Duration,
}

impl Running {
    pub(crate) fn open(device: &SimulatedDevice, tail: Tail, opening: Opening) -> Result<Self, String> {
        let (pool, keeper) = thinpool::open(Arc::new(device.clone()), tail, opening)
            .map_err(|error| format!("open: {}", chain(&error)))?;
        let channel = pool.channel().map_err(|error| format!("a channel: {}", chain(&error)))?;
        Ok(Self { pool, keeper, channel, now: Duration::ZERO })
    }

    pub(crate) fn round(&mut self, replies: &mut Vec<Reply>) {
        self.channel.poll(replies);
        self.keeper.poll(self.now);
        self.now += ROUND;
    }

    pub(crate) fn command(&mut self, command: Command) -> Result<Outcome, Error> {
        let ticket = self.pool.submit(command);
        for _ in 0..ROUNDS_MAX {
            if let Some(outcome) = ticket.take() {
                return outcome;
            }
            self.round(&mut Vec::new());
        }
        panic!("a command hangs");
    }

    /// One request, from submission to reply.
    pub(crate) fn request(
        &mut self,
        attachment: &Attachment,
        action: Action,
    ) -> Result<Payload, RequestError> {
        let request = Request { tag: 0, attachment: attachment.clone(), action };
        self.channel.submit(request).expect("the channel is idle");
        let mut replies = Vec::new();
        for _ in 0..ROUNDS_MAX {
            self.round(&mut replies);
            if let Some(reply) = replies.pop() {
                return reply.result;
            }
        }
        panic!("a request hangs");
    }

    /// What every sector shows.
    pub(crate) fn read_all(&mut self, attachment: &Attachment) -> Result<Vec<Seen>, RequestError> {
        let length = usize::try_from(attachment.size()).expect("a small volume");
        let action = Action::Read { offset: 0, buffer: Buffer::zeroed(length) };
        match self.request(attachment, action)? {
            Payload::Buffer(buffer) => Ok(seen(&buffer)),
            other => panic!("a read answered {other:?}"),
        }
    }

    pub(crate) fn attach(&self, name: &str, access: Access) -> Result<Attachment, String> {
        self.pool
            .attach(&self::name(name), access)
            .map_err(|error| format!("attaching {name}: {}", chain(&error)))
    }

    /// Errors, or `None` when the pool is in order.
    pub(crate) fn check(&mut self) -> Option<String> {
        match self.command(Command::Check) {
            Ok(Outcome::Checked(report)) if report.is_clean() => None,
            Ok(Outcome::Checked(report)) => {
                Some(format!("check: {} leaked blocks; {}", report.leaked_blocks, report.errors.join("; ")))
            }
            Ok(other) => Some(format!("check answered {other:?}")),
            Err(error) => Some(format!("check: {}", chain(&error))),
        }
    }
}

pub(crate) fn seen(bytes: &[u8]) -> Vec<Seen> {
    bytes.chunks_exact(SECTOR).map(look).collect()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("the workload uses legal names")
}

/// An error and what caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
