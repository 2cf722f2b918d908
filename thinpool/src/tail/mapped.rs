//! Tails in files on tmpfs, one file a pool, for instance `/run/offshoot/<pool id>.tail`.
//!
//! A file is private to its owner (0600), allocated in full so that no store can fail for want of memory (SIGBUS), and
//! never reached through a symbolic link. Whoever opens one holds the pool's lock already.

use super::header::{HEADER_BYTES, HeaderPage};
use super::region::Region;
use super::{Shape, Tail, TailError};
use cow_tree::units::length_of;
use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// `f_type` of tmpfs, as statfs(2) lists it.
const TMPFS_MAGIC: u64 = 0x0102_1994;

impl Tail {
    /// Makes the file of a new tail.
    ///
    /// # Errors
    /// When there is one already, the place is not on tmpfs, or tmpfs has no room.
    pub fn create(path: &Path, shape: Shape) -> Result<Self, TailError> {
        let (directory, name) = open_directory(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, name, flags, Mode::RUSR | Mode::WUSR);
        let file = File::from(file.map_err(|errno| match errno {
            Errno::EXIST => TailError::Exists(path.to_owned()),
            other => failed("creating its file", path)(other.into()),
        })?);
        // A file without a header is removed rather than left for the next opener to wonder about.
        Self::fill(&file, path, shape).inspect_err(|_| {
            let _it_stays_and_is_refused = rustix::fs::unlinkat(&directory, name, AtFlags::empty());
        })
    }

    /// Opens the tail that a process left, or that this one made before.
    ///
    /// # Errors
    /// When there is none, or it is not a tail that only we could have written.
    pub fn open_existing(path: &Path) -> Result<Self, TailError> {
        let (directory, name) = open_directory(path)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&directory, name, flags, Mode::empty());
        let file = File::from(file.map_err(|errno| match errno {
            Errno::NOENT => TailError::Missing(path.to_owned()),
            Errno::LOOP => TailError::NotPrivate(path.to_owned()),
            other => failed("opening its file", path)(other.into()),
        })?);
        let length = check_private(&file, path)?;
        if length < length_of(HEADER_BYTES) {
            return Err(TailError::Damaged("it is shorter than its header"));
        }
        let header = map(&file, 0, HEADER_BYTES).map_err(failed("mapping its header", path))?;
        let shape = HeaderPage::shape_of(&header)?;
        if length != shape.total_bytes() {
            return Err(TailError::Damaged("its length is not what its header says"));
        }
        Self::map_lanes(&file, path, shape, header)
    }

    /// Removes a tail's file; none is fine.
    ///
    /// # Errors
    /// When there is one and it stays.
    pub fn remove(path: &Path) -> Result<(), TailError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("removing its file", path)(error))
            }
            _ => Ok(()),
        }
    }

    fn fill(file: &File, path: &Path, shape: Shape) -> Result<Self, TailError> {
        allocate(file, path, shape)?;
        let mut header = map(file, 0, HEADER_BYTES).map_err(failed("mapping its header", path))?;
        HeaderPage::format(&mut header, &shape);
        Self::map_lanes(file, path, shape, header)
    }

    fn map_lanes(file: &File, path: &Path, shape: Shape, header: MmapMut) -> Result<Self, TailError> {
        allocate(file, path, shape)?;
        let lanes: io::Result<Vec<Region>> = (0..shape.lanes())
            .map(|lane| map(file, shape.lane_start(lane), shape.lane_bytes()).map(Region::Mapped))
            .collect();
        let lanes = lanes.map_err(failed("mapping its lanes", path))?;
        Ok(Self::over(shape, Region::Mapped(header), lanes))
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TailError {
    move |source| TailError::Io { doing, path: path.to_owned(), source }
}

/// The directory the file is in, held open so that what was checked is what is used.
fn open_directory(path: &Path) -> Result<(OwnedFd, &OsStr), TailError> {
    let name = path.file_name().ok_or_else(|| TailError::Missing(path.to_owned()))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent, flags, Mode::empty())
        .map_err(|errno| failed("opening its directory", path)(errno.into()))?;
    let system = rustix::fs::fstatfs(&directory)
        .map_err(|errno| failed("asking for its file system", path)(errno.into()))?;
    if u64::try_from(system.f_type) != Ok(TMPFS_MAGIC) {
        return Err(TailError::NotTmpfs(parent.to_owned()));
    }
    Ok((directory, name))
}

/// Only we can have written it, and nobody else can shorten it under the map. Returns its length.
fn check_private(file: &File, path: &Path) -> Result<u64, TailError> {
    let stat = rustix::fs::fstat(file).map_err(|errno| failed("looking at its file", path)(errno.into()))?;
    let is_private = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_nlink == 1
        && Mode::from_raw_mode(stat.st_mode).intersection(Mode::RWXG | Mode::RWXO).is_empty();
    match u64::try_from(stat.st_size) {
        Ok(length) if is_private => Ok(length),
        _ => Err(TailError::NotPrivate(path.to_owned())),
    }
}

fn allocate(file: &File, path: &Path, shape: Shape) -> Result<(), TailError> {
    rustix::fs::fallocate(file, FallocateFlags::empty(), 0, shape.total_bytes())
        .map_err(|errno| failed("allocating its file", path)(errno.into()))
}

fn map(file: &File, offset: u64, length: usize) -> io::Result<MmapMut> {
    let mut options = MmapOptions::new();
    options.offset(offset).len(length);
    // SAFETY: the map is sound as long as nobody else changes or shortens the file while it lives. The file is a regular
    // one, private to its owner (created 0600 or checked to be), reached without links, and the pool's lock, which its
    // user holds, keeps other processes of this program away. Within this process each part of a file is mapped once
    // and used under the lock of its lane. Every value read out of it is checked before it is used as a length.
    unsafe { options.map_mut(file) }
}
