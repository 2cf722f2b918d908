//! Copies a source into a volume through an engine channel, a batch at a time.

use super::compare::{Fate, compare};
use super::source::Source;
use crate::explain;
use crate::failure::Failure;
use crate::handler::Watcher;
use crate::reason::Reason;
use blockstore::{Buffer, Durability};
use std::ops::Range;
use std::time::Duration;
use thinpool::{Access, Action, Attachment, Channel, Name, Payload, Pool, Request};

/// Bytes of one write.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces read, compared and written together.
const BATCH_PIECES: usize = 8;
/// Bytes of one trim.
const TRIM_BYTES: u64 = 1 << 30;
/// How long to sleep before looking for completions anyway.
const NAP: Duration = Duration::from_millis(100);

/// What became of the source's bytes.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pub(super) stored: u64,
    pub(super) unchanged: u64,
    pub(super) zero: u64,
}

/// `has_base` says that the volume may hold something already. Everything copied is durable on return.
pub(super) fn copy(
    pool: &Pool,
    volume: &Name,
    source: &Source,
    has_base: bool,
    watcher: &mut dyn Watcher,
    what: &str,
) -> Result<Copied, Failure> {
    let engine = |error: thinpool::Error| explain::engine(what, &error);
    let attachment = pool.attach(volume, Access::ReadWrite).map_err(engine)?;
    let channel = pool.channel().map_err(engine)?;
    let mut transfer = Transfer { attachment, channel, has_base, what, copied: Copied::default() };
    let mut at = 0;
    while let Some(data) = source.next_data(at, what)? {
        transfer.clear(at..data.start)?;
        at = data.start;
        while at < data.end {
            let end = data.end.min(at + PIECE_BYTES * u64::try_from(BATCH_PIECES).expect("small"));
            transfer.batch(source, at..end)?;
            at = end;
            if !watcher.progress(at, source.size()) {
                return Err(cancelled(what));
            }
        }
    }
    transfer.clear(at..source.size())?;
    transfer.call(vec![Action::Flush])?;
    if !watcher.progress(source.size(), source.size()) {
        return Err(cancelled(what));
    }
    Ok(transfer.copied)
}

fn cancelled(what: &str) -> Failure {
    Failure::because(
        Reason::Cancelled,
        what,
        "it was cancelled; nothing of it is left",
        "the same command again",
    )
}

struct Transfer<'a> {
    attachment: Attachment,
    channel: Channel,
    has_base: bool,
    what: &'a str,
    copied: Copied,
}

impl Transfer<'_> {
    /// A hole of the source: nothing of the base may show through.
    fn clear(&mut self, range: Range<u64>) -> Result<(), Failure> {
        self.copied.zero += range.end.saturating_sub(range.start);
        if !self.has_base {
            return Ok(());
        }
        let mut at = range.start;
        while at < range.end {
            let length = TRIM_BYTES.min(range.end - at);
            self.call(vec![Action::Trim { offset: at, length, durability: Durability::Cached }])?;
            at += length;
        }
        Ok(())
    }

    fn batch(&mut self, source: &Source, range: Range<u64>) -> Result<(), Failure> {
        let mut pieces = Vec::with_capacity(BATCH_PIECES);
        let mut at = range.start;
        while at < range.end {
            let length = PIECE_BYTES.min(range.end - at);
            let mut bytes = vec![0; usize::try_from(length).expect("a piece fits memory")];
            source.read(&mut bytes, at, self.what)?;
            pieces.push((at, bytes));
            at += length;
        }
        let bases = self.read_base(&pieces)?;
        let mut actions = Vec::new();
        for (index, (offset, bytes)) in pieces.iter().enumerate() {
            self.plan(*offset, bytes, bases.get(index).map(|base| &base[..]), &mut actions);
        }
        self.call(actions).map(drop)
    }

    fn read_base(&mut self, pieces: &[(u64, Vec<u8>)]) -> Result<Vec<Buffer>, Failure> {
        if !self.has_base {
            return Ok(Vec::new());
        }
        let read = |(offset, bytes): &(u64, Vec<u8>)| Action::Read {
            offset: *offset,
            buffer: Buffer::zeroed(bytes.len()),
        };
        let payloads = self.call(pieces.iter().map(read).collect())?;
        let buffers = payloads.into_iter().map(|payload| match payload {
            Payload::Buffer(buffer) => buffer,
            other => panic!("a read returns its buffer, not {other:?}"),
        });
        Ok(buffers.collect())
    }

    fn plan(&mut self, offset: u64, bytes: &[u8], base: Option<&[u8]>, actions: &mut Vec<Action>) {
        for (fate, range) in compare(bytes, base) {
            let at = offset + u64::try_from(range.start).expect("an offset in a piece");
            let length = u64::try_from(range.len()).expect("a length in a piece");
            match fate {
                Fate::Write => {
                    self.copied.stored += length;
                    let buffer = Buffer::from_slice(&bytes[range]);
                    actions.push(Action::Write { offset: at, buffer, durability: Durability::Cached });
                }
                Fate::Trim => {
                    self.copied.zero += length;
                    actions.push(Action::Trim { offset: at, length, durability: Durability::Cached });
                }
                Fate::Zero => self.copied.zero += length,
                Fate::Same => self.copied.unchanged += length,
            }
        }
    }

    /// Submits all actions and waits for all replies; payloads come in the order of the actions.
    fn call(&mut self, actions: Vec<Action>) -> Result<Vec<Payload>, Failure> {
        let mut payloads: Vec<Option<Payload>> = actions.iter().map(|_| None).collect();
        let mut failed = None;
        let mut waiting = actions.into_iter().zip(0_u64..);
        let mut held = None;
        let mut replies = Vec::new();
        loop {
            while let Some(request) = held.take().or_else(|| {
                waiting.next().map(|(action, tag)| Request {
                    tag,
                    attachment: self.attachment.clone(),
                    action,
                })
            }) {
                if let Err(refused) = self.channel.submit(request) {
                    held = Some(refused);
                    break;
                }
            }
            self.channel.poll(&mut replies);
            for reply in replies.drain(..) {
                let index = usize::try_from(reply.tag).expect("a tag is an index");
                match reply.result {
                    Ok(payload) => payloads[index] = Some(payload),
                    Err(error) => failed = Some(error),
                }
            }
            if held.is_none() && self.channel.in_flight() == 0 {
                break;
            }
            self.channel.wait(NAP);
        }
        match failed {
            Some(error) => Err(explain::request(self.what, error)),
            None => {
                Ok(payloads.into_iter().map(|payload| payload.expect("every request is answered")).collect())
            }
        }
    }
}
