//! How one operation on a file becomes system calls: pure, and the same for every engine.
//!
//! A *step* is one call. Its answer either ends the operation or leads to the next step: the rest after a short
//! transfer, the same again after an interruption, zeros by hand where the file system cannot zero a range.

use crate::error::IoError;
use crate::legality::{bytes, memory};
use crate::operation::{Durability, Operation};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// The longest transfer in one call, in bytes; the kernel cuts at 2 GiB anyway.
const STEP_BYTES_MAX: usize = 1 << 30;
/// The longest run of zeros in one call, in bytes.
pub(crate) const ZEROS_BYTES: usize = 1 << 20;
/// How often in a row a call may be interrupted, or told to try again, before the operation fails.
const RETRIES_MAX: u32 = 64;

/// One system call. Offsets and lengths are in bytes; `skip` counts from the start of the operation's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Read { offset: u64, skip: usize, length: usize },
    Write { offset: u64, skip: usize, length: usize, durability: Durability },
    WriteZeros { offset: u64, length: usize },
    Fallocate { mode: FallocateFlags, offset: u64, length: u64 },
    Sync,
}

/// How far an operation has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes transferred.
    done: usize,
    /// Fruitless calls since the last fruitful one.
    retries: u32,
    /// The file system cannot zero the range by itself.
    zero_by_writing: bool,
}

impl Progress {
    /// The next call. A resize has none: see `FileMedium::at_once`.
    pub(crate) fn step(&self, operation: &Operation) -> Step {
        match operation {
            Operation::Read { offset, buffer } => Step::Read {
                offset: offset + bytes(self.done),
                skip: self.done,
                length: (buffer.len() - self.done).min(STEP_BYTES_MAX),
            },
            Operation::Write { offset, buffer, durability } => Step::Write {
                offset: offset + bytes(self.done),
                skip: self.done,
                length: (buffer.len() - self.done).min(STEP_BYTES_MAX),
                durability: *durability,
            },
            Operation::WriteZeroes { offset, length } if self.zero_by_writing => Step::WriteZeros {
                offset: offset + bytes(self.done),
                length: (memory(*length) - self.done).min(ZEROS_BYTES),
            },
            Operation::WriteZeroes { offset, length } => Step::Fallocate {
                mode: FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
                offset: *offset,
                length: *length,
            },
            Operation::Discard { offset, length } => Step::Fallocate {
                mode: FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                offset: *offset,
                length: *length,
            },
            Operation::Allocate { offset, length } => {
                Step::Fallocate { mode: FallocateFlags::KEEP_SIZE, offset: *offset, length: *length }
            }
            Operation::Flush => Step::Sync,
            Operation::Resize { .. } => unreachable!("a resize is done at once"),
        }
    }

    /// Takes the answer to the last step: the operation's result, or `None` when there is another step.
    pub(crate) fn advance(
        &mut self,
        operation: &Operation,
        answer: Result<usize, Errno>,
        alignment: usize,
    ) -> Option<Result<(), IoError>> {
        match answer {
            Err(Errno::INTR | Errno::AGAIN) if self.retries < RETRIES_MAX => {
                self.retries += 1;
                None
            }
            Err(Errno::OPNOTSUPP)
                if matches!(operation, Operation::WriteZeroes { .. }) && !self.zero_by_writing =>
            {
                self.zero_by_writing = true;
                None
            }
            Err(errno) => Some(Err(errno.into())),
            Ok(count) => match self.to_transfer(operation) {
                Some(total) => self.transferred(count, total, alignment),
                None => Some(Ok(())),
            },
        }
    }

    /// Bytes to move until the operation is done; `None` for one that moves none.
    fn to_transfer(&self, operation: &Operation) -> Option<usize> {
        match operation {
            Operation::Read { buffer, .. } | Operation::Write { buffer, .. } => Some(buffer.len()),
            Operation::WriteZeroes { length, .. } if self.zero_by_writing => Some(memory(*length)),
            _ => None,
        }
    }

    /// What goes on must be aligned again, so a ragged end is moved once more.
    fn transferred(&mut self, count: usize, total: usize, alignment: usize) -> Option<Result<(), IoError>> {
        assert!(count <= total - self.done, "a call moved more bytes than it was asked to");
        if self.done + count == total {
            return Some(Ok(()));
        }
        let whole = count - count % alignment;
        if whole == 0 {
            return Some(Err(IoError::ShortTransfer));
        }
        self.done += whole;
        self.retries = 0;
        None
    }
}

#[cfg(test)]
mod tests;
