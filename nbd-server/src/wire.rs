//! A client's socket, with or without TLS on it.
//!
//! One task receives and one sends. In the transmission phase only the sender writes to the socket; whoever receives tells
//! it when TLS has something to say.

use crate::limits::{COPIED_BYTES_MAX, SEND_BUFFER_BYTES, TLS_RECEIVE_BYTES, UNBROKEN_BYTES_MAX};
use crate::tls::{Access, Tls};
use crate::tunnel::{Broken, Tunnel};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_domain};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, sendmsg};
use std::cell::{Cell, RefCell};
use std::io::IoSlice;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::UnixStream;

/// The client is gone, or does not keep to TLS.
#[derive(Debug)]
pub(crate) struct Gone;

impl From<Broken> for Gone {
    fn from(Broken: Broken) -> Self {
        Self
    }
}

pub(crate) struct Wire {
    /// Any stream socket: to the ring, Unix and TCP sockets are the same.
    stream: UnixStream,
    /// The same socket, to look at; missing where the system had no descriptor for it.
    socket: Option<OwnedFd>,
    tunnel: RefCell<Option<Tunnel>>,
    /// Bytes sent since the other connections of the thread had their turn.
    unbroken: Cell<usize>,
}

impl Wire {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        enlarge(&socket);
        let second = socket.try_clone().ok();
        Self {
            stream: UnixStream::from_std(socket.into()),
            socket: second,
            tunnel: RefCell::new(None),
            unbroken: Cell::new(0),
        }
    }

    /// Ends all traffic at once.
    pub(crate) fn cut(&self) {
        // It fails when the client has closed already, and then there is nothing to cut.
        let _closed_is_fine = self.stream.shutdown(Shutdown::Both);
    }

    /// Whether the client has closed its end, which nobody hears who does not receive.
    pub(crate) fn has_hung_up(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut [PollFd::new(socket, PollFlags::RDHUP)], Some(&now)), Ok(1..))
    }

    /// Appends what comes to `bytes`, as far as it has room; at least one byte.
    pub(crate) async fn receive(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Gone> {
        if !self.is_secure() {
            return self.read(bytes).await;
        }
        let mut plain = bytes;
        let before = plain.len();
        while plain.len() == before {
            if self.with_tunnel(|tunnel| tunnel.has_ended()) {
                return Err(Gone);
            }
            let room = TLS_RECEIVE_BYTES.min(plain.capacity() - before);
            let sealed = self.read(Vec::with_capacity(room)).await?;
            self.with_tunnel(|tunnel| tunnel.open(&sealed, &mut plain))?;
        }
        Ok(plain)
    }

    async fn read(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Gone> {
        let filled = bytes.len();
        let (count, slice) = self.stream.read(bytes.slice(filled..)).await;
        match count {
            Ok(count) if count > 0 => Ok(slice.into_inner()),
            _ => Err(Gone),
        }
    }

    /// Sends all of `bytes`, and gives them back to be used again.
    pub(crate) async fn send(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Gone> {
        if !self.is_secure() {
            return self.write(bytes).await;
        }
        let sealed = self.with_tunnel(|tunnel| tunnel.seal(&bytes))?;
        self.write(sealed).await?;
        Ok(bytes)
    }

    /// Longest run of data that is copied to be sent. What TLS seals is copied anyway.
    pub(crate) fn copied_max(&self) -> usize {
        if self.is_secure() || self.socket.is_none() { usize::MAX } else { COPIED_BYTES_MAX }
    }

    /// Sends all of `bytes` and then all of `run`, which stays where it is, without TLS. Gives the bytes back.
    pub(crate) async fn send_both(&self, bytes: Vec<u8>, run: &[u8]) -> Result<Vec<u8>, Gone> {
        let socket = self.socket.as_ref().ok_or(Gone)?;
        let mut sent = 0;
        while sent < bytes.len() + run.len() {
            let parts = [
                IoSlice::new(&bytes[sent.min(bytes.len())..]),
                IoSlice::new(&run[sent.saturating_sub(bytes.len())..]),
            ];
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.unbroken.set(0);
                    until_writable(socket).await?;
                }
                Err(_) => return Err(Gone),
            }
        }
        let unbroken = self.unbroken.get() + sent;
        self.unbroken.set(unbroken);
        if unbroken >= UNBROKEN_BYTES_MAX {
            self.unbroken.set(0);
            // Only a wait for the ring lets it take what others have for it; yielding does not.
            tokio_uring::no_op().await.map_err(|_| Gone)?;
        }
        Ok(bytes)
    }

    async fn write(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Gone> {
        let (sent, bytes) = self.stream.write_all(bytes).await;
        sent.map_err(|_| Gone)?;
        Ok(bytes)
    }

    /// Whether TLS has something of its own to say: `send` says it, also without bytes.
    pub(crate) fn wants_to_speak(&self) -> bool {
        self.tunnel.borrow().as_ref().is_some_and(Tunnel::wants_to_speak)
    }

    /// The handshake of TLS, from the first byte of the client's: what the client may have then, and what it has sent
    /// behind its last word of the handshake; no more than one receive brings.
    pub(crate) async fn start_tls(&self, tls: &Tls) -> Result<(Access, Vec<u8>), Gone> {
        self.tunnel.replace(Some(Tunnel::new(tls)?));
        let mut plain = Vec::new();
        while self.with_tunnel(|tunnel| tunnel.is_handshaking()) {
            let sealed = self.read(Vec::with_capacity(TLS_RECEIVE_BYTES)).await?;
            let opened = self.with_tunnel(|tunnel| tunnel.open(&sealed, &mut plain));
            // An alert tells the client why its certificate will not do, so it is sent before the client is given up.
            let said = self.with_tunnel(Tunnel::said)?;
            self.write(said).await?;
            opened?;
        }
        let access = self.with_tunnel(|tunnel| tunnel.access(tls));
        Ok((access, plain))
    }

    /// Tells the client that nothing more comes, where TLS has a word for it.
    pub(crate) async fn say_goodbye(&self) {
        if !self.is_secure() {
            return;
        }
        if let Ok(said) = self.with_tunnel(Tunnel::goodbye) {
            // A client that is gone does not miss it.
            let _gone_is_fine = self.write(said).await;
        }
    }

    fn is_secure(&self) -> bool {
        self.tunnel.borrow().is_some()
    }

    fn with_tunnel<T>(&self, act: impl FnOnce(&mut Tunnel) -> T) -> T {
        act(self.tunnel.borrow_mut().as_mut().expect("TLS has been started"))
    }
}

/// A usual long reply should fit a Unix socket as a whole: otherwise each waits half-way for its client. TCP finds its own
/// measure.
fn enlarge(socket: &OwnedFd) {
    if socket_domain(socket) == Ok(AddressFamily::UNIX) {
        // As far as the system lets it; with less it works as well, and takes longer.
        let _smaller_is_fine = set_socket_send_buffer_size(socket, SEND_BUFFER_BYTES);
    }
}

/// Watches the socket no longer than it is full: otherwise every byte that a client takes would wake the thread.
#[expect(
    deprecated,
    reason = "a BorrowedFd stays what it is, which is all that the unsafe successor asks for"
)]
async fn until_writable(socket: &OwnedFd) -> Result<(), Gone> {
    let watched = AsyncFd::with_interest(socket.as_fd(), Interest::WRITABLE).map_err(|_| Gone)?;
    watched.writable().await.map(drop).map_err(|_| Gone)
}

#[cfg(test)]
mod tests;
