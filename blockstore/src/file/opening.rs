//! From a path to a locked descriptor and what is true of it. Nothing is read from the medium here, and nothing is
//! asked of it, before it is locked (B8).

use super::{Facts, holder, lock, transfer};
use crate::error::DeviceError;
use crate::legality::SIZE_ALIGNMENT_BYTES;
use crate::open::Access;
use rustix::fs::{OFlags, SeekFrom, fcntl_setfl, seek};
use rustix::io::Errno;
use std::fs::{self, File, FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// What a disk is to the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    RegularFile,
    BlockDevice,
}

/// Whether transfers go around the page cache where they can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    Around,
    Through,
}

/// Opens and locks what is there.
pub(crate) fn open(path: &Path, access: Access, caching: Caching) -> Result<Facts, DeviceError> {
    let failed = |error| classify_error("opening", path, error);
    // Looked at before it is opened: opening a tape or a watchdog has effects, opening a pipe may wait for ever.
    let nature = nature(path, &fs::metadata(path).map_err(failed)?)?;
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    if nature == Nature::BlockDevice && access == Access::ReadWrite {
        // Refused by the kernel while the device is mounted or a part of another one.
        flags |= OFlags::EXCL;
    }
    let flags = i32::try_from(flags.bits()).expect("open flags are a positive number");
    let mut options = File::options();
    options.read(true).write(access == Access::ReadWrite).custom_flags(flags);
    let attempt = || match options.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Ok(None),
        Err(error) => Err(failed(error)),
    };
    let find = || File::open(path).ok().and_then(|file| holder::find(&file));
    let file = lock::outwait(path, attempt, find, "the system, mounted or as a part of another device")?;
    adopt(file, path, access, caching)
}

/// Locks an open file and finds out what it is.
pub(crate) fn adopt(file: File, path: &Path, access: Access, caching: Caching) -> Result<Facts, DeviceError> {
    let system = |error| classify_error("examining", path, error);
    let nature = nature(path, &file.metadata().map_err(system)?)?;
    lock::take(&file, access, path)?;
    fcntl_setfl(&file, OFlags::empty()).map_err(|errno| system(errno.into()))?;
    let size = seek(&file, SeekFrom::End(0)).map_err(|errno| system(errno.into()))?;
    check_size(path, size)?;
    let transfer = transfer::choose(&file, nature, caching).map_err(|errno| system(errno.into()))?;
    if !transfer.alignment.is_power_of_two() || transfer.alignment > SIZE_ALIGNMENT_BYTES {
        return Err(DeviceError::Alignment { path: path.to_owned(), alignment: transfer.alignment });
    }
    let discard_granularity = match access {
        Access::ReadOnly => None,
        Access::ReadWrite => transfer::discard_granularity(&file, nature, size, transfer.alignment),
    };
    Ok(Facts { file, path: path.to_owned(), access, nature, size, transfer, discard_granularity })
}

pub(crate) fn check_size(path: &Path, size: u64) -> Result<(), DeviceError> {
    if size.is_multiple_of(SIZE_ALIGNMENT_BYTES) {
        return Ok(());
    }
    let alignment = crate::legality::memory(SIZE_ALIGNMENT_BYTES);
    Err(DeviceError::Size { path: path.to_owned(), size, alignment })
}

fn nature(path: &Path, metadata: &Metadata) -> Result<Nature, DeviceError> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(Nature::RegularFile);
    }
    if kind.is_block_device() {
        return Ok(Nature::BlockDevice);
    }
    Err(DeviceError::NotADisk { path: path.to_owned(), kind: kind_name(kind) })
}

fn kind_name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() {
        "a character device"
    } else {
        "something unknown"
    }
}

/// An error of a call that names the path.
pub(crate) fn classify_error(doing: &'static str, path: &Path, source: io::Error) -> DeviceError {
    let path = path.to_owned();
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT) => DeviceError::NotFound(path),
        Some(Errno::EXIST) => DeviceError::Exists(path),
        Some(Errno::ACCESS | Errno::PERM) => DeviceError::Permission(path),
        Some(Errno::ROFS) => DeviceError::ReadOnly(path),
        _ => DeviceError::System { doing, path, source },
    }
}
