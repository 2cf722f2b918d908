//! Listening sockets: made with the right mode from the first moment, and never in the place of anything else.

use crate::error::Error;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Stat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where a server listens. `mode` is the permission bits of the socket file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Unix { path: PathBuf, mode: u32 },
    Tcp(SocketAddr),
}

/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 128;

/// A listening socket. Dropping it removes its socket file, if that is still its own.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    address: Listen,
    /// Device and inode of the socket file.
    file: Option<(u64, u64)>,
}

impl Listener {
    pub(crate) fn bind(listen: &Listen) -> Result<Self, Error> {
        match listen {
            Listen::Tcp(address) => bind_tcp(*address),
            Listen::Unix { path, mode } => bind_unix(path, *mode),
        }
    }

    /// Where it listens; a TCP port of 0 has become a real one.
    pub(crate) fn address(&self) -> &Listen {
        &self.address
    }

    /// The next connection, if one waits. The stream blocks, as the ring wants it.
    pub(crate) fn accept(&self) -> io::Result<OwnedFd> {
        let stream = rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC)?;
        if matches!(self.address, Listen::Tcp(_)) {
            // They fail when the client is gone already; its connection ends at the first read.
            let _gone_is_fine = sockopt::set_tcp_nodelay(&stream, true);
            let _gone_is_fine = sockopt::set_socket_keepalive(&stream, true);
        }
        Ok(stream)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Listen::Unix { path, .. } = &self.address else { return };
        if stat(path).is_ok_and(|stat| Some(identity(&stat)) == self.file) {
            // Somebody else removing it first is just as good.
            let _gone_is_fine = std::fs::remove_file(path);
        }
    }
}

fn bind_tcp(address: SocketAddr) -> Result<Listener, Error> {
    if !address.ip().is_loopback() {
        return Err(Error::NotLoopback(address));
    }
    let listen = |source| Error::Listen { address: address.to_string(), source };
    let socket = TcpListener::bind(address).map_err(listen)?;
    socket.set_nonblocking(true).map_err(listen)?;
    let address = Listen::Tcp(socket.local_addr().map_err(listen)?);
    Ok(Listener { socket: socket.into(), address, file: None })
}

/// The mode is set on the socket before it gets a name, so that at no time it has more rights than asked for; a
/// second time on the file, because the process's umask may have taken some away. Only then it listens.
fn bind_unix(path: &Path, mode: u32) -> Result<Listener, Error> {
    let listen = |source: io::Error| Error::Listen { address: path.display().to_string(), source };
    remove_stale(path)?;
    let make = || -> io::Result<(OwnedFd, Stat)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        if Mode::from_raw_mode(stat(path)?.st_mode) != Mode::from_raw_mode(mode) {
            rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        let file = stat(path)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok((socket, file))
    };
    let (socket, file) = make().map_err(listen)?;
    let address = Listen::Unix { path: path.to_owned(), mode };
    Ok(Listener { socket, address, file: Some(identity(&file)) })
}

/// Clears the place of a server that died: only a socket, only our own, and only when nobody answers on it.
fn remove_stale(path: &Path) -> Result<(), Error> {
    let listen = |source: io::Error| Error::Listen { address: path.display().to_string(), source };
    let found = match stat(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(listen(error)),
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(Error::NotASocket(path.to_owned()));
    }
    if found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Error::ForeignSocket(path.to_owned()));
    }
    if !is_dead(path).map_err(listen)? {
        return Err(Error::InUse(path.to_owned()));
    }
    if stat(path).is_ok_and(|again| identity(&again) != identity(&found)) {
        return Err(Error::InUse(path.to_owned()));
    }
    std::fs::remove_file(path).map_err(listen)
}

/// Whether nobody listens on a socket. A server too busy to accept is alive, and is not waited for.
fn is_dead(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
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
    use super::{Listen, Listener};
    use crate::error::Error;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    fn unix(path: &Path, mode: u32) -> Result<Listener, Error> {
        Listener::bind(&Listen::Unix { path: path.to_owned(), mode })
    }

    #[test]
    fn a_socket_has_the_mode_it_was_asked_for_and_goes_with_its_listener() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("nbd.sock");
        for mode in [0o600, 0o660, 0o666] {
            let listener = unix(&path, mode).expect("bound");
            assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, mode);
            UnixStream::connect(&path).expect("it listens");
            drop(listener);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_dead_servers_socket_is_replaced_and_a_living_ones_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("nbd.sock");
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

    #[test]
    fn a_listener_leaves_alone_what_took_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("nbd.sock");
        let listener = unix(&path, 0o600).expect("bound");
        std::fs::rename(&path, directory.path().join("moved.sock")).expect("moved");
        std::fs::write(&path, "other").expect("written");
        let inode = path.metadata().expect("there").ino();
        drop(listener);
        assert_eq!(path.metadata().expect("still there").ino(), inode);
    }

    #[test]
    fn only_loopback_addresses_are_listened_on() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:10809"] {
            let address = address.parse().expect("an address");
            assert!(matches!(Listener::bind(&Listen::Tcp(address)), Err(Error::NotLoopback(_))));
        }
        let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().expect("an address")));
        match listener.expect("bound").address() {
            Listen::Tcp(address) => assert_ne!(address.port(), 0),
            Listen::Unix { .. } => unreachable!("asked for TCP"),
        }
    }
}
