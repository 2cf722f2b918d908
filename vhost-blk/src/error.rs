//! Why an export does not come to be.

use std::io;

/// The crate's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Socket(#[from] unix_socket::Error),
    #[error("{0} is exported already")]
    Exported(String),
    #[error("{0} is not exported")]
    NotExported(String),
    #[error("an export has 1 to {most} queues, not {asked}", most = crate::limits::QUEUES_MAX)]
    Queues { asked: u16 },
    #[error(transparent)]
    Engine(#[from] thinpool::Error),
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
}
