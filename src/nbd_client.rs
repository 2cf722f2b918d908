//! The client's side of NBD over a Unix socket: how a contained QEMU is asked for what is in an image.
//!
//! Reads with simple replies, several in flight; answers are taken by ticket, in any order. The other side reads bytes of
//! strangers, so nothing it says is believed: every length has a bound and every cookie was given out. Protocol:
//! <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>.

mod handshake;

use blockstore::Buffer;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A server that does nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests without an answer, at most; as many as QEMU works on at a time.
const IN_FLIGHT_MAX: usize = 16;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// The kind of a read.
const READ: u16 = 0;

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
    #[error("it refuses with error {0:#x}")]
    Refused(u32),
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

/// A read that was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// A connection in its transmission phase.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    size: u64,
    next_cookie: u64,
    pending: BTreeMap<u64, Buffer>,
    answered: BTreeMap<u64, Result<Buffer, NbdError>>,
}

impl Client {
    /// Agrees with the server on its export without a name.
    pub(crate) fn open(mut stream: UnixStream) -> Result<Self, NbdError> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let size = handshake::run(&mut stream)?;
        Ok(Self { stream, size, next_cookie: 0, pending: BTreeMap::new(), answered: BTreeMap::new() })
    }

    /// Bytes of the export.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Fills the buffer, of at most 32 MiB, from `offset`.
    pub(crate) fn read(&mut self, offset: u64, buffer: Buffer) -> Result<Ticket, NbdError> {
        assert!(self.pending.len() < IN_FLIGHT_MAX, "the caller takes answers before it asks for more");
        let length = u32::try_from(buffer.len()).expect("reads are of 32 MiB at most");
        self.next_cookie += 1;
        self.stream.write_all(&request(self.next_cookie, offset, length))?;
        self.pending.insert(self.next_cookie, buffer);
        Ok(Ticket(self.next_cookie))
    }

    /// The bytes of a read.
    pub(crate) fn bytes(&mut self, ticket: &Ticket) -> Result<Buffer, NbdError> {
        loop {
            if let Some(answer) = self.answered.remove(&ticket.0) {
                return answer;
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), NbdError> {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply)?;
        let (magic, error, cookie) = (u32_at(&reply, 0)?, u32_at(&reply, 4)?, u64_at(&reply, 8)?);
        if magic != REPLY_MAGIC {
            return Err(NbdError::Nonsense("a reply that is none"));
        }
        let mut buffer = self.pending.remove(&cookie).ok_or(NbdError::Nonsense("a reply to nothing"))?;
        let answer = if error == 0 {
            self.stream.read_exact(&mut buffer)?;
            Ok(buffer)
        } else {
            Err(NbdError::Refused(error))
        };
        self.answered.insert(cookie, answer);
        Ok(())
    }
}

fn request(cookie: u64, offset: u64, length: u32) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
    bytes[6..8].copy_from_slice(&READ.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..24].copy_from_slice(&offset.to_be_bytes());
    bytes[24..].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, NbdError> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, NbdError> {
    array_at(bytes, at).map(u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, NbdError> {
    array_at(bytes, at).map(u64::from_be_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], NbdError> {
    let rest = bytes.get(at..).and_then(<[u8]>::first_chunk);
    rest.copied().ok_or(NbdError::Nonsense("a message that is too short"))
}

#[cfg(test)]
mod tests;
