//! The place of a socket while its server starts: one at a time. Two that start at once would both find a dead socket,
//! and each take the other's, which is bound and does not listen yet, for dead.

use crate::{Error, identity, stat};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock, fstat};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How often a lock is made anew that its last holder has removed meanwhile.
const TRIES_MAX: u32 = 16;

/// Held by a locked file beside the socket; dropping it removes the file. One that was left behind by a server that
/// died is nobody's.
#[derive(Debug)]
pub(crate) struct Place {
    _locked: OwnedFd,
    path: PathBuf,
}

impl Place {
    /// Never waits: whoever is there already will be a living server in a moment.
    pub(crate) fn take(socket: &Path) -> Result<Self, Error> {
        let path = beside(socket);
        for _ in 0..TRIES_MAX {
            let listen = |source: io::Error| Error::Listen { path: path.clone(), source };
            let locked = open(&path).map_err(listen)?;
            match flock(&locked, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => break,
                Err(error) => return Err(listen(error.into())),
            }
            // A lock on a file that its last holder has removed locks nothing.
            let held = fstat(&locked).map_err(|error| listen(error.into()))?;
            if stat(&path).is_ok_and(|named| identity(&named) == identity(&held)) {
                return Ok(Self { _locked: locked, path });
            }
        }
        Err(Error::InUse(socket.to_owned()))
    }
}

impl Drop for Place {
    /// While it is still locked.
    fn drop(&mut self) {
        // Somebody else removing it first is just as good.
        let _gone_is_fine = std::fs::remove_file(&self.path);
    }
}

fn beside(socket: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(socket.file_name().unwrap_or_default());
    name.push(".lock");
    socket.with_file_name(name)
}

/// Our own file or none: one of another user's could be locked by him for ever.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(CWD, path, flags, mode)?;
    let found = fstat(&file)?;
    let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    if !is_file || found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // The umask may have taken even our own rights.
    rustix::fs::fchmod(&file, mode)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::Place;
    use crate::{Error, SocketFile};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::Barrier;

    #[test]
    fn a_socket_whose_server_is_about_to_listen_is_not_taken_for_dead() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door.sock");
        let place = Place::take(&path).expect("nobody else starts");
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).expect("short")).expect("bound");
        assert!(matches!(SocketFile::bind(&path, 0o600), Err(Error::InUse(_))));
        rustix::net::listen(&socket, 1).expect("it listens");
        UnixStream::connect(&path).expect("it is still there");
        drop(place);
        assert!(matches!(SocketFile::bind(&path, 0o600), Err(Error::InUse(_))), "it lives");
        drop(socket);
        let replaced = SocketFile::bind(&path, 0o600).expect("it is dead");
        let names = std::fs::read_dir(directory.path()).expect("a directory").count();
        assert_eq!(names, 1, "the lock has gone");
        drop(replaced);
    }

    #[test]
    fn of_servers_that_start_at_once_in_a_dead_ones_place_one_answers() {
        const SERVERS: usize = 4;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door.sock");
        for _ in 0..200 {
            drop(UnixListener::bind(&path).expect("bound"));
            let barrier = Barrier::new(SERVERS);
            let start = || {
                barrier.wait();
                SocketFile::bind(&path, 0o600)
            };
            let started: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..SERVERS).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            let living: Vec<&SocketFile> = started.iter().flatten().collect();
            assert_eq!(living.len(), 1);
            let _client = UnixStream::connect(&path).expect("it answers");
            living[0].accept().expect("the one that believes it does");
        }
    }

    #[test]
    fn a_lock_that_was_left_behind_is_nobodys() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("door.sock");
        std::fs::write(directory.path().join(".door.sock.lock"), "").expect("written");
        drop(SocketFile::bind(&path, 0o600).expect("bound"));
        std::os::unix::fs::symlink("/dev/null", directory.path().join(".door.sock.lock")).expect("linked");
        assert!(matches!(SocketFile::bind(&path, 0o600), Err(Error::Listen { .. })), "no file of ours");
    }
}
