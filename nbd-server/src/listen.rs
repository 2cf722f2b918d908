//! Where the server listens: Unix sockets, loopback TCP, and with TLS any TCP.

use crate::error::Error;
use crate::tls::{Security, Stance};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags, getsockname, sockopt};
use std::ffi::OsStr;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use unix_socket::SocketFile;

/// Where a server listens. `mode` is the permission bits of the socket file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Unix { path: PathBuf, mode: u32 },
    Tcp(SocketAddr),
}

/// A listening socket and what it was asked for.
#[derive(Debug)]
pub(crate) struct Listener {
    address: Listen,
    socket: Socket,
    tls: Stance,
}

#[derive(Debug)]
enum Socket {
    Unix(SocketFile),
    /// Somebody else made it, and its file, if it has one, stays.
    Inherited(OwnedFd),
    Tcp(OwnedFd),
}

impl Listener {
    pub(crate) fn bind(listen: &Listen, tls: Security) -> Result<Self, Error> {
        match listen {
            Listen::Tcp(address) => bind_tcp(*address, tls),
            Listen::Unix { path, mode } => {
                let socket = Socket::Unix(SocketFile::bind(path, *mode)?);
                Ok(Self { address: listen.clone(), socket, tls: on_unix(tls) })
            }
        }
    }

    /// Takes a socket that listens already, from whoever started the process.
    pub(crate) fn adopt(socket: OwnedFd, tls: Security) -> Result<Self, Error> {
        let failed =
            |errno: Errno| Error::Listen { address: "an inherited socket".to_owned(), source: errno.into() };
        if !sockopt::socket_acceptconn(&socket).map_err(failed)? {
            return Err(failed(Errno::INVAL));
        }
        let address = getsockname(&socket).map_err(failed)?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(failed)?;
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            let tls = stance_at(address, tls)?;
            return Ok(Self { address: Listen::Tcp(address), socket: Socket::Tcp(socket), tls });
        }
        let unix = SocketAddrUnix::try_from(address).map_err(failed)?;
        let path =
            unix.path().map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes()))).unwrap_or_default();
        let tls = on_unix(tls);
        Ok(Self { address: Listen::Unix { path, mode: 0 }, socket: Socket::Inherited(socket), tls })
    }

    /// How a connection accepted here stands to TLS.
    pub(crate) fn stance(&self) -> Stance {
        self.tls
    }

    /// Where it listens; a TCP port of 0 has become a real one.
    pub(crate) fn address(&self) -> &Listen {
        &self.address
    }

    /// The next connection, if one waits. The stream blocks, as the ring wants it.
    pub(crate) fn accept(&self) -> io::Result<OwnedFd> {
        let socket = match &self.socket {
            Socket::Unix(socket) => return socket.accept(),
            Socket::Inherited(socket) => return Ok(rustix::net::accept_with(socket, SocketFlags::CLOEXEC)?),
            Socket::Tcp(socket) => socket,
        };
        let stream = rustix::net::accept_with(socket, SocketFlags::CLOEXEC)?;
        // They fail when the client is gone already; its connection ends at the first read.
        let _gone_is_fine = sockopt::set_tcp_nodelay(&stream, true);
        let _gone_is_fine = sockopt::set_socket_keepalive(&stream, true);
        Ok(stream)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Inherited(socket) | Socket::Tcp(socket) => socket.as_fd(),
        }
    }
}

fn bind_tcp(address: SocketAddr, tls: Security) -> Result<Listener, Error> {
    let tls = stance_at(address, tls)?;
    let listen = |source| Error::Listen { address: address.to_string(), source };
    let socket = TcpListener::bind(address).map_err(listen)?;
    socket.set_nonblocking(true).map_err(listen)?;
    let address = Listen::Tcp(socket.local_addr().map_err(listen)?);
    Ok(Listener { address, socket: Socket::Tcp(socket.into()), tls })
}

/// Beyond the machine nothing is said in the open.
fn stance_at(address: SocketAddr, tls: Security) -> Result<Stance, Error> {
    match (tls, address.ip().is_loopback()) {
        (Security::None, true) => Ok(Stance::Refused),
        (Security::None, false) => Err(Error::NotLoopback(address)),
        (Security::Beyond, true) => Ok(Stance::Offered),
        _ => Ok(Stance::Required),
    }
}

/// The socket's file says who may connect.
fn on_unix(tls: Security) -> Stance {
    match tls {
        Security::None => Stance::Refused,
        Security::Beyond | Security::Tcp => Stance::Offered,
        Security::Everywhere => Stance::Required,
    }
}

#[cfg(test)]
mod tests {
    use super::{Listen, Listener, stance_at};
    use crate::error::Error;
    use crate::tls::{Security, Stance};

    #[test]
    fn without_tls_only_loopback_addresses_are_listened_on_and_with_it_all_others_require_it() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:10809"] {
            let address = address.parse().expect("an address");
            assert!(matches!(
                Listener::bind(&Listen::Tcp(address), Security::None),
                Err(Error::NotLoopback(_))
            ));
        }
        let stance = |address: &str, tls| {
            stance_at(address.parse().expect("an address"), tls).expect("it may be listened on")
        };
        assert_eq!(stance("127.0.0.1:0", Security::Beyond), Stance::Offered);
        assert_eq!(
            stance("127.0.0.1:0", Security::Tcp),
            Stance::Required,
            "a port is open to everybody here"
        );
        assert_eq!(stance("[::1]:0", Security::Everywhere), Stance::Required);
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:10809"] {
            assert_eq!(stance(address, Security::Beyond), Stance::Required);
        }
        let listener =
            Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().expect("an address")), Security::None);
        match listener.expect("bound").address() {
            Listen::Tcp(address) => assert_ne!(address.port(), 0),
            Listen::Unix { .. } => unreachable!("asked for TCP"),
        }
    }
}
