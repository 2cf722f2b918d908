//! A client's socket, with or without TLS on it.
//!
//! One task receives and one sends. TLS itself does no I/O: what comes is fed to it, what it wants to say is fetched. In
//! the transmission phase only the sender writes to the socket; whoever receives tells it when TLS has something to say.

use crate::limits::TLS_RECEIVE_BYTES;
use crate::tls::{Access, Tls};
use rustls::ServerConnection;
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::UnixStream;

/// The client is gone, or does not keep to TLS.
#[derive(Debug)]
pub(crate) struct Gone;

pub(crate) struct Wire {
    /// Any stream socket: to the ring, Unix and TCP sockets are the same.
    stream: UnixStream,
    tls: RefCell<Option<Box<ServerConnection>>>,
    /// The client has said in TLS that nothing more comes.
    has_ended: Cell<bool>,
}

impl Wire {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            stream: UnixStream::from_std(socket.into()),
            tls: RefCell::new(None),
            has_ended: Cell::new(false),
        }
    }

    /// Ends all traffic at once.
    pub(crate) fn cut(&self) {
        // It fails when the client has closed already, and then there is nothing to cut.
        let _closed_is_fine = self.stream.shutdown(Shutdown::Both);
    }

    /// Appends what comes to `bytes`, as far as it has room; at least one byte.
    pub(crate) async fn receive(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Gone> {
        if self.tls.borrow().is_none() {
            return self.read(bytes).await;
        }
        let mut plain = bytes;
        let before = plain.len();
        while plain.len() == before {
            if self.has_ended.get() {
                return Err(Gone);
            }
            let room = TLS_RECEIVE_BYTES.min(plain.capacity() - before);
            let sealed = self.read(Vec::with_capacity(room)).await?;
            let end = self.with_tls(|tls| open(tls, &sealed, &mut plain))?;
            self.has_ended.set(end == End::Closed);
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
        if self.tls.borrow().is_none() {
            return self.write(bytes).await;
        }
        let sealed = self.with_tls(|tls| {
            tls.writer().write_all(&bytes).map_err(|_| Gone)?;
            said(tls)
        })?;
        self.write(sealed).await?;
        Ok(bytes)
    }

    async fn write(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Gone> {
        let (sent, bytes) = self.stream.write_all(bytes).await;
        sent.map_err(|_| Gone)?;
        Ok(bytes)
    }

    /// Whether TLS has something of its own to say: `send` says it, also without bytes.
    pub(crate) fn wants_to_speak(&self) -> bool {
        self.tls.borrow().as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// The handshake of TLS, from the first byte of the client's: what the client may have then, and what it has sent
    /// behind its last word of the handshake.
    pub(crate) async fn start_tls(&self, tls: &Tls) -> Result<(Access, Vec<u8>), Gone> {
        let mut connection = tls.connection().map_err(|_| Gone)?;
        connection.set_buffer_limit(None);
        *self.tls.borrow_mut() = Some(Box::new(connection));
        let mut plain = Vec::new();
        while self.with_tls(|tls| Ok(tls.is_handshaking()))? {
            let sealed = self.read(Vec::with_capacity(TLS_RECEIVE_BYTES)).await?;
            let opened = self.with_tls(|tls| open(tls, &sealed, &mut plain));
            // An alert tells the client why its certificate will not do, so it is sent before the client is given up.
            let said = self.with_tls(said)?;
            self.write(said).await?;
            self.has_ended.set(opened? == End::Closed);
        }
        let access = self.with_tls(|connection| Ok(tls.access(connection)))?;
        Ok((access, plain))
    }

    /// Tells the client that nothing more comes, where TLS has a word for it.
    pub(crate) async fn say_goodbye(&self) {
        if self.tls.borrow().is_none() {
            return;
        }
        let said = self.with_tls(|tls| {
            tls.send_close_notify();
            said(tls)
        });
        if let Ok(said) = said {
            // A client that is gone does not miss it.
            let _gone_is_fine = self.write(said).await;
        }
    }

    fn with_tls<T>(&self, act: impl FnOnce(&mut ServerConnection) -> Result<T, Gone>) -> Result<T, Gone> {
        act(self.tls.borrow_mut().as_mut().expect("TLS has been started"))
    }
}

/// Whether more may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
}

/// Feeds TLS with what came and appends what was in it.
fn open(tls: &mut ServerConnection, mut sealed: &[u8], plain: &mut Vec<u8>) -> Result<End, Gone> {
    let mut end = End::Open;
    while !sealed.is_empty() {
        let taken = tls.read_tls(&mut sealed).map_err(|_| Gone)?;
        let state = tls.process_new_packets().map_err(|_| Gone)?;
        let filled = plain.len();
        plain.resize(filled + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut plain[filled..]).map_err(|_| Gone)?;
        if state.peer_has_closed() {
            end = End::Closed;
        }
        if taken == 0 {
            break;
        }
    }
    Ok(end)
}

/// What TLS wants to have sent.
fn said(tls: &mut ServerConnection) -> Result<Vec<u8>, Gone> {
    let mut said = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut said).map_err(|_| Gone)?;
    }
    Ok(said)
}
