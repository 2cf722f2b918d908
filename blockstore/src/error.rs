//! What can go wrong: with one operation (`IoError`), and with a device as a whole (`DeviceError`).

use rustix::io::Errno;
use std::io;
use std::path::PathBuf;

/// Why one operation failed. Small and `Copy`, because a completion carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum IoError {
    #[error("the operating system refused it: {}", io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    #[error("the medium or its quota is full")]
    OutOfSpace,
    #[error("the range ends behind the device's end")]
    OutOfRange,
    #[error(
        "the range is empty, or its offset, length or memory is not a multiple of the device's alignment"
    )]
    Misaligned,
    #[error("the medium stopped in the middle of a transfer and made no progress")]
    ShortTransfer,
    #[error("the memory to transfer to or from is not there any more")]
    BadMemory,
    #[error("the operation was cancelled")]
    Cancelled,
    #[error("the device is open for reading only")]
    ReadOnly,
    #[error("the medium cannot do this")]
    Unsupported,
    #[error("an earlier flush or write of this device failed, so no later flush can be believed")]
    FlushFailed,
}

impl IoError {
    /// The input/output error of the operating system.
    pub const EIO: Self = Self::Errno(libc::EIO);

    pub(crate) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Self::OutOfSpace,
            libc::EFAULT => Self::BadMemory,
            libc::ECANCELED => Self::Cancelled,
            libc::EROFS | libc::EBADF => Self::ReadOnly,
            libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY => Self::Unsupported,
            other => Self::Errno(other),
        }
    }
}

impl From<Errno> for IoError {
    fn from(errno: Errno) -> Self {
        Self::from_errno(errno.raw_os_error())
    }
}

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or(Self::EIO, Self::from_errno)
    }
}

/// Why a device could not be opened, made, or given a channel.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("{} does not exist", .0.display())]
    NotFound(PathBuf),
    #[error("{} exists already, and is left alone", .0.display())]
    Exists(PathBuf),
    #[error("{} is {kind}; only regular files and block devices can be used", path.display())]
    NotADisk { path: PathBuf, kind: &'static str },
    #[error("no permission to open {}", .0.display())]
    Permission(PathBuf),
    #[error("{} is on a read-only file system or medium, and can only be opened for reading", .0.display())]
    ReadOnly(PathBuf),
    #[error("{} is in use by {holder}", path.display())]
    Locked { path: PathBuf, holder: String },
    #[error("{} has a size of {size} bytes, which is not a multiple of {alignment}", path.display())]
    Size { path: PathBuf, size: u64, alignment: usize },
    #[error("{} transfers in units of {alignment} bytes; at most 4096 can be used", path.display())]
    Alignment { path: PathBuf, alignment: u64 },
    #[error("{} is not in memory (tmpfs, DAX), and only files in memory can be used through a map", .0.display())]
    NotMemory(PathBuf),
    #[error("the kernel does not offer io_uring here")]
    UringUnavailable(#[source] io::Error),
    #[error("{doing} {} failed", path.display())]
    System { doing: &'static str, path: PathBuf, source: io::Error },
}
