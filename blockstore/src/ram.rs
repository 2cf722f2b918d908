//! A device in memory: for tests, benchmarks and as the plainest reading of the contract.
//!
//! Its bytes are in chunks, each behind its own lock, so that channels do not meet unless they touch the same chunk.
//! A chunk nobody wrote has no memory. Everything is lost with the process; a flush has nothing to do.

use crate::buffer::Buffer;
use crate::device::{Device, IoChannel};
use crate::error::{DeviceError, IoError};
use crate::immediate::{ImmediateChannel, Perform};
use crate::legality::{self, Geometry, bytes, memory};
use crate::operation::Operation;
use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard};
use parking_lot::RwLock;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CHUNK_BYTES: usize = 64 << 10;
const ALIGNMENT_BYTES: usize = 512;

/// A device whose medium is memory.
pub struct RamDevice {
    medium: Arc<RamMedium>,
}

type Chunk = RwLock<Option<Box<[u8]>>>;

/// Every operation reads the lock of the contents, only a resize writes it: it is sharded, so that channels do not
/// meet there. The size beside it is a first look that needs no lock.
struct RamMedium {
    contents: ShardedLock<Contents>,
    size: AtomicU64,
}

struct Contents {
    /// Bytes.
    size: u64,
    chunks: Vec<Chunk>,
}

/// The part of a range that lies in one chunk.
struct Piece {
    chunk: usize,
    inside: Range<usize>,
    /// Where these bytes are in the caller's buffer.
    outside: Range<usize>,
}

impl RamDevice {
    /// A device of zeros; `size` is in bytes and a multiple of 512.
    pub fn new(size: u64) -> Self {
        assert!(size.is_multiple_of(bytes(ALIGNMENT_BYTES)), "a RAM device has whole sectors");
        let mut contents = Contents { size: 0, chunks: Vec::new() };
        contents.resize(size);
        Self {
            medium: Arc::new(RamMedium { contents: ShardedLock::new(contents), size: AtomicU64::new(size) }),
        }
    }
}

impl fmt::Debug for RamDevice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "RamDevice({} bytes)", self.size())
    }
}

impl Device for RamDevice {
    fn size(&self) -> u64 {
        self.medium.size.load(Ordering::Acquire)
    }

    fn alignment(&self) -> usize {
        ALIGNMENT_BYTES
    }

    fn discard_granularity(&self) -> Option<u64> {
        Some(bytes(CHUNK_BYTES))
    }

    fn description(&self) -> String {
        "ram".to_owned()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn bears_changing_memory(&self) -> bool {
        true
    }

    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        Ok(Box::new(ImmediateChannel::new(self.medium.clone(), depth)))
    }
}

impl Perform for RamMedium {
    fn geometry(&self) -> Geometry {
        geometry(self.size.load(Ordering::Acquire))
    }

    fn perform(&self, operation: &mut Operation) -> Result<(), IoError> {
        if let Operation::Resize { length } = operation {
            let mut contents = self.contents.write().expect(WHOLE);
            contents.resize(*length);
            self.size.store(*length, Ordering::Release);
            return Ok(());
        }
        let contents = self.read();
        // A resize may have come between the first look and this lock.
        legality::check(operation, &geometry(contents.size))?;
        match operation {
            Operation::Read { offset, buffer } => contents.read(*offset, buffer),
            Operation::Write { offset, buffer, .. } => contents.write(*offset, buffer),
            Operation::Discard { offset, length } | Operation::WriteZeroes { offset, length } => {
                contents.zero(*offset, *length);
            }
            Operation::Flush | Operation::Allocate { .. } | Operation::Resize { .. } => {}
        }
        Ok(())
    }
}

/// A panic while the contents were resized poisons the lock; then no answer is right.
const WHOLE: &str = "no thread panics while it resizes the device";

impl RamMedium {
    fn read(&self) -> ShardedLockReadGuard<'_, Contents> {
        self.contents.read().expect(WHOLE)
    }
}

fn geometry(size: u64) -> Geometry {
    Geometry { size, alignment: ALIGNMENT_BYTES, read_only: false, can_discard: true }
}

impl Contents {
    fn read(&self, offset: u64, buffer: &mut Buffer) {
        for piece in pieces(offset, bytes(buffer.len())) {
            match &*self.chunks[piece.chunk].read() {
                Some(chunk) => buffer.copy_from(piece.outside.start, &chunk[piece.inside]),
                None => buffer.clear(piece.outside.start, piece.outside.len()),
            }
        }
    }

    fn write(&self, offset: u64, buffer: &Buffer) {
        for piece in pieces(offset, bytes(buffer.len())) {
            let mut chunk = self.chunks[piece.chunk].write();
            let chunk = chunk.get_or_insert_with(|| vec![0; CHUNK_BYTES].into_boxed_slice());
            buffer.copy_to(piece.outside.start, &mut chunk[piece.inside]);
        }
    }

    fn zero(&self, offset: u64, length: u64) {
        for piece in pieces(offset, length) {
            let mut chunk = self.chunks[piece.chunk].write();
            if piece.inside == (0..CHUNK_BYTES) {
                *chunk = None;
            } else if let Some(chunk) = &mut *chunk {
                chunk[piece.inside].fill(0);
            }
        }
    }

    /// Growing after shrinking shows zeros, so what is cut off is wiped.
    fn resize(&mut self, length: u64) {
        let kept = self.size.min(length);
        let count = memory(length.div_ceil(bytes(CHUNK_BYTES)));
        let cut_end = self.size.min(bytes(count) * bytes(CHUNK_BYTES));
        if kept < cut_end {
            self.zero(kept, cut_end - kept);
        }
        self.chunks.resize_with(count, Chunk::default);
        self.size = length;
    }
}

fn pieces(offset: u64, length: u64) -> impl Iterator<Item = Piece> {
    let (mut at, end) = (offset, offset + length);
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let chunk = at / bytes(CHUNK_BYTES);
        let start = at - chunk * bytes(CHUNK_BYTES);
        let count = (bytes(CHUNK_BYTES) - start).min(end - at);
        let done = at - offset;
        at += count;
        Some(Piece {
            chunk: memory(chunk),
            inside: memory(start)..memory(start + count),
            outside: memory(done)..memory(done + count),
        })
    })
}
