//! Why a server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The crate's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} is not a loopback address; without TLS the server listens on loopback addresses only")]
    NotLoopback(SocketAddr),
    #[error(transparent)]
    Socket(#[from] unix_socket::Error),
    #[error("{}: {why}", .file.display())]
    Tls { file: PathBuf, why: String },
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("the kernel gives no io_uring, which the NBD server's sockets need")]
    Ring(#[source] io::Error),
    #[error("a worker thread cannot be started")]
    Thread(#[source] io::Error),
    #[error("a worker gets no channel to the pool")]
    Channel(#[from] thinpool::Error),
}
