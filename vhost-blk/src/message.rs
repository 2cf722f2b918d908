//! Messages of vhost-user as far as the library neither reads nor writes them: a header of three 32-bit numbers in the
//! machine's order (request, flags, length of what follows), and a 64-bit number or nothing.

use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::AsFd;

pub(crate) const HEADER_BYTES: usize = 12;
const NUMBER_BYTES: usize = 8;
/// The version is in the two lowest bits.
const VERSION_MASK: u32 = 0b11;
const VERSION: u32 = 1;
const IS_REPLY: u32 = 1 << 2;
const NEEDS_REPLY: u32 = 1 << 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) request: u32,
    flags: u32,
    length: u32,
}

impl Header {
    /// One of this side's own messages, without anything behind it.
    pub(crate) fn bare(request: u32) -> Self {
        Self { request, flags: VERSION, length: 0 }
    }

    /// Waits for the next message, which stays where it is. Nothing when there is none any more, or when its header comes in
    /// pieces: a look does not wait for the rest.
    pub(crate) fn peek(connection: impl AsFd) -> Option<Self> {
        let mut raw = [0; HEADER_BYTES];
        let (_, length) = retry_on_intr(|| recv(connection.as_fd(), &mut raw, RecvFlags::PEEK)).ok()?;
        (length == HEADER_BYTES).then(|| Self::parse(&raw))
    }

    pub(crate) fn needs_reply(&self) -> bool {
        self.flags & NEEDS_REPLY != 0
    }

    /// Takes the message that was peeked at: the number that follows its header, or nothing if nothing follows. Files that
    /// came with it are closed.
    ///
    /// # Errors
    /// [`OutOfStep`] when it is not of this form, or does not come.
    pub(crate) fn take(&self, connection: impl AsFd) -> Result<Option<u64>, OutOfStep> {
        let mut raw = [0; HEADER_BYTES + NUMBER_BYTES];
        let length = match self.length {
            0 => HEADER_BYTES,
            8 => HEADER_BYTES + NUMBER_BYTES,
            _ => return Err(OutOfStep),
        };
        if self.flags & (VERSION_MASK | IS_REPLY) != VERSION {
            return Err(OutOfStep);
        }
        let taken = retry_on_intr(|| recv(connection.as_fd(), &mut raw[..length], RecvFlags::WAITALL));
        if taken.map_err(|_| OutOfStep)?.1 != length {
            return Err(OutOfStep);
        }
        let number = raw.last_chunk().expect("longer than a number");
        Ok((length > HEADER_BYTES).then(|| from_machine(*number)))
    }

    /// Answers this message with a number.
    ///
    /// # Errors
    /// [`OutOfStep`] when the monitor has gone, or has not taken many answers before this one.
    pub(crate) fn reply(&self, connection: impl AsFd, number: u64) -> Result<(), OutOfStep> {
        let length = u32::try_from(NUMBER_BYTES).expect("eight");
        let header = Self { request: self.request, flags: VERSION | IS_REPLY, length };
        let mut raw = [0; HEADER_BYTES + NUMBER_BYTES];
        raw[..HEADER_BYTES].copy_from_slice(&header.raw());
        raw[HEADER_BYTES..].copy_from_slice(&to_machine(number));
        let sent =
            retry_on_intr(|| send(connection.as_fd(), &raw, SendFlags::DONTWAIT | SendFlags::NOSIGNAL));
        if sent == Ok(raw.len()) { Ok(()) } else { Err(OutOfStep) }
    }

    pub(crate) fn raw(&self) -> [u8; HEADER_BYTES] {
        let words = [self.request, self.flags, self.length].map(u32::to_ne_bytes);
        words.as_flattened().try_into().expect("three words")
    }

    #[expect(clippy::host_endian_bytes, reason = "the protocol speaks in the machine's own order")]
    fn parse(raw: &[u8; HEADER_BYTES]) -> Self {
        let word = |at: usize| u32::from_ne_bytes(raw[at..at + 4].try_into().expect("four bytes"));
        Self { request: word(0), flags: word(4), length: word(8) }
    }
}

/// What is said on the connection is no message any more; its monitor connects again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfStep;

#[expect(clippy::host_endian_bytes, reason = "the protocol speaks in the machine's own order")]
fn from_machine(raw: [u8; NUMBER_BYTES]) -> u64 {
    u64::from_ne_bytes(raw)
}

#[expect(clippy::host_endian_bytes, reason = "the protocol speaks in the machine's own order")]
fn to_machine(number: u64) -> [u8; NUMBER_BYTES] {
    number.to_ne_bytes()
}
