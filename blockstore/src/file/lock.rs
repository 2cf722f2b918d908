//! The lock that keeps a device to one owner (B8): an open-file-description lock on the very descriptor all I/O goes
//! through. The kernel holds it until the last operation on that descriptor has ended, so after `kill -9` it cannot
//! be taken while a write of the dead process may still land. A process that may be dying is waited for a little.

use super::holder::{self, Holder};
use crate::error::DeviceError;
use crate::immediate::sleep;
use crate::open::Access;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// The wait for the I/O of a process that is gone: 25 times 30 ms. Longer than measured (about 100 ms), and short
/// enough that a second open is refused within a second.
const ATTEMPTS: u32 = 25;
const PAUSE: Duration = Duration::from_millis(30);

/// Locks the file: for writing against everybody, for reading against writers.
pub(super) fn take(file: &File, access: Access, path: &Path) -> Result<(), DeviceError> {
    let kind = match access {
        Access::ReadOnly => libc::F_RDLCK,
        Access::ReadWrite => libc::F_WRLCK,
    };
    let attempt = || match set(file, kind) {
        Ok(taken) => Ok(taken.then_some(())),
        Err(source) => Err(DeviceError::System { doing: "locking", path: path.to_owned(), source }),
    };
    outwait(path, attempt, || holder::find(file), "another process")
}

/// Makes attempts until one has a result, or a holder that lives is found, or the time is over.
pub(super) fn outwait<T>(
    path: &Path,
    mut attempt: impl FnMut() -> Result<Option<T>, DeviceError>,
    find: impl Fn() -> Option<Holder>,
    unknown: &str,
) -> Result<T, DeviceError> {
    if let Some(result) = attempt()? {
        return Ok(result);
    }
    let mut holder = find();
    for round in 1..=ATTEMPTS {
        sleep(PAUSE).map_err(|error| DeviceError::System {
            doing: "waiting for",
            path: path.to_owned(),
            source: io::Error::other(error),
        })?;
        if let Some(result) = attempt()? {
            return Ok(result);
        }
        // Looked at twice, because a kill may not show yet. The search is too slow to be done each time.
        if round == 1 || round == ATTEMPTS {
            let before = std::mem::replace(&mut holder, find());
            if holder == before && holder.as_ref().is_some_and(|holder| !holder.dying) {
                break;
            }
        }
    }
    let holder = holder.map_or_else(|| unknown.to_owned(), |holder| holder.name);
    Err(DeviceError::Locked { path: path.to_owned(), holder })
}

/// Gives the lock back at once. Without this it would last until the open file is closed everywhere: in the rings that
/// know it, and in a child process that is about to execute another program.
pub(super) fn release(file: &File) -> io::Result<()> {
    set(file, libc::F_UNLCK).map(drop)
}

/// Whether the lock was taken.
fn set(file: &File, kind: libc::c_int) -> io::Result<bool> {
    let request = libc::flock {
        l_type: libc::c_short::try_from(kind).expect("a lock kind is a small number"),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).expect("a seek origin is a small number"),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and the kernel only reads the structure, which lives to the end of the call.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const request) };
    if answer != -1 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match Errno::from_io_error(&error) {
        Some(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        _ => Err(error),
    }
}
