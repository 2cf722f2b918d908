//! Where a socket for somebody else is made: a directory beside its place that only this process may enter. It moves to its place when
//! it is whole, so that whoever may write to the directory around it never gets hold of a file that is still changed.

use crate::Owner;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The socket while it is here.
const SOCKET: &str = "socket";

/// Dropping it removes the directory, and what was not moved out of it.
#[derive(Debug)]
pub(crate) struct Workshop {
    around: OwnedFd,
    name: OsString,
    inside: OwnedFd,
}

impl Workshop {
    /// One at a time for a place: whoever calls this has it ([`crate::place::Place`]). What a server left that died is used.
    pub(crate) fn open(socket: &Path) -> io::Result<Self> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = socket.parent().filter(|parent| !parent.as_os_str().is_empty());
        let around = rustix::fs::openat(CWD, parent.unwrap_or(Path::new(".")), directory, Mode::empty())?;
        let mut name = OsString::from(".");
        name.push(socket.file_name().unwrap_or_default());
        name.push(".new");
        match rustix::fs::mkdirat(&around, &name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let inside = rustix::fs::openat(&around, &name, directory | OFlags::NOFOLLOW, Mode::empty())?;
        let found = rustix::fs::fstat(&inside)?;
        let is_private = Mode::from_raw_mode(found.st_mode) == Mode::RWXU;
        if found.st_uid != rustix::process::geteuid().as_raw() || !is_private {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let made = Self { around, name, inside };
        made.clear();
        Ok(made)
    }

    /// Where the socket is to be bound: by the descriptor, whatever becomes of the directory's name.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}/{SOCKET}", self.inside.as_fd().as_raw_fd()).into()
    }

    pub(crate) fn give(&self, owner: Owner) -> io::Result<()> {
        let (user, group) = (owner.user.map(Uid::from_raw), owner.group.map(Gid::from_raw));
        Ok(rustix::fs::chownat(&self.inside, SOCKET, user, group, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    pub(crate) fn complete_mode(&self, mode: Mode) -> io::Result<()> {
        Ok(rustix::fs::chmodat(&self.inside, SOCKET, mode, AtFlags::empty())?)
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.inside, SOCKET, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Into the place of nothing else.
    pub(crate) fn move_out(&self, socket: &Path) -> io::Result<()> {
        let name = socket.file_name().unwrap_or_default();
        Ok(rustix::fs::renameat_with(&self.inside, SOCKET, &self.around, name, RenameFlags::NOREPLACE)?)
    }

    fn clear(&self) {
        // There may be none.
        let _none_is_fine = rustix::fs::unlinkat(&self.inside, SOCKET, AtFlags::empty());
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        self.clear();
        // Whoever may write around it may have removed it.
        let _gone_is_fine = rustix::fs::unlinkat(&self.around, &self.name, AtFlags::REMOVEDIR);
    }
}
