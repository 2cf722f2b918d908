//! How bytes get to a file: around the page cache or through it, in which units, whether from memory that changes, and in which units
//! space is freed.

use super::opening::{Caching, Nature};
use rustix::fs::{
    AtFlags, FallocateFlags, OFlags, StatxAttributes, StatxFlags, fallocate, fcntl_setfl, fstat, fstatfs,
    fstatvfs, ioctl_blksszget, major, minor, statx,
};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;

/// Bytes. Through the page cache any unit would do; sectors are what callers expect.
const SECTOR_BYTES: u64 = 512;
/// Bytes. What direct transfers are aligned to where the kernel does not say.
const GUESSED_ALIGNMENT_BYTES: u64 = 4096;
/// File systems whose files are memory: tmpfs, ramfs, hugetlbfs (`statfs(2)`).
const MEMORY_MAGICS: [i64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];
/// ext2, ext3 and ext4 (`statfs(2)`): file systems on one block device that make no sums of data.
const EXT_MAGIC: i64 = 0xef53;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Bytes.
    pub(crate) alignment: u64,
    pub(crate) caching: Caching,
    pub(crate) medium: MediumKind,
    /// Memory that changes while it is written costs nothing but its own bytes.
    pub(crate) bears_changing_memory: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediumKind {
    /// io_uring has nothing to wait for here and hands each operation to a worker thread.
    Memory,
    /// Persistent memory, mapped without a page cache.
    Dax,
    Disk,
}

/// Whether a regular file's pages are memory and nothing else: none has to come from a disk, or from another process.
///
/// # Errors
/// When the kernel does not say what the file lies on.
pub fn is_in_memory(file: &File) -> io::Result<bool> {
    Ok(has_memory_magic(file)?)
}

fn has_memory_magic(file: &File) -> Result<bool, Errno> {
    Ok(MEMORY_MAGICS.contains(&fstatfs(file)?.f_type))
}

/// Sets the descriptor to direct transfers where wished and possible.
pub(super) fn choose(file: &File, nature: Nature, caching: Caching) -> Result<Transfer, Errno> {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
    let medium = match nature {
        Nature::RegularFile if has_memory_magic(file)? => MediumKind::Memory,
        _ if told.stx_attributes.contains(StatxAttributes::DAX) => MediumKind::Dax,
        _ => MediumKind::Disk,
    };
    let logical_block = match nature {
        Nature::RegularFile => SECTOR_BYTES,
        Nature::BlockDevice => u64::from(ioctl_blksszget(file)?),
    };
    let through = Transfer {
        alignment: logical_block,
        caching: Caching::Through,
        medium,
        bears_changing_memory: medium != MediumKind::Disk,
    };
    if caching == Caching::Through || medium != MediumKind::Disk {
        return Ok(through);
    }
    let direct = if StatxFlags::from_bits_retain(told.stx_mask).contains(StatxFlags::DIOALIGN) {
        u64::from(told.stx_dio_offset_align.max(told.stx_dio_mem_align))
    } else if nature == Nature::BlockDevice {
        logical_block
    } else {
        GUESSED_ALIGNMENT_BYTES
    };
    if direct == 0 {
        return Ok(through);
    }
    match fcntl_setfl(file, OFlags::DIRECT) {
        Ok(()) => Ok(Transfer {
            alignment: direct.max(logical_block),
            caching: Caching::Around,
            medium,
            bears_changing_memory: is_looked_at_once(file, nature),
        }),
        Err(Errno::INVAL) => Ok(through),
        Err(errno) => Err(errno),
    }
}

/// Whether nobody makes sums of what is written directly. Who does that looks at memory twice, and when it has changed in between fails
/// the write, or finds the block damaged when it is read. So do some devices that are made of others, and do not say so. Of a
/// block device itself the kernel calls it a failure of the disk when it cannot reach all memory of a long write.
fn is_looked_at_once(file: &File, nature: Nature) -> bool {
    let (Ok(system), Ok(status)) = (fstatfs(file), fstat(file)) else { return false };
    let (major, minor) = (major(status.st_dev), minor(status.st_dev));
    nature == Nature::RegularFile
        && system.f_type == EXT_MAGIC
        && queue_limit(major, minor, "stable_writes") == Some(0)
        && is_made_of_no_others(major, minor)
}

/// Neither of other disks, nor of a file.
fn is_made_of_no_others(major: u32, minor: u32) -> bool {
    let others = of_disk(major, minor, |disk| fs::read_dir(format!("{disk}/slaves")));
    let file = of_disk(major, minor, |disk| fs::metadata(format!("{disk}/loop")));
    others.is_some_and(|mut others| others.next().is_none()) && file.is_none()
}

/// Bytes; `None` where a discarded range would not read as zeros, or not be freed.
pub(super) fn discard_granularity(file: &File, nature: Nature, size: u64, alignment: u64) -> Option<u64> {
    match nature {
        Nature::RegularFile => {
            // A hole behind the end changes nothing, and tells whether holes can be made.
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(file, hole, size, GUESSED_ALIGNMENT_BYTES).ok()?;
            Some(fstatvfs(file).ok()?.f_frsize.max(alignment))
        }
        Nature::BlockDevice => {
            let device = fstat(file).ok()?.st_rdev;
            let limit = |name| queue_limit(major(device), minor(device), name);
            // The kernel discards with the promise of zeros only through this command.
            limit("write_zeroes_max_bytes").filter(|bytes| *bytes > 0)?;
            Some(limit("discard_granularity").unwrap_or(0).max(alignment))
        }
    }
}

/// A number of the block device's queue.
fn queue_limit(major: u32, minor: u32, name: &str) -> Option<u64> {
    let text = of_disk(major, minor, |disk| fs::read_to_string(format!("{disk}/queue/{name}")));
    text?.trim().parse().ok()
}

/// What there is in the block device's directory; of a partition it is in its disk's.
fn of_disk<T>(major: u32, minor: u32, look: impl Fn(&str) -> io::Result<T>) -> Option<T> {
    let device = format!("/sys/dev/block/{major}:{minor}");
    look(&device).or_else(|_| look(&format!("{device}/.."))).ok()
}
