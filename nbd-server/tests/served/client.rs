//! A plain NBD client over a socket, written from the protocol's document and not from the server.

use super::stream::Stream;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

pub(crate) const OPT_EXPORT_NAME: u32 = 1;
pub(crate) const OPT_ABORT: u32 = 2;
pub(crate) const OPT_LIST: u32 = 3;
pub(crate) const OPT_STARTTLS: u32 = 5;
pub(crate) const OPT_INFO: u32 = 6;
pub(crate) const OPT_GO: u32 = 7;
pub(crate) const OPT_STRUCTURED_REPLY: u32 = 8;
pub(crate) const OPT_SET_META_CONTEXT: u32 = 10;
pub(crate) const ACK: u32 = 1;

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISC: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const WRITE_ZEROES: u16 = 6;
pub(crate) const BLOCK_STATUS: u16 = 7;
pub(crate) const FUA: u16 = 1;
pub(crate) const NO_HOLE: u16 = 2;
pub(crate) const DF: u16 = 4;
pub(crate) const REQ_ONE: u16 = 8;

/// A connection, handshake or transmission.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: Stream,
    pub(crate) cookie: u64,
}

/// What GO says of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) size: u64,
    pub(crate) flags: u16,
}

/// One whole reply.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) cookie: u64,
    pub(crate) errno: u32,
    pub(crate) is_structured: bool,
    /// Offset and content of data chunks.
    pub(crate) data: Vec<(u64, Vec<u8>)>,
    /// Offset and length of hole chunks.
    pub(crate) holes: Vec<(u64, u32)>,
    /// Length and flags.
    pub(crate) descriptors: Vec<(u32, u32)>,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Self {
        Self::greet(UnixStream::connect(path).expect("a server that listens"))
    }

    /// To this client a TCP socket is a stream like any other.
    pub(crate) fn connect_tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a server that listens");
        Self::greet(OwnedFd::from(stream).into())
    }

    fn greet(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(super::PATIENCE)).expect("a timeout");
        let mut client = Self { stream: Stream::Open(stream), cookie: 0 };
        assert_eq!(client.bytes(18), b"NBDMAGICIHAVEOPT\0\x03");
        client.send(&[0, 0, 0, 3]);
        client
    }

    pub(crate) fn send(&mut self, raw: &[u8]) {
        self.stream.write_all(raw).expect("a server that reads");
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut raw = vec![0; count];
        self.stream.read_exact(&mut raw).expect("a server that answers");
        raw
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes(2).try_into().expect("two bytes"))
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes(4).try_into().expect("four bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.bytes(8).try_into().expect("eight bytes"))
    }

    /// Reads until the server closes; gives back how much came.
    pub(crate) fn read_to_end(&mut self) -> usize {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest.len(),
            Err(error) => panic!("the server does not close: {error}"),
        }
    }

    pub(crate) fn send_option(&mut self, option: u32, data: &[u8]) {
        self.send(&raw_option(option, data));
    }

    /// Sends an option and reads its replies to the last.
    pub(crate) fn option(&mut self, option: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send_option(option, data);
        let mut replies = Vec::new();
        loop {
            assert_eq!(self.u64(), 0x0003_e889_0455_65a9);
            assert_eq!(self.u32(), option);
            let kind = self.u32();
            let length = index(self.u32());
            replies.push((kind, self.bytes(length)));
            if kind == ACK || kind >= 1 << 31 {
                return replies;
            }
        }
    }

    pub(crate) fn negotiate_structured(&mut self, export: &str) {
        assert_eq!(self.option(OPT_STRUCTURED_REPLY, b"")[0].0, ACK);
        let contexts = [&sized(export)[..], &[0, 0, 0, 1], &sized("base:allocation")].concat();
        assert_eq!(self.option(OPT_SET_META_CONTEXT, &contexts).len(), 2);
    }

    /// Chooses an export, or gives back the type of the refusal.
    pub(crate) fn go(&mut self, export: &str) -> Result<Export, u32> {
        let replies = self.option(OPT_GO, &go(export));
        let (verdict, _) = replies.last().expect("an answer");
        if *verdict != ACK {
            return Err(*verdict);
        }
        let information = &replies.iter().find(|(_, data)| data[..2] == [0, 0]).expect("the export").1;
        Ok(Export {
            size: u64::from_be_bytes(information[2..10].try_into().expect("eight bytes")),
            flags: u16::from_be_bytes(information[10..12].try_into().expect("two bytes")),
        })
    }

    /// Sends a request and gives back its cookie.
    pub(crate) fn ask(&mut self, kind: u16, flags: u16, offset: u64, length: u32, payload: &[u8]) -> u64 {
        self.cookie += 1;
        let raw = [&request(kind, flags, self.cookie, offset, length)[..], payload].concat();
        self.send(&raw);
        self.cookie
    }

    /// The next reply; `length` is what a simple reply to a read carries.
    pub(crate) fn reply(&mut self, length: usize) -> Reply {
        let mut reply = Reply::default();
        loop {
            match self.u32() {
                0x6744_6698 => {
                    (reply.errno, reply.cookie) = (self.u32(), self.u64());
                    if reply.errno == 0 && length > 0 {
                        reply.data.push((0, self.bytes(length)));
                    }
                    return reply;
                }
                0x668e_33ef => {
                    if self.chunk(&mut reply) {
                        return reply;
                    }
                }
                magic => panic!("{magic:#x} is no reply"),
            }
        }
    }

    /// Reads a chunk behind its magic; true after the last.
    fn chunk(&mut self, reply: &mut Reply) -> bool {
        let (flags, kind) = (self.u16(), self.u16());
        let cookie = self.u64();
        assert!(reply.cookie == 0 || reply.cookie == cookie, "this server does not mix chunks");
        (reply.cookie, reply.is_structured) = (cookie, true);
        let length = index(self.u32());
        match kind {
            1 => {
                let offset = self.u64();
                reply.data.push((offset, self.bytes(length - 8)));
            }
            2 => {
                assert_eq!(length, 12);
                reply.holes.push((self.u64(), self.u32()));
            }
            5 => {
                assert_eq!(self.u32(), 1, "the selected context");
                for _ in 0..(length - 4) / 8 {
                    reply.descriptors.push((self.u32(), self.u32()));
                }
            }
            0x8001 => {
                reply.errno = self.u32();
                let text = usize::from(self.u16());
                assert_eq!(length, 6 + text);
                String::from_utf8(self.bytes(text)).expect("a sentence");
            }
            kind => panic!("a chunk of type {kind}"),
        }
        flags & 1 == 1
    }

    fn answer(
        &mut self,
        kind: u16,
        flags: u16,
        offset: u64,
        length: u32,
        payload: &[u8],
    ) -> Result<Reply, u32> {
        let cookie = self.ask(kind, flags, offset, length, payload);
        let reply = self.reply(if kind == READ { index(length) } else { 0 });
        assert_eq!(reply.cookie, cookie);
        if reply.errno == 0 { Ok(reply) } else { Err(reply.errno) }
    }

    pub(crate) fn read_reply(&mut self, flags: u16, offset: u64, length: u32) -> Result<Reply, u32> {
        self.answer(READ, flags, offset, length, b"")
    }

    pub(crate) fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, u32> {
        let reply = self.read_reply(0, offset, length)?;
        let mut data = vec![0xee; index(length)];
        let place = |at: u64| usize::try_from(at - offset).expect("inside the request");
        for (at, content) in &reply.data {
            let start = if reply.is_structured { place(*at) } else { 0 };
            data[start..start + content.len()].copy_from_slice(content);
        }
        for (at, length) in &reply.holes {
            data[place(*at)..place(*at) + index(*length)].fill(0);
        }
        Ok(data)
    }

    pub(crate) fn write(&mut self, flags: u16, offset: u64, data: &[u8]) -> Result<(), u32> {
        let length = u32::try_from(data.len()).expect("short");
        self.answer(WRITE, flags, offset, length, data).map(drop)
    }

    pub(crate) fn flush(&mut self) -> Result<(), u32> {
        self.answer(FLUSH, 0, 0, 0, b"").map(drop)
    }

    pub(crate) fn trim(&mut self, offset: u64, length: u32) -> Result<(), u32> {
        self.answer(TRIM, 0, offset, length, b"").map(drop)
    }

    pub(crate) fn write_zeroes(&mut self, flags: u16, offset: u64, length: u32) -> Result<(), u32> {
        self.answer(WRITE_ZEROES, flags, offset, length, b"").map(drop)
    }

    pub(crate) fn block_status(
        &mut self,
        flags: u16,
        offset: u64,
        length: u32,
    ) -> Result<Vec<(u32, u32)>, u32> {
        self.answer(BLOCK_STATUS, flags, offset, length, b"").map(|reply| reply.descriptors)
    }

    /// Says goodbye and sees the server close.
    pub(crate) fn disconnect(mut self) {
        self.ask(DISC, 0, 0, 0, b"");
        assert_eq!(self.read_to_end(), 0, "there is no reply to a goodbye");
    }

    /// Tells the server that nothing more comes, and reads what it still says.
    pub(crate) fn hang_up(mut self) -> usize {
        self.stream.socket().shutdown(Shutdown::Write).expect("a socket that is open");
        self.read_to_end()
    }
}

pub(crate) fn index(length: u32) -> usize {
    usize::try_from(length).expect("lengths fit in memory")
}

pub(crate) fn sized(text: &str) -> Vec<u8> {
    let mut data = u32::try_from(text.len()).expect("short").to_be_bytes().to_vec();
    data.extend(text.as_bytes());
    data
}

/// The data of INFO and GO without information requests.
pub(crate) fn go(export: &str) -> Vec<u8> {
    [&sized(export)[..], &[0, 0]].concat()
}

pub(crate) fn raw_option(option: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("short");
    [&b"IHAVEOPT"[..], &option.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

pub(crate) fn request(kind: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut raw = 0x2560_9513_u32.to_be_bytes().to_vec();
    raw.extend(flags.to_be_bytes());
    raw.extend(kind.to_be_bytes());
    raw.extend(cookie.to_be_bytes());
    raw.extend(offset.to_be_bytes());
    raw.extend(length.to_be_bytes());
    raw
}
