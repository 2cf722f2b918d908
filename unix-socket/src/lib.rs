//! Listening Unix sockets with a name in the file system: made with the right owner and mode from the first moment, and never
//! in the place of anything else.
//!
//! What it is: the one place where the doors (NBD, vhost-user) make, replace and remove socket files. What it is not: a
//! server; what is spoken on a connection is the door's business.
//!
//! Invariants:
//! * U1: at no time has the socket file more rights than it was asked for, whatever the process's umask is.
//! * U2: only a dead socket of the same user, or of the one it is made for, is replaced; anything else at the path is left
//!   alone. One server starts at a path at a time.
//! * U3: only its own file is removed at the end, not what has taken its place since.
#![forbid(unsafe_code)]

mod place;
mod workshop;

use crate::place::Place;
use crate::workshop::Workshop;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another server answers on {}", .0.display())]
    InUse(PathBuf),
    #[error("{} is there and is not a socket; it was left alone", .0.display())]
    NotASocket(PathBuf),
    #[error("the socket {} belongs to another user; it was left alone", .0.display())]
    ForeignSocket(PathBuf),
    #[error("the socket {} cannot be given to another owner", .path.display())]
    Owner { path: PathBuf, source: io::Error },
    #[error("cannot listen on {}", .path.display())]
    Listen { path: PathBuf, source: io::Error },
}

/// Whose a socket file is, by their numbers; what is not said is the process's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    pub user: Option<u32>,
    pub group: Option<u32>,
}

impl Owner {
    const OWN: Self = Self { user: None, group: None };
}

/// A listening socket. Dropping it removes its file, if that is still its own (U3).
#[derive(Debug)]
pub struct SocketFile {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode.
    file: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`, a file with these permission bits.
    ///
    /// # Errors
    /// When something is there that must not be replaced (U2), or the system refuses.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, Error> {
        bind(path, mode)
    }

    /// The same, and the file is given to `owner` before anybody can connect.
    ///
    /// # Errors
    /// As [`SocketFile::bind`], and when the process may not give files to this owner.
    pub fn bind_for(owner: Owner, path: &Path, mode: u32) -> Result<Self, Error> {
        if owner == Owner::OWN { bind(path, mode) } else { bind_for(owner, path, mode) }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection, if one waits; it blocks.
    ///
    /// # Errors
    /// `WouldBlock` when nobody waits, and whatever the system says.
    pub fn accept(&self) -> io::Result<OwnedFd> {
        Ok(rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC)?)
    }
}

impl AsFd for SocketFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if stat(&self.path).is_ok_and(|stat| identity(&stat) == self.file) {
            // Somebody else removing it first is just as good.
            let _gone_is_fine = std::fs::remove_file(&self.path);
        }
    }
}

/// The mode is set on the socket before it gets a name, so that at no time it has more rights than asked for; a
/// second time on the file, because the process's umask may have taken some away. Only then it listens.
fn bind(path: &Path, mode: u32) -> Result<SocketFile, Error> {
    let listen = |source: io::Error| Error::Listen { path: path.to_owned(), source };
    let _place = clear_place(path, Owner::OWN)?;
    let make = || -> io::Result<SocketFile> {
        let socket = new_socket()?;
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        let file = complete_mode(path, Mode::from_raw_mode(mode))?;
        let made = SocketFile { socket, path: path.to_owned(), file: identity(&file) };
        rustix::net::listen(&made.socket, BACKLOG)?;
        Ok(made)
    };
    make().map_err(listen)
}

/// The socket is whole, and listens, before it has its place.
fn bind_for(owner: Owner, path: &Path, mode: u32) -> Result<SocketFile, Error> {
    let listen = |source: io::Error| Error::Listen { path: path.to_owned(), source };
    let _place = clear_place(path, owner)?;
    let workshop = Workshop::open(path).map_err(listen)?;
    let make = || -> io::Result<(OwnedFd, Stat)> {
        let socket = new_socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(workshop.path())?)?;
        Ok((socket, workshop.stat()?))
    };
    let (socket, found) = make().map_err(listen)?;
    workshop.give(owner).map_err(|source| Error::Owner { path: path.to_owned(), source })?;
    let finish = || -> io::Result<()> {
        workshop.complete_mode(Mode::from_raw_mode(mode))?;
        rustix::net::listen(&socket, BACKLOG)?;
        workshop.move_out(path)
    };
    finish().map_err(listen)?;
    Ok(SocketFile { socket, path: path.to_owned(), file: identity(&found) })
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Gives a socket file of ours the rights the umask has taken away. The file is opened first and then looked at: whatever
/// takes its place in a directory of others, a symbolic link to a file of ours not excepted, is left as it is.
fn complete_mode(path: &Path, mode: Mode) -> io::Result<Stat> {
    let file =
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&file)?;
    if !is_socket(&found) || !is_ours(&found) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if Mode::from_raw_mode(found.st_mode) != mode {
        // By the descriptor: one that was opened as a path only cannot be changed otherwise.
        rustix::fs::chmodat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), mode, AtFlags::empty())?;
    }
    Ok(found)
}

/// The place, which nothing is in, for as long as the result lives.
fn clear_place(path: &Path, owner: Owner) -> Result<Place, Error> {
    // What cannot be replaced is said also where nothing can be made.
    find_stale(path, owner)?;
    let place = Place::take(path)?;
    remove_stale(path, owner)?;
    Ok(place)
}

/// Clears the place of a server that died.
fn remove_stale(path: &Path, owner: Owner) -> Result<(), Error> {
    let listen = |source: io::Error| Error::Listen { path: path.to_owned(), source };
    let Some(found) = find_stale(path, owner)? else { return Ok(()) };
    if stat(path).is_ok_and(|again| identity(&again) != identity(&found)) {
        return Err(Error::InUse(path.to_owned()));
    }
    std::fs::remove_file(path).map_err(listen)
}

/// What may be replaced: only a socket, only our own or the owner's, and only when nobody answers on it. Nothing when nothing is
/// there.
fn find_stale(path: &Path, owner: Owner) -> Result<Option<Stat>, Error> {
    let listen = |source: io::Error| Error::Listen { path: path.to_owned(), source };
    let found = match stat(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(listen(error)),
    };
    if !is_socket(&found) {
        return Err(Error::NotASocket(path.to_owned()));
    }
    if !is_ours(&found) && owner.user != Some(found.st_uid) {
        return Err(Error::ForeignSocket(path.to_owned()));
    }
    if !is_dead(path).map_err(listen)? {
        return Err(Error::InUse(path.to_owned()));
    }
    Ok(Some(found))
}

fn is_socket(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Socket
}

fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
}

/// Whether nobody listens on a socket. A server too busy to accept is alive, and is not waited for.
fn is_dead(path: &Path) -> io::Result<bool> {
    let socket = new_socket()?;
    let connected = rustix::net::connect(&socket, &SocketAddrUnix::new(path)?);
    Ok(connected == Err(rustix::io::Errno::CONNREFUSED))
}

/// Of the path itself, not of what a symbolic link there points to.
fn stat(path: &Path) -> io::Result<Stat> {
    Ok(rustix::fs::lstat(path)?)
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::{Error, Mode, Owner, SocketFile, complete_mode};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    fn unix(path: &Path, mode: u32) -> Result<SocketFile, Error> {
        SocketFile::bind(path, mode)
    }

    #[test]
    fn a_socket_has_the_mode_it_was_asked_for_and_goes_with_its_listener() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door.sock");
        for mode in [0o600, 0o660, 0o666] {
            let listener = unix(&path, mode).expect("bound");
            assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, mode);
            UnixStream::connect(&path).expect("it listens");
            drop(listener);
            assert!(!path.exists());
        }
    }

    fn names(directory: &Path) -> Vec<std::ffi::OsString> {
        let entries = std::fs::read_dir(directory).expect("a directory");
        entries.map(|entry| entry.expect("a name").file_name()).collect()
    }

    /// Who may not give files away, as everybody but root, is told so; nothing is left behind.
    #[test]
    fn a_socket_belongs_to_whom_it_was_made_for_also_when_its_server_died() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door.sock");
        let owner = Owner { user: Some(54_321), group: Some(54_322) };
        let listener = match SocketFile::bind_for(owner, &path, 0o660) {
            Err(error) => {
                assert!(matches!(error, Error::Owner { .. }), "{error}");
                return assert_eq!(names(directory.path()), [""; 0]);
            }
            Ok(listener) => listener,
        };
        assert_eq!(names(directory.path()), ["door.sock"]);
        let found = path.metadata().expect("there");
        assert_eq!((found.uid(), found.gid(), MetadataExt::mode(&found) & 0o777), (54_321, 54_322, 0o660));
        UnixStream::connect(&path).expect("it listens");
        assert!(matches!(SocketFile::bind_for(owner, &path, 0o660), Err(Error::InUse(_))));
        let kept = directory.path().join("kept");
        std::fs::rename(&path, &kept).expect("moved, so that it is not removed");
        drop(listener);
        std::fs::rename(&kept, &path).expect("moved back");
        assert!(matches!(unix(&path, 0o600), Err(Error::ForeignSocket(_))));
        drop(SocketFile::bind_for(owner, &path, 0o600).expect("its owner's dead socket is replaced"));
        assert_eq!(names(directory.path()), [""; 0]);
    }

    /// For the own group, so that whoever runs this may do it.
    #[test]
    fn a_socket_for_others_takes_nobodys_place_and_is_made_where_nobody_else_may_enter() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door.sock");
        let owner = Owner { user: None, group: Some(rustix::process::getegid().as_raw()) };
        let workshop = directory.path().join(".door.sock.new");
        std::fs::create_dir(&workshop).expect("made");
        std::fs::set_permissions(&workshop, PermissionsExt::from_mode(0o777)).expect("open to all");
        assert!(matches!(SocketFile::bind_for(owner, &path, 0o600), Err(Error::Listen { .. })));
        std::fs::set_permissions(&workshop, PermissionsExt::from_mode(0o700))
            .expect("as a dead server left it");
        drop(UnixListener::bind(workshop.join("socket")).expect("bound"));
        let listener = SocketFile::bind_for(owner, &path, 0o600).expect("bound");
        assert_eq!(names(directory.path()), ["door.sock"]);
        UnixStream::connect(&path).expect("it listens");
        drop(listener);
        std::fs::write(&path, "data").expect("written");
        assert!(matches!(SocketFile::bind_for(owner, &path, 0o600), Err(Error::NotASocket(_))));
        assert_eq!(names(directory.path()), ["door.sock"]);
    }

    #[test]
    fn a_dead_servers_socket_is_replaced_and_a_living_ones_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "a dead server leaves its socket behind");
        let living = unix(&path, 0o600).expect("replaced");
        assert!(matches!(unix(&path, 0o600), Err(Error::InUse(_))));
        assert!(path.exists());
        drop(living);
    }

    #[test]
    fn what_is_not_a_socket_is_never_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("precious");
        std::fs::write(&file, "data").expect("written");
        let link = directory.path().join("link");
        let target = directory.path().join("target.sock");
        drop(UnixListener::bind(&target).expect("bound"));
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        for path in [&file, &link, &directory.path().to_owned()] {
            assert!(matches!(unix(path, 0o600), Err(Error::NotASocket(_))));
            assert!(path.exists());
        }
        assert_eq!(std::fs::read(&file).expect("still there"), b"data");
    }

    /// What a directory that others may write to can do between the making of a socket and its rights.
    #[test]
    fn rights_go_to_no_other_file_than_a_socket_of_ours() {
        let directory = tempfile::tempdir().expect("a directory");
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "data").expect("written");
        let mode = |path: &Path| path.symlink_metadata().expect("there").permissions().mode() & 0o7777;
        let before = mode(&precious);
        let link = directory.path().join("door.sock");
        std::os::unix::fs::symlink(&precious, &link).expect("linked");
        for path in [&link, &precious] {
            complete_mode(path, Mode::from_raw_mode(0o666)).expect_err("no socket");
        }
        assert_eq!(mode(&precious), before);
        let socket = directory.path().join("other.sock");
        let _listener = UnixListener::bind(&socket).expect("bound");
        for wanted in [0o600, 0o666, 0o640] {
            complete_mode(&socket, Mode::from_raw_mode(wanted)).expect("a socket of ours");
            assert_eq!(mode(&socket), wanted);
        }
    }

    #[test]
    fn a_listener_leaves_alone_what_took_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door.sock");
        let listener = unix(&path, 0o600).expect("bound");
        std::fs::rename(&path, directory.path().join("moved.sock")).expect("moved");
        std::fs::write(&path, "other").expect("written");
        let inode = path.metadata().expect("there").ino();
        drop(listener);
        assert_eq!(path.metadata().expect("still there").ino(), inode);
    }
}
