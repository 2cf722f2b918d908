//! Why a server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The crate's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is not a loopback address; without TLS the server listens on loopback addresses only")]
    NotLoopback(SocketAddr),
    #[error("another server answers on {}", .0.display())]
    InUse(PathBuf),
    #[error("{} is there and is not a socket; it was left alone", .0.display())]
    NotASocket(PathBuf),
    #[error("the socket {} belongs to another user; it was left alone", .0.display())]
    ForeignSocket(PathBuf),
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("the kernel gives no io_uring, which the NBD server's sockets need")]
    Ring(#[source] io::Error),
    #[error("a worker thread cannot be started")]
    Thread(#[source] io::Error),
    #[error("a worker gets no channel to the pool")]
    Channel(#[from] thinpool::Error),
}
