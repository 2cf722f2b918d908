//! The client's side of NBD over a Unix socket: how a contained QEMU is asked for what is in an image.
//!
//! Structured replies, `base:allocation`, requests in flight together; answers are taken by ticket, in any order. The
//! other side reads bytes of strangers, so nothing it says is believed: every length has a bound, every cookie was given
//! out, every byte of a read has come once. Protocol: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>.

mod handshake;
mod reply;

use blockstore::Buffer;
use reply::Pending;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A server that does nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests without an answer, at most; QEMU works on 16 at a time.
const IN_FLIGHT_MAX: usize = 17;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const READ: u16 = 0;
const BLOCK_STATUS: u16 = 7;
/// All bytes of a read in one piece.
const DO_NOT_FRAGMENT: u16 = 1 << 2;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NbdError {
    #[error("it ended")]
    Ended,
    #[error("it did nothing for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("its connection broke")]
    Broken(#[source] io::Error),
    #[error("it does not speak NBD: {0}")]
    Nonsense(&'static str),
    #[error("error {number}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused { number: u32, message: String },
}

impl From<io::Error> for NbdError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                NbdError::Ended
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NbdError::Silent,
            _ => NbdError::Broken(error),
        }
    }
}

/// A run of the export; length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) length: u64,
    /// Known to read as zeros.
    pub(crate) is_zero: bool,
}

/// A request that was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// What came of a request.
#[derive(Debug)]
pub(super) enum Answer {
    Bytes(Buffer),
    Extents(Vec<Extent>),
}

/// A connection in its transmission phase.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    size: u64,
    /// The number of `base:allocation`.
    context: u32,
    next_cookie: u64,
    pending: BTreeMap<u64, Pending>,
    answered: BTreeMap<u64, Result<Answer, NbdError>>,
}

impl Client {
    /// Agrees with the server on its export without a name.
    pub(crate) fn open(mut stream: UnixStream) -> Result<Self, NbdError> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let agreed = handshake::run(&mut stream)?;
        Ok(Self {
            stream,
            size: agreed.size,
            context: agreed.context,
            next_cookie: 0,
            pending: BTreeMap::new(),
            answered: BTreeMap::new(),
        })
    }

    /// Bytes of the export.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// A handle to end the connection with, from any thread.
    pub(crate) fn stopper(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Fills the buffer from `offset`; at most 32 MiB.
    pub(crate) fn read(&mut self, offset: u64, buffer: Buffer) -> Result<Ticket, NbdError> {
        let length = short(buffer.len());
        self.send(READ, DO_NOT_FRAGMENT, offset, length, Pending::Read { offset, buffer, filled: 0 })
    }

    /// Which parts of a range are zeros: runs from its start, which may end before it does.
    pub(crate) fn extents(&mut self, offset: u64, length: u32) -> Result<Vec<Extent>, NbdError> {
        let ticket = self.send(BLOCK_STATUS, 0, offset, length, Pending::Extents { context: self.context })?;
        match self.finish(&ticket)? {
            Answer::Extents(extents) => Ok(extents),
            _ => Err(NbdError::Nonsense("an answer without extents")),
        }
    }

    /// The bytes of a read.
    pub(crate) fn bytes(&mut self, ticket: &Ticket) -> Result<Buffer, NbdError> {
        match self.finish(ticket)? {
            Answer::Bytes(buffer) => Ok(buffer),
            _ => Err(NbdError::Nonsense("an answer without bytes")),
        }
    }

    fn send(
        &mut self,
        kind: u16,
        flags: u16,
        offset: u64,
        length: u32,
        pending: Pending,
    ) -> Result<Ticket, NbdError> {
        assert!(self.pending.len() < IN_FLIGHT_MAX, "the caller takes answers before it asks for more");
        self.next_cookie += 1;
        self.stream.write_all(&request(kind, flags, self.next_cookie, offset, length))?;
        self.pending.insert(self.next_cookie, pending);
        Ok(Ticket(self.next_cookie))
    }

    fn finish(&mut self, ticket: &Ticket) -> Result<Answer, NbdError> {
        loop {
            if let Some(answer) = self.answered.remove(&ticket.0) {
                return answer;
            }
            if let Some((cookie, answer)) = reply::receive(&mut self.stream, &mut self.pending)? {
                self.answered.insert(cookie, answer);
            }
        }
    }
}

fn request(kind: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    bytes[4..6].copy_from_slice(&flags.to_be_bytes());
    bytes[6..8].copy_from_slice(&kind.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..24].copy_from_slice(&offset.to_be_bytes());
    bytes[24..].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn short(length: usize) -> u32 {
    u32::try_from(length).expect("requests are of 32 MiB at most")
}

#[cfg(test)]
mod tests;
