//! Writes what a name of a pool stands for into a file: all of it, or nothing.
//!
//! A snapshot or version never changes. A volume is opened as if to write it, so that nobody else writes it meanwhile. What
//! is mapped and not zero is read through an engine channel and handed to a thread that writes; the rest stays a hole.

mod qcow2;
mod sink;
mod target_file;

use crate::calls::Calls;
use crate::explain;
use crate::failure::{Code, Failure};
use crate::handler::{Watcher, parse_name};
use crate::import::{Fate, compare};
use crate::wire::{ImageExportOrder, ImageExportView};
use blockstore::Buffer;
use sink::Sink;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use target_file::TargetFile;
use thinpool::{Access, Action, Attachment, Depths, EntryKind, Error, ExtentKind, Name, Payload, Pool};

/// Bytes of one read, at most; buffers of this size are used again.
const PIECE_BYTES: u64 = 128 << 10;
/// Reads at a time.
const BATCH_PIECES: usize = 32;
/// Pieces read and not written yet.
const AHEAD_PIECES: usize = 64;
/// One question for what is mapped covers so much, and brings so many answers.
const SURVEY_BYTES: u64 = 1 << 30;
const SURVEY_EXTENTS_MAX: usize = 1024;

pub(crate) fn run(
    pool: &Pool,
    order: &ImageExportOrder,
    watcher: &mut dyn Watcher,
) -> Result<ImageExportView, Failure> {
    let what = format!("{} was not exported", order.name);
    let name = parse_name(&order.name, &what)?;
    let attachment = attach(pool, &name, &what)?;
    let size = attachment.size();
    let target = TargetFile::create(&order.file, order.force, &what)?;
    let mut sink = Sink::new(target.file(), size, order.format, &what)?;
    let calls = Calls::new(pool, attachment, &what)?;
    let written = copy(calls, size, &mut sink, watcher, &what)?;
    sink.finish(&what)?;
    target.publish(&what)?;
    Ok(ImageExportView {
        name: name.to_string(),
        file: order.file.clone(),
        format: order.format,
        size,
        written,
    })
}

fn attach(pool: &Pool, name: &Name, what: &str) -> Result<Attachment, Failure> {
    let entry = pool.entry(name);
    let entry = entry.ok_or_else(|| explain::engine(what, &Error::NotFound(name.to_string())))?;
    let is_volume = entry.kind == EntryKind::Volume;
    let access = if is_volume { Access::ReadWrite } else { Access::ReadOnly };
    pool.attach(name, access).map_err(|error| match error {
        Error::Busy { .. } => {
            let why = format!("{name} is in use, and would change while it is written");
            let next = format!("offshoot snap create {name}@SNAPSHOT, then an export of that");
            Failure::new(Code::Conflict, what, why, next)
        }
        error => explain::engine(what, &error),
    })
}

/// Bytes and where they belong.
struct Piece {
    offset: u64,
    bytes: Buffer,
}

/// Returns how many bytes were handed to the sink.
fn copy(
    calls: Calls<'_>,
    size: u64,
    sink: &mut Sink,
    watcher: &mut dyn Watcher,
    what: &str,
) -> Result<u64, Failure> {
    let (sender, pieces) = sync_channel(AHEAD_PIECES);
    let (used, returned) = channel();
    std::thread::scope(|scope| {
        let write = move || write_all(&pieces, sink, &used, what);
        let writer = std::thread::Builder::new().name("export".to_owned()).spawn_scoped(scope, write);
        let writer = writer.map_err(|error| {
            Failure::new(Code::Failed, what, format!("no thread: {error}"), "the same command again")
        })?;
        let mut reader = Reader { calls, size, sender, returned, written: 0, what };
        let read = reader.run(watcher);
        let written = reader.written;
        // The writer ends when nobody has anything for it.
        drop(reader);
        let wrote = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (read, wrote) {
            // A reader that nobody takes anything from says so; the writer knows why.
            (_, Err(failure)) | (Err(failure), Ok(())) => Err(failure),
            (Ok(()), Ok(())) => Ok(written),
        }
    })
}

fn write_all(
    pieces: &Receiver<Piece>,
    sink: &mut Sink,
    used: &Sender<Buffer>,
    what: &str,
) -> Result<(), Failure> {
    for piece in pieces {
        sink.write(piece.offset, &piece.bytes, what)?;
        // A reader that is gone needs no more buffers.
        let _gone_is_fine = used.send(piece.bytes);
    }
    Ok(())
}

struct Reader<'a> {
    calls: Calls<'a>,
    size: u64,
    sender: SyncSender<Piece>,
    /// Buffers that were written: dropped here, their memory is this thread's to use again.
    returned: Receiver<Buffer>,
    written: u64,
    what: &'a str,
}

impl Reader<'_> {
    fn run(&mut self, watcher: &mut dyn Watcher) -> Result<(), Failure> {
        let mut at = 0;
        let mut batch = Vec::new();
        while at < self.size {
            let extents = self.extents(at)?;
            for (length, is_mapped) in extents {
                let end = at + length;
                while is_mapped && at < end {
                    let piece = PIECE_BYTES.min(end - at);
                    batch.push((at, piece));
                    at += piece;
                    if batch.len() >= BATCH_PIECES {
                        self.read(&mut batch)?;
                        self.tell(at, watcher)?;
                    }
                }
                at = end;
            }
            self.tell(at, watcher)?;
        }
        self.read(&mut batch)
    }

    fn tell(&self, at: u64, watcher: &mut dyn Watcher) -> Result<(), Failure> {
        if watcher.progress(at, self.size) {
            return Ok(());
        }
        let why = "it was cancelled; nothing of it is left";
        Err(Failure::new(Code::Failed, self.what, why, "the same command again"))
    }

    /// Lengths from `at` on, and whether something is mapped there.
    fn extents(&mut self, at: u64) -> Result<Vec<(u64, bool)>, Failure> {
        let length = SURVEY_BYTES.min(self.size - at);
        let action = Action::Extents { offset: at, length, limit: SURVEY_EXTENTS_MAX, depths: Depths::Alike };
        match self.calls.call(vec![action])?.pop() {
            Some(Payload::Extents(extents)) => Ok(extents
                .into_iter()
                .map(|extent| (extent.length, extent.kind != ExtentKind::Hole))
                .collect()),
            other => panic!("a question for extents is answered with them, not {other:?}"),
        }
    }

    fn read(&mut self, batch: &mut Vec<(u64, u64)>) -> Result<(), Failure> {
        self.returned.try_iter().for_each(drop);
        let read = |(offset, length): &(u64, u64)| Action::Read {
            offset: *offset,
            buffer: Buffer::uncleared(usize::try_from(*length).expect("a piece fits memory")),
        };
        let payloads = self.calls.call(batch.iter().map(read).collect())?;
        for ((offset, _), payload) in batch.drain(..).zip(payloads) {
            match payload {
                Payload::Buffer(bytes) => self.hand_over(offset, bytes)?,
                other => panic!("a read returns its buffer, not {other:?}"),
            }
        }
        Ok(())
    }

    /// All but the zeros.
    fn hand_over(&mut self, offset: u64, bytes: Buffer) -> Result<(), Failure> {
        let runs = compare(&bytes, None);
        let mut rest = bytes;
        for (fate, range) in runs {
            let behind = rest.split_off(range.len());
            let bytes = std::mem::replace(&mut rest, behind);
            if fate == Fate::Zero {
                continue;
            }
            let length = |count: usize| u64::try_from(count).expect("a piece");
            self.written += length(bytes.len());
            let piece = Piece { offset: offset + length(range.start), bytes };
            self.sender.send(piece).map_err(|_| {
                Failure::new(Code::Failed, self.what, "its writer ended early", "the same command again")
            })?;
        }
        Ok(())
    }
}
