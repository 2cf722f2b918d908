//! Replies of the transmission phase, staged piece by piece into a send buffer of fixed size.
//!
//! A read of 32 MiB is never copied whole: [`Answer::stage`] goes on where it stopped. With structured replies,
//! runs of zeros become hole chunks; they need no help from the engine, and zeros are zeros however they are
//! stored ("Structured reply types" of the specification).

use crate::handshake::Dialect;
use crate::limits::STAGE_BYTES;
use crate::proto::{
    EXTENDED_REPLY_MAGIC, Errno, REPLY_BLOCK_STATUS, REPLY_BLOCK_STATUS_EXT, REPLY_ERROR, REPLY_FLAG_DONE,
    REPLY_NONE, REPLY_OFFSET_DATA, REPLY_OFFSET_HOLE, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
};
use crate::request::{Fault, Layout};
use crate::status::Descriptor;
use blockstore::Buffer;
use std::collections::VecDeque;
use zeros::Runs;

mod zeros;

/// One reply on its way to the client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Body,
}

/// What every chunk of a reply repeats of its request, and how the client wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) dialect: Dialect,
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
}

#[derive(Debug)]
pub(crate) enum Body {
    Done,
    /// With the sentence, where the client can read one.
    Failed(Fault),
    /// The contexts that are not staged yet.
    Status(VecDeque<Described>),
    Read(ReadBody),
}

/// What one metadata context tells, by its number on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) context: u32,
    pub(crate) descriptors: Vec<Descriptor>,
}

/// Data of a read, and how much of it is staged.
#[derive(Debug)]
pub(crate) struct ReadBody {
    layout: Layout,
    buffer: Buffer,
    /// Bytes of the buffer that are staged.
    staged: usize,
    /// End of the chunk whose header is staged already.
    announced: usize,
}

/// Whether an answer is staged to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Staged {
    Whole,
    Partly,
    /// The run of data that comes next is too long to be copied: [`Answer::run`].
    Lent,
}

impl ReadBody {
    pub(crate) fn new(layout: Layout, buffer: Buffer) -> Self {
        Self { layout, buffer, staged: 0, announced: 0 }
    }
}

impl Answer {
    /// Appends to `out` what fits below `room` bytes, and no run of data longer than `copied_max`; headers may exceed the
    /// room by a little.
    pub(crate) fn stage(&mut self, out: &mut Vec<u8>, room: usize, copied_max: usize) -> Staged {
        match &mut self.body {
            Body::Done => self.head.done(out),
            Body::Failed(fault) => self.head.error(out, *fault),
            Body::Status(described) => return self.head.status(out, described),
            Body::Read(read) => return read.stage(self.head, out, room, copied_max),
        }
        Staged::Whole
    }

    /// The data that comes next, as far as its header is staged; of a long run its beginning.
    pub(crate) fn run(&self) -> &[u8] {
        match &self.body {
            Body::Read(read) => &read.buffer[read.staged..read.announced.min(read.staged + STAGE_BYTES)],
            Body::Done | Body::Failed(_) | Body::Status(_) => &[],
        }
    }

    /// The run has been sent from where it is.
    pub(crate) fn skip_run(&mut self) -> Staged {
        let length = self.run().len();
        let Body::Read(read) = &mut self.body else { return Staged::Whole };
        read.staged += length;
        if read.staged == read.buffer.len() { Staged::Whole } else { Staged::Partly }
    }
}

impl ReadBody {
    fn stage(&mut self, head: Head, out: &mut Vec<u8>, room: usize, copied_max: usize) -> Staged {
        loop {
            if self.announced - self.staged > copied_max {
                return Staged::Lent;
            }
            let space = room.saturating_sub(out.len());
            let end = self.announced.min(self.staged + space);
            out.extend_from_slice(&self.buffer[self.staged..end]);
            self.staged = end;
            if self.staged < self.announced || out.len() >= room {
                if self.staged == self.buffer.len() {
                    return Staged::Whole;
                }
                return Staged::Partly;
            }
            if self.staged == self.buffer.len() {
                return Staged::Whole;
            }
            self.announce(head, out);
        }
    }

    /// Stages the header of the next chunk.
    fn announce(&mut self, head: Head, out: &mut Vec<u8>) {
        if self.layout == Layout::Simple {
            simple(out, head.cookie, 0);
            self.announced = self.buffer.len();
            return;
        }
        let run = match self.layout {
            Layout::OneChunk => zeros::whole(&self.buffer),
            Layout::Simple | Layout::Chunks => Runs::new(&self.buffer).next(self.staged),
        };
        let offset = head.offset + length_64(self.staged);
        let length = run.end - self.staged;
        let flags = if run.end == self.buffer.len() { REPLY_FLAG_DONE } else { 0 };
        if run.is_zero {
            head.chunk(out, flags, REPLY_OFFSET_HOLE, 12);
            out.extend(offset.to_be_bytes());
            out.extend(length_32(length).to_be_bytes());
            self.staged = run.end;
        } else {
            head.chunk(out, flags, REPLY_OFFSET_DATA, 8 + length);
            out.extend(offset.to_be_bytes());
        }
        self.announced = run.end;
    }
}

fn simple(out: &mut Vec<u8>, cookie: u64, errno: u32) {
    out.extend(SIMPLE_REPLY_MAGIC.to_be_bytes());
    out.extend(errno.to_be_bytes());
    out.extend(cookie.to_be_bytes());
}

impl Head {
    fn chunk(self, out: &mut Vec<u8>, flags: u16, kind: u16, length: usize) {
        let is_extended = self.dialect == Dialect::Extended;
        out.extend((if is_extended { EXTENDED_REPLY_MAGIC } else { STRUCTURED_REPLY_MAGIC }).to_be_bytes());
        out.extend(flags.to_be_bytes());
        out.extend(kind.to_be_bytes());
        out.extend(self.cookie.to_be_bytes());
        if is_extended {
            out.extend(self.offset.to_be_bytes());
            out.extend(length_64(length).to_be_bytes());
        } else {
            out.extend(length_32(length).to_be_bytes());
        }
    }

    /// Structured replies are for what has content; without it they are simple.
    fn done(self, out: &mut Vec<u8>) {
        match self.dialect {
            Dialect::Simple | Dialect::Structured => simple(out, self.cookie, 0),
            Dialect::Extended => self.chunk(out, REPLY_FLAG_DONE, REPLY_NONE, 0),
        }
    }

    fn error(self, out: &mut Vec<u8>, fault: Fault) {
        if self.dialect == Dialect::Simple {
            return simple(out, self.cookie, fault.errno.number());
        }
        let text = crate::fields::clip(fault.text, crate::limits::TEXT_BYTES_MAX);
        self.chunk(out, REPLY_FLAG_DONE, REPLY_ERROR, 6 + text.len());
        out.extend(fault.errno.number().to_be_bytes());
        out.extend(u16::try_from(text.len()).expect("clipped to far less").to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }

    /// One chunk for each context, one a time.
    fn status(self, out: &mut Vec<u8>, described: &mut VecDeque<Described>) -> Staged {
        let Some(Described { context, descriptors }) = described.pop_front() else { return Staged::Whole };
        let (flags, staged) =
            if described.is_empty() { (REPLY_FLAG_DONE, Staged::Whole) } else { (0, Staged::Partly) };
        if self.dialect == Dialect::Extended {
            self.chunk(out, flags, REPLY_BLOCK_STATUS_EXT, 8 + 16 * descriptors.len());
            out.extend(context.to_be_bytes());
            out.extend(length_32(descriptors.len()).to_be_bytes());
            for descriptor in descriptors {
                out.extend(descriptor.length.to_be_bytes());
                out.extend(u64::from(descriptor.flags).to_be_bytes());
            }
        } else {
            self.chunk(out, flags, REPLY_BLOCK_STATUS, 4 + 8 * descriptors.len());
            out.extend(context.to_be_bytes());
            for descriptor in descriptors {
                let length = u32::try_from(descriptor.length).expect("no longer than the request");
                out.extend(length.to_be_bytes());
                out.extend(descriptor.flags.to_be_bytes());
            }
        }
        staged
    }
}

fn length_32(length: usize) -> u32 {
    u32::try_from(length).expect("replies are bounded by the largest payload")
}

fn length_64(length: usize) -> u64 {
    u64::try_from(length).expect("a size in memory has at most 64 bits")
}

/// What the engine's failures are to a client.
pub(crate) fn fault_of(error: thinpool::RequestError) -> Fault {
    use thinpool::RequestError::{Io, OutOfSpace, Poisoned, ShuttingDown};
    let (errno, text) = match error {
        Io => (Errno::Io, "the device failed"),
        OutOfSpace => (Errno::NoSpace, "the pool has no free space"),
        Poisoned => (Errno::Io, "the pool is read-only after a failed flush"),
        ShuttingDown => (Errno::Shutdown, "the export is closing"),
    };
    Fault { errno, text }
}

#[cfg(test)]
mod tests;
