//! How bytes get to a file: around the page cache or through it, in which units, and in which units space is freed.

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
/// ext2, ext3 and ext4 (`statfs(2)`): file systems of one block device that make no sums of data.
const EXT_MAGIC: i64 = 0xef53;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Bytes.
    pub(crate) alignment: u64,
    pub(crate) caching: Caching,
    pub(crate) medium: MediumKind,
    /// Memory that changes while it is written costs nothing but its own bytes.
    pub(crate) bears_change: bool,
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
        bears_change: medium != MediumKind::Disk,
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
            bears_change: bears_change(file, nature)?,
        }),
        Err(Errno::INVAL) => Ok(through),
        Err(errno) => Err(errno),
    }
}

/// Whether memory may change while it is written directly.
fn bears_change(file: &File, nature: Nature) -> Result<bool, Errno> {
    let status = fstat(file)?;
    let (file_system, device) = match nature {
        Nature::RegularFile => (Some(fstatfs(file)?.f_type), status.st_dev),
        Nature::BlockDevice => (None, status.st_rdev),
    };
    let stable_writes = queue_limit(major(device), minor(device), "stable_writes");
    Ok(looks_once(file_system, stable_writes))
}

/// What makes a sum of bytes before it writes them, a file system or a device, looks twice, and fails a write whose memory has changed
/// in between. A queue without `stable_writes` gets pages from the kernel itself that change while they are written.
fn looks_once(file_system: Option<i64>, stable_writes: Option<u64>) -> bool {
    file_system.is_none_or(|magic| magic == EXT_MAGIC) && stable_writes == Some(0)
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

/// A number of the block device's queue; a partition's is its disk's.
fn queue_limit(major: u32, minor: u32, name: &str) -> Option<u64> {
    let device = format!("/sys/dev/block/{major}:{minor}");
    let text = fs::read_to_string(format!("{device}/queue/{name}"))
        .or_else(|_| fs::read_to_string(format!("{device}/../queue/{name}")))
        .ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{EXT_MAGIC, looks_once};

    #[test]
    fn memory_may_change_where_neither_file_system_nor_device_makes_sums_of_it() {
        const BTRFS_MAGIC: i64 = 0x9123_683e;
        for (file_system, stable_writes, expected) in [
            (Some(EXT_MAGIC), Some(0), true),
            (Some(EXT_MAGIC), Some(1), false),
            (Some(EXT_MAGIC), None, false),
            (Some(BTRFS_MAGIC), Some(0), false),
            (None, Some(0), true),
            (None, Some(1), false),
            (None, None, false),
        ] {
            assert_eq!(looks_once(file_system, stable_writes), expected, "{file_system:?} {stable_writes:?}");
        }
    }
}
