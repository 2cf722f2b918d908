//! A chain that was taken, judged, and turned into what the engine is asked.

use crate::chain::{Chain, take_front, total};
use crate::completion::{gather, identifier, lend};
use crate::request::{Command, Data, Header, SEGMENT_BYTES, Segment, Status, validate};
use crate::ring::Ring;
use blockstore::{Buffer, Durability};
use thinpool::{Action, Channel, Payload, ZeroSpace};

/// What the device lets be lent to it; the same as long as it is open.
#[derive(Clone, Copy)]
pub(crate) struct Lending {
    /// Of memory, in bytes.
    alignment: usize,
    /// The guest may change what is being written.
    writes: bool,
}

impl Lending {
    pub(crate) fn of(channel: &Channel) -> Self {
        Self { alignment: channel.memory_alignment(), writes: channel.may_lend_writes() }
    }
}

/// What a legal request needs.
pub(crate) enum Prepared {
    /// The engine, and so many bytes of memory.
    Engine(Action, u64),
    Now(Payload),
}

/// Takes what is no data off the chain.
pub(crate) fn judge(ring: &Ring, chain: &mut Chain, header: Header) -> Result<Command, Status> {
    let mut segment = None;
    if header.has_segment() {
        let mut raw = [0; SEGMENT_BYTES];
        let there = take_front(&ring.memory, &mut chain.readable, &mut raw);
        segment = there.map(|()| Segment::parse(&raw));
    }
    let data = Data { readable: total(&chain.readable), writable: total(&chain.writable) };
    validate(header, segment, data, ring.terms())
}

/// What of the chain is data belongs to the command.
pub(crate) fn perform(
    ring: &Ring,
    chain: &Chain,
    command: Command,
    lending: Lending,
) -> Result<Prepared, Status> {
    let durability = if ring.write_through { Durability::Through } else { Durability::Cached };
    let action = match command {
        Command::Read(range) => {
            let buffer = lend(ring, &chain.writable, lending.alignment)
                .unwrap_or_else(|| Buffer::uncleared(usize::try_from(range.length).expect("it is bounded")));
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
