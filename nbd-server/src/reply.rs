//! Replies of the transmission phase, staged piece by piece into a send buffer of fixed size.
//!
//! A read of 32 MiB is never copied whole: [`Answer::stage`] goes on where it stopped. With structured replies,
//! runs of zeros become hole chunks; they need no help from the engine, and zeros are zeros however they are
//! stored ("Structured reply types" of the specification).

use crate::proto::{
    BASE_ALLOCATION_ID, Errno, REPLY_BLOCK_STATUS, REPLY_ERROR, REPLY_FLAG_DONE, REPLY_OFFSET_DATA,
    REPLY_OFFSET_HOLE, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC,
};
use crate::request::{Fault, Layout};
use crate::status::Descriptor;
use blockstore::Buffer;
use zeros::Runs;

mod zeros;

/// One reply on its way to the client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) cookie: u64,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Done,
    Failed(Fault),
    /// Failed, with the sentence where the client can read one.
    FailedStructured(Fault),
    Status(Vec<Descriptor>),
    Read(ReadBody),
}

/// Data of a read, and how much of it is staged.
#[derive(Debug)]
pub(crate) struct ReadBody {
    layout: Layout,
    offset: u64,
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
}

impl ReadBody {
    pub(crate) fn new(layout: Layout, offset: u64, buffer: Buffer) -> Self {
        Self { layout, offset, buffer, staged: 0, announced: 0 }
    }
}

impl Answer {
    /// Appends to `out` what fits below `room` bytes; headers may exceed it by a little.
    pub(crate) fn stage(&mut self, out: &mut Vec<u8>, room: usize) -> Staged {
        match &mut self.body {
            Body::Done => simple(out, self.cookie, 0),
            Body::Failed(fault) => simple(out, self.cookie, fault.errno.number()),
            Body::FailedStructured(fault) => error(out, self.cookie, *fault),
            Body::Status(descriptors) => status(out, self.cookie, descriptors),
            Body::Read(read) => return read.stage(self.cookie, out, room),
        }
        Staged::Whole
    }
}

impl ReadBody {
    fn stage(&mut self, cookie: u64, out: &mut Vec<u8>, room: usize) -> Staged {
        loop {
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
            self.announce(cookie, out);
        }
    }

    /// Stages the header of the next chunk.
    fn announce(&mut self, cookie: u64, out: &mut Vec<u8>) {
        if self.layout == Layout::Simple {
            simple(out, cookie, 0);
            self.announced = self.buffer.len();
            return;
        }
        let run = match self.layout {
            Layout::OneChunk => zeros::whole(&self.buffer),
            Layout::Simple | Layout::Chunks => Runs::new(&self.buffer).next(self.staged),
        };
        let offset = self.offset + length_64(self.staged);
        let length = run.end - self.staged;
        let flags = if run.end == self.buffer.len() { REPLY_FLAG_DONE } else { 0 };
        if run.is_zero {
            chunk(out, flags, REPLY_OFFSET_HOLE, cookie, 12);
            out.extend(offset.to_be_bytes());
            out.extend(length_32(length).to_be_bytes());
            self.staged = run.end;
        } else {
            chunk(out, flags, REPLY_OFFSET_DATA, cookie, 8 + length);
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

fn chunk(out: &mut Vec<u8>, flags: u16, kind: u16, cookie: u64, length: usize) {
    out.extend(STRUCTURED_REPLY_MAGIC.to_be_bytes());
    out.extend(flags.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(cookie.to_be_bytes());
    out.extend(length_32(length).to_be_bytes());
}

fn error(out: &mut Vec<u8>, cookie: u64, fault: Fault) {
    let text = crate::fields::clip(fault.text, crate::limits::TEXT_BYTES_MAX);
    chunk(out, REPLY_FLAG_DONE, REPLY_ERROR, cookie, 6 + text.len());
    out.extend(fault.errno.number().to_be_bytes());
    out.extend(u16::try_from(text.len()).expect("clipped to far less").to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn status(out: &mut Vec<u8>, cookie: u64, descriptors: &[Descriptor]) {
    chunk(out, REPLY_FLAG_DONE, REPLY_BLOCK_STATUS, cookie, 4 + 8 * descriptors.len());
    out.extend(BASE_ALLOCATION_ID.to_be_bytes());
    for descriptor in descriptors {
        out.extend(descriptor.length.to_be_bytes());
        out.extend(descriptor.flags.to_be_bytes());
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
