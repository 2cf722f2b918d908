//! A client's end of a connection, in the open or in TLS.

use rustls::{ClientConnection, StreamOwned};
use std::io::{Read, Result, Write};
use std::os::unix::net::UnixStream;

#[derive(Debug)]
pub(crate) enum Stream {
    Open(UnixStream),
    Secure(Box<StreamOwned<ClientConnection, UnixStream>>),
}

impl Stream {
    pub(crate) fn socket(&self) -> &UnixStream {
        match self {
            Self::Open(socket) => socket,
            Self::Secure(stream) => &stream.sock,
        }
    }

    /// TLS begins; nothing of it is sent yet.
    pub(crate) fn secure(self, connection: ClientConnection) -> Self {
        match self {
            Self::Open(socket) => Self::Secure(Box::new(StreamOwned::new(connection, socket))),
            Self::Secure(_) => panic!("TLS in TLS"),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        match self {
            Self::Open(socket) => socket.read(bytes),
            Self::Secure(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Open(socket) => socket.write(bytes),
            Self::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Open(socket) => socket.flush(),
            Self::Secure(stream) => stream.flush(),
        }
    }
}
