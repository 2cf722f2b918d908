//! An open and locked file or block device, and operations on it by plain system calls.

use super::opening::{Caching, Nature};
use super::progress::{Progress, Step, ZEROS_BYTES};
use super::transfer::{MediumKind, Transfer};
use super::{call, lock};
use crate::buffer::Buffer;
use crate::error::IoError;
use crate::immediate::Perform;
use crate::legality::{Geometry, memory};
use crate::open::Access;
use crate::operation::{Operation, OperationKind};
use crate::trust::Trust;
use parking_lot::Mutex;
use rustix::fs::{SeekFrom, fallocate, fdatasync, fstatvfs, fsync, ftruncate};
use rustix::io::{Errno, pwrite};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What zeros are written from.
pub(crate) static ZEROS: LazyLock<Buffer> = LazyLock::new(|| Buffer::zeroed(ZEROS_BYTES));

/// What opening has found out. The file is locked.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    pub(crate) access: Access,
    pub(crate) nature: Nature,
    /// Bytes, at the opening.
    pub(crate) size: u64,
    pub(crate) transfer: Transfer,
    /// Bytes.
    pub(crate) discard_granularity: Option<u64>,
}

/// One medium; all channels of all engines go through its descriptor, and share its trust.
#[derive(Debug)]
pub(crate) struct FileMedium {
    facts: Facts,
    /// Bytes, now.
    size: AtomicU64,
    trust: Trust,
    /// Held over a flush by system call and over a resize. The kernel tells a write-back error to one caller only,
    /// so two such flushes at once could share out one failure as an error and a success (B9).
    settling: Mutex<()>,
}

impl FileMedium {
    pub(crate) fn new(facts: Facts) -> Self {
        let size = AtomicU64::new(facts.size);
        Self { facts, size, trust: Trust::default(), settling: Mutex::new(()) }
    }

    pub(crate) fn file(&self) -> &File {
        &self.facts.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.facts.path
    }

    pub(crate) fn transfer(&self) -> Transfer {
        self.facts.transfer
    }

    /// Transfers do not need a processor.
    pub(crate) fn works_alone(&self) -> bool {
        self.facts.transfer.caching == Caching::Around
    }

    /// Bytes ([`crate::Device::room_for_writes`]).
    pub(crate) fn room_for_writes(&self) -> Option<u64> {
        let is_memory =
            self.facts.nature == Nature::RegularFile && self.facts.transfer.medium == MediumKind::Memory;
        let system = is_memory.then(|| fstatvfs(self.file()).ok()).flatten()?;
        // A file system without a limit has no blocks at all.
        let is_limited = system.f_blocks > 0;
        Some(if is_limited { system.f_bavail.saturating_mul(system.f_frsize) } else { u64::MAX })
    }

    pub(crate) fn access(&self) -> Access {
        self.facts.access
    }

    /// Bytes.
    pub(crate) fn discard_granularity(&self) -> Option<u64> {
        self.facts.discard_granularity
    }

    /// The result of a legal operation that needs no step, or must not take one.
    pub(crate) fn at_once(&self, operation: &Operation) -> Option<Result<(), IoError>> {
        match operation {
            Operation::Flush => self.trust.check().err().map(Err),
            Operation::Resize { length } => Some(self.resize(*length)),
            // A block device has a place for all its blocks, or hides that it has not.
            Operation::Allocate { .. } if self.facts.nature == Nature::BlockDevice => Some(Ok(())),
            _ => None,
        }
    }

    /// The result of an operation that has taken its steps (B9).
    pub(crate) fn settle(&self, kind: OperationKind, answer: Result<(), IoError>) -> Result<(), IoError> {
        self.trust.settle(kind, answer)
    }

    /// Makes sure that the file still has all bytes of the device; a map must not be touched behind its end.
    pub(crate) fn check_length(&self) -> Result<(), IoError> {
        let length = u64::try_from(rustix::fs::fstat(self.file())?.st_size).map_err(|_| IoError::EIO)?;
        if length < self.size.load(Ordering::Acquire) { Err(IoError::ShortTransfer) } else { Ok(()) }
    }

    /// Sets the size and makes it durable. A device never claims bytes that the file does not have.
    fn resize(&self, length: u64) -> Result<(), IoError> {
        let _alone = self.settling.lock();
        if self.facts.nature == Nature::BlockDevice {
            return self.adopt(length);
        }
        let before = self.size.load(Ordering::Acquire);
        self.size.store(before.min(length), Ordering::Release);
        if let Err(errno) = ftruncate(self.file(), length) {
            // A size that the file system or a limit refuses has changed nothing.
            self.size.store(before, Ordering::Release);
            return Err(errno.into());
        }
        let durable = fsync(self.file()).map_err(IoError::from);
        self.size.store(length, Ordering::Release);
        // Out of space or not, a sync that failed has failed.
        self.settle(OperationKind::Flush, durable)
    }

    /// Others make a block device longer; this takes the size it has, and no other.
    fn adopt(&self, length: u64) -> Result<(), IoError> {
        if rustix::fs::seek(self.file(), SeekFrom::End(0))? != length {
            return Err(IoError::Unsupported);
        }
        self.size.store(length, Ordering::Release);
        Ok(())
    }

    fn call(&self, step: Step, operation: &mut Operation) -> Result<usize, Errno> {
        let file = self.file();
        match (step, operation) {
            (Step::Read { offset, skip, length }, Operation::Read { buffer, .. }) => {
                call::read(file, buffer, skip, length, offset)
            }
            (Step::Write { offset, skip, length, durability }, Operation::Write { buffer, .. }) => {
                call::write(file, buffer, skip, length, offset, durability)
            }
            (Step::WriteZeros { offset, length }, _) => pwrite(file, &ZEROS[..length], offset),
            (Step::Fallocate { mode, offset, length }, _) => {
                fallocate(file, mode, offset, length).map(|()| 0)
            }
            (Step::Sync, _) => fdatasync(file).map(|()| 0),
            (step, operation) => unreachable!("{step:?} is no step of {operation:?}"),
        }
    }

    fn take_steps(&self, operation: &mut Operation) -> Result<(), IoError> {
        let alignment = memory(self.facts.transfer.alignment);
        let mut progress = Progress::default();
        loop {
            let answer = self.call(progress.step(operation), operation);
            if let Some(result) = progress.advance(operation, answer, alignment) {
                return result;
            }
        }
    }
}

impl Perform for FileMedium {
    fn geometry(&self) -> Geometry {
        Geometry {
            size: self.size.load(Ordering::Acquire),
            alignment: memory(self.facts.transfer.alignment),
            read_only: self.facts.access == Access::ReadOnly,
            can_discard: self.facts.discard_granularity.is_some(),
        }
    }

    fn perform(&self, operation: &mut Operation) -> Result<(), IoError> {
        let kind = operation.kind();
        // Flushes take turns, so that each sees what became of the one before.
        let _turn = (kind == OperationKind::Flush).then(|| self.settling.lock());
        if let Some(result) = self.at_once(operation) {
            return result;
        }
        let answer = self.take_steps(operation);
        self.settle(kind, answer)
    }
}

impl Drop for FileMedium {
    /// The last channel is gone, so nothing is in flight.
    fn drop(&mut self) {
        // Where this fails the lock ends with the file, a little later.
        drop(lock::release(self.file()));
    }
}

#[cfg(test)]
mod tests {
    use super::FileMedium;
    use crate::file::opening::{self, Caching};
    use crate::open::Access;

    #[test]
    fn the_end_of_a_medium_unlocks_its_file_though_somebody_has_it_open() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(4096).expect("its length");
        let open = || opening::open(file.path(), Access::ReadWrite, Caching::Around);
        let medium = FileMedium::new(open().expect("nobody has it"));
        let same_open_file = medium.file().try_clone().expect("one more descriptor");
        assert!(open().is_err(), "the medium has it");
        drop(medium);
        open().expect("nobody has it");
        drop(same_open_file);
    }
}
