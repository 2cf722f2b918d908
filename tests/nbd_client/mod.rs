//! An NBD client for tests, written from the protocol's document and not from the server: fixed newstyle, simple replies,
//! one request after the other or many in flight. Whatever the connection does comes back as an error, so that a test
//! can go on where its server was killed.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const OPT_GO: u32 = 7;
const ACK: u32 = 1;
const INFO_EXPORT: [u8; 2] = [0, 0];
const DISC: u16 = 2;
/// A server that says nothing for so long is broken.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const FUA: u16 = 1;
pub(crate) const NO_HOLE: u16 = 2;

/// What is asked of an export; offsets and lengths in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Read { offset: u64, length: u32 },
    Write { offset: u64, flags: u16, data: Vec<u8> },
    Flush,
    Trim { offset: u64, flags: u16, length: u32 },
    WriteZeroes { offset: u64, flags: u16, length: u32 },
}

/// The answer to one command: the data of a read, or the error number of the protocol.
pub(crate) type Answer = Result<Vec<u8>, u32>;

/// A connection in its transmission phase.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    next_cookie: u64,
    /// Cookies and payload lengths of what is in flight.
    in_flight: Vec<(u64, usize)>,
    pub(crate) size: u64,
}

impl Client {
    /// Connects and chooses an export.
    pub(crate) fn open(socket: &Path, export: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self { stream, next_cookie: 0, in_flight: Vec::new(), size: 0 };
        if client.bytes(18)? != b"NBDMAGICIHAVEOPT\0\x03" {
            return Err(nonsense("the greeting"));
        }
        client.stream.write_all(&[0, 0, 0, 3])?;
        client.go(export)?;
        Ok(client)
    }

    fn go(&mut self, export: &str) -> io::Result<()> {
        let name_length = u32::try_from(export.len()).expect("short");
        let data = [&name_length.to_be_bytes(), export.as_bytes(), &[0, 0]].concat();
        let length = u32::try_from(data.len()).expect("short");
        let option = [&b"IHAVEOPT"[..], &OPT_GO.to_be_bytes(), &length.to_be_bytes(), &data].concat();
        self.stream.write_all(&option)?;
        loop {
            let header = self.bytes(20)?;
            if header[..8] != 0x0003_e889_0455_65a9_u64.to_be_bytes() {
                return Err(nonsense("an option's reply"));
            }
            let data = self.bytes(index(u32_of(&header[16..20])))?;
            match u32_of(&header[12..16]) {
                ACK => return Ok(()),
                3 if data[..2] == INFO_EXPORT => self.size = u64_of(&data[2..10]),
                3 => {}
                refusal => return Err(io::Error::other(format!("{export}: refused with {refusal:#x}"))),
            }
        }
    }

    /// Sends a command without waiting; gives back its cookie.
    pub(crate) fn send(&mut self, command: &Command) -> io::Result<u64> {
        let (kind, flags, offset, length, payload) = match command {
            Command::Read { offset, length } => (0, 0, *offset, *length, &[][..]),
            Command::Write { offset, flags, data } => {
                (1, *flags, *offset, u32::try_from(data.len()).expect("short"), &data[..])
            }
            Command::Flush => (3, 0, 0, 0, &[][..]),
            Command::Trim { offset, flags, length } => (4, *flags, *offset, *length, &[][..]),
            Command::WriteZeroes { offset, flags, length } => (6, *flags, *offset, *length, &[][..]),
        };
        self.next_cookie += 1;
        let cookie = self.next_cookie;
        let header = header(kind, flags, cookie, offset, length);
        let expected = if kind == 0 { index(length) } else { 0 };
        self.stream.write_all(&[&header[..], payload].concat())?;
        self.in_flight.push((cookie, expected));
        Ok(cookie)
    }

    /// Commands without an answer so far.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Waits for the next answer, of whichever command.
    pub(crate) fn receive(&mut self) -> io::Result<(u64, Answer)> {
        let reply = self.bytes(16)?;
        if reply[..4] != 0x6744_6698_u32.to_be_bytes() {
            return Err(nonsense("a reply"));
        }
        let (errno, cookie) = (u32_of(&reply[4..8]), u64_of(&reply[8..16]));
        let position = self.in_flight.iter().position(|(asked, _)| *asked == cookie);
        let (_, length) = self.in_flight.swap_remove(position.ok_or_else(|| nonsense("a cookie"))?);
        let answer = if errno == 0 { Ok(self.bytes(length)?) } else { Err(errno) };
        Ok((cookie, answer))
    }

    /// A command and its answer; nothing else may be in flight.
    pub(crate) fn call(&mut self, command: &Command) -> io::Result<Answer> {
        assert!(self.in_flight.is_empty(), "the answer could be another command's");
        self.send(command)?;
        self.receive().map(|(_, answer)| answer)
    }

    /// Says goodbye, and waits until the server has let go of the export.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.stream.write_all(&header(DISC, 0, 0, 0, 0))?;
        self.stream.read_to_end(&mut Vec::new()).map(drop)
    }

    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut raw = vec![0; count];
        self.stream.read_exact(&mut raw)?;
        Ok(raw)
    }
}

fn header(kind: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut raw = 0x2560_9513_u32.to_be_bytes().to_vec();
    raw.extend(flags.to_be_bytes());
    raw.extend(kind.to_be_bytes());
    raw.extend(cookie.to_be_bytes());
    raw.extend(offset.to_be_bytes());
    raw.extend(length.to_be_bytes());
    raw
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} makes no sense"))
}

/// Blocks of the pool, in bytes.
const BLOCK_BYTES: u32 = 4096;

/// Fills a block of an export, and flushes nothing.
pub(crate) fn write_block(socket: &Path, export: &str, block: u64, byte: u8) {
    let mut client = Client::open(socket, export).expect("served");
    let data = vec![byte; index(BLOCK_BYTES)];
    let write = Command::Write { offset: block * u64::from(BLOCK_BYTES), flags: 0, data };
    client.call(&write).expect("served").expect("written");
    client.close().expect("served");
}

/// The byte a block of an export is full of.
pub(crate) fn read_block(socket: &Path, export: &str, block: u64) -> u8 {
    let mut client = Client::open(socket, export).expect("served");
    let read = Command::Read { offset: block * u64::from(BLOCK_BYTES), length: BLOCK_BYTES };
    let bytes = client.call(&read).expect("served").expect("readable");
    client.close().expect("served");
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a block is whole");
    bytes[0]
}

fn index(length: u32) -> usize {
    usize::try_from(length).expect("lengths fit in memory")
}

fn u32_of(raw: &[u8]) -> u32 {
    u32::from_be_bytes(raw.try_into().expect("four bytes"))
}

fn u64_of(raw: &[u8]) -> u64 {
    u64::from_be_bytes(raw.try_into().expect("eight bytes"))
}
