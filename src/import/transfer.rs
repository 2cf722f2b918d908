//! Copies a source into a volume through an engine channel, a batch at a time, while a thread reads ahead.

use super::compare::{Fate, compare};
use super::source::{Handover, Outlet, PIECE_BYTES, Piece, Source};
use crate::calls::Calls;
use crate::explain;
use crate::failure::{Code, Failure};
use crate::handler::Watcher;
use crate::reason::Reason;
use crate::size::GRAIN_BYTES;
use blockstore::{Buffer, Durability};
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use thinpool::{Access, Action, Command, Name, Payload, Pool};

/// Pieces read, compared and written together.
const BATCH_PIECES: usize = 8;
/// Pieces there are at all: read ahead, taken, and empty.
const PIECES: usize = 32;
/// Bytes of one trim.
const TRIM_BYTES: u64 = 1 << 30;
/// How often somebody is asked whether to go on while there is nothing to do.
const LOOK: Duration = Duration::from_millis(100);

/// What became of the source's bytes.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// All of them: the size of the disk.
    pub(super) size: u64,
    pub(super) stored: u64,
    pub(super) unchanged: u64,
    pub(super) zero: u64,
}

/// `has_base` says that the volume may hold something already. Everything copied is durable on return. A volume that is too
/// small grows; what it has behind the source's end is left there.
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
    let calls = Calls::new(pool, attachment, what)?;
    let mut transfer = Transfer { pool, volume, calls, has_base, what, copied: Copied::default() };
    let total = source.total();
    let unread =
        |error: std::io::Error| Failure::new(Code::Failed, what, error.to_string(), "the same command again");
    let stopper = source.stopper();
    let (sender, pieces) = sync_channel(PIECES);
    let (spares, empty) = sync_channel(PIECES);
    let taken = std::thread::scope(|scope| {
        let outlet = Outlet { pieces: sender, spares: empty };
        let read = move || source.read(&outlet, what);
        std::thread::Builder::new().name("import".to_owned()).spawn_scoped(scope, read).map_err(unread)?;
        let mut inlet = Inlet { pieces, spares };
        inlet.replace(PIECES);
        let taken = transfer.take(&mut inlet, total, watcher);
        // A reader that still has something hands it to nobody, and waits for nobody.
        drop(inlet);
        stopper.stop();
        taken
    });
    taken.map(|()| transfer.copied)
}

pub(super) fn cancelled(what: &str) -> Failure {
    Failure::because(
        Reason::Cancelled,
        what,
        "it was cancelled; nothing of it is left",
        "the same command again",
    )
}

/// The taker's end.
struct Inlet {
    pieces: Receiver<Result<Handover, Failure>>,
    spares: SyncSender<Buffer>,
}

impl Inlet {
    /// Gives the reader empty buffers, in the place of others. They are this thread's memory, and come back to it.
    fn replace(&mut self, count: usize) {
        let length = usize::try_from(PIECE_BYTES).expect("a piece fits memory");
        for _ in 0..count {
            // There are never more than there is room for; a reader that has ended needs none.
            let _ended_is_fine = self.spares.try_send(Buffer::uncleared(length));
        }
    }
}

struct Transfer<'a> {
    pool: &'a Pool,
    volume: &'a Name,
    calls: Calls<'a>,
    has_base: bool,
    what: &'a str,
    copied: Copied,
}

impl Transfer<'_> {
    /// Takes pieces until the last, as many at a time as are there.
    fn take(&mut self, inlet: &mut Inlet, total: u64, watcher: &mut dyn Watcher) -> Result<(), Failure> {
        let mut done = 0;
        loop {
            let first = match inlet.pieces.recv_timeout(LOOK) {
                Ok(first) => Some(first?),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Err(self.unread()),
            };
            let mut batch = Vec::with_capacity(BATCH_PIECES);
            let mut taken = 0;
            let mut next = first;
            let mut has_ended = false;
            while let Some(handover) = next.take() {
                done = handover.done;
                match handover.piece {
                    Piece::End => has_ended = true,
                    Piece::Hole(length) => {
                        self.batch(std::mem::take(&mut batch))?;
                        self.clear(length)?;
                    }
                    Piece::Data(bytes) => {
                        batch.push(bytes);
                        taken += 1;
                    }
                }
                if taken < BATCH_PIECES && !has_ended {
                    next = inlet.pieces.try_recv().ok().transpose()?;
                }
            }
            self.batch(batch)?;
            inlet.replace(taken);
            if has_ended {
                self.calls.call(vec![Action::Flush])?;
            }
            if !watcher.progress(done, total) {
                return Err(cancelled(self.what));
            }
            if has_ended {
                return Ok(());
            }
        }
    }

    fn unread(&self) -> Failure {
        Failure::new(Code::Failed, self.what, "its reader ended early", "the same command again")
    }

    /// The next bytes of the disk.
    fn advance(&mut self, length: u64) -> Result<Range<u64>, Failure> {
        let start = self.copied.size;
        let end = start + length;
        let size = self.calls.attachment().size();
        if end > size {
            let size = end.max(size.saturating_mul(2).min(crate::size::SIZE_MAX));
            let grow = Command::Resize { name: self.volume.clone(), size };
            self.pool.run(grow).map_err(|error| explain::engine(self.what, &error))?;
        }
        self.copied.size = end;
        Ok(start..end)
    }

    /// A hole of the source: nothing of the base may show through.
    fn clear(&mut self, length: u64) -> Result<(), Failure> {
        let range = self.advance(length)?;
        self.copied.zero += length;
        if !self.has_base {
            return Ok(());
        }
        let mut at = range.start;
        while at < range.end {
            let length = TRIM_BYTES.min(range.end - at);
            self.calls.call(vec![Action::Trim { offset: at, length, durability: Durability::Cached }])?;
            at += length;
        }
        Ok(())
    }

    fn batch(&mut self, buffers: Vec<Buffer>) -> Result<(), Failure> {
        let mut pieces = Vec::with_capacity(buffers.len());
        for bytes in buffers {
            let length = u64::try_from(bytes.len()).expect("a piece");
            assert!(
                length <= PIECE_BYTES && length.is_multiple_of(GRAIN_BYTES),
                "pieces are of whole blocks"
            );
            pieces.push((self.advance(length)?.start, bytes));
        }
        let mut bases = self.read_base(&pieces)?.into_iter();
        let mut actions = Vec::new();
        for (offset, bytes) in pieces {
            self.plan(offset, bytes, bases.next().as_deref(), &mut actions);
        }
        self.calls.call(actions).map(drop)
    }

    fn read_base(&mut self, pieces: &[(u64, Buffer)]) -> Result<Vec<Buffer>, Failure> {
        if !self.has_base {
            return Ok(Vec::new());
        }
        let read = |(offset, bytes): &(u64, Buffer)| Action::Read {
            offset: *offset,
            buffer: Buffer::uncleared(bytes.len()),
        };
        let payloads = self.calls.call(pieces.iter().map(read).collect())?;
        Ok(payloads.into_iter().map(into_buffer).collect())
    }

    fn plan(&mut self, offset: u64, bytes: Buffer, base: Option<&[u8]>, actions: &mut Vec<Action>) {
        let runs = compare(&bytes, base);
        let mut rest = bytes;
        for (fate, range) in runs {
            let at = offset + u64::try_from(range.start).expect("an offset in a piece");
            let length = u64::try_from(range.len()).expect("a length in a piece");
            let behind = rest.split_off(range.len());
            let run = std::mem::replace(&mut rest, behind);
            match fate {
                Fate::Write => {
                    self.copied.stored += length;
                    actions.push(Action::Write { offset: at, buffer: run, durability: Durability::Cached });
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
}

fn into_buffer(payload: Payload) -> Buffer {
    match payload {
        Payload::Buffer(buffer) => buffer,
        other => panic!("a read returns its buffer, not {other:?}"),
    }
}
