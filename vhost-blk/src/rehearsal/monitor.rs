//! Any bytes as a monitor's messages, with the files that belong to them, so that rings start.

use super::{MEMORY_BYTES, Stage};
use crate::conversation::Conversation;
use crate::counters::Counters;
use crate::message::HEADER_BYTES;
use crate::session::Session;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{IoSlice, pwrite};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use vhost::vhost_user::message::FrontendReq;

const QUEUES: u16 = 2;
/// That come with one message.
const FILES_MAX: usize = 8;
/// How often the rings get a processor before the monitor hangs up.
const PAUSES: u32 = 100;
/// A byte of a message's flags in which the protocol has nothing. It is not sent.
const MARK_AT: usize = 5;
/// What it says of the files that come with the message, instead of those that belong to it.
const NO_FILES: u8 = 1;
const OTHER_FILES: u8 = 2;
const TWICE_AS_MANY: u8 = 3;
/// In the number that comes with a message of event descriptors: there is none.
const NO_EVENT: u8 = 1;

/// Plays a monitor that hangs up afterwards. The script has the number of bytes of all messages (16 bits, the least significant byte
/// first), the messages, and what its guest's memory of 64 KiB begins with, and so a region of requests in flight. Returns when the
/// session has ended, with how many requests were answered.
///
/// # Errors
/// When the system gives no sockets or files.
pub fn converse(stage: &Stage, script: &[u8]) -> io::Result<u64> {
    let (monitor, door) = UnixStream::pair()?;
    let counters = Arc::new(Counters::new(QUEUES));
    let session = Session::new(
        stage.attachment.for_thread(),
        stage.server.workers().clone(),
        QUEUES,
        Arc::default(),
        counters.clone(),
        Arc::default(),
    );
    let mut conversation = Conversation::new(door, session)?;
    let (messages, memory) = parts(script);
    let files = Files::new(memory)?;
    // More than a socket holds is no script; what the door does not read any more is lost.
    monitor.set_nonblocking(true)?;
    let _some_may_be_lost = Messages(messages).try_for_each(|message| files.send(&monitor, message));
    monitor.shutdown(Shutdown::Write)?;
    while conversation.hear(&parking_lot::Mutex::default()) {}
    (0..PAUSES).for_each(|_| std::thread::yield_now());
    drop(conversation);
    let counts = counters.sum();
    let kinds =
        [counts.reads, counts.writes, counts.flushes, counts.discards, counts.write_zeroes, counts.others];
    Ok(kinds.iter().map(|count| count.requests).sum())
}

fn parts(script: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = script.split_first_chunk() else { return (script, &[]) };
    rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()))
}

/// Cuts bytes where their headers say; what has no header is one of them, too.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = self.0.get(8..HEADER_BYTES).map_or(usize::MAX, |raw| {
            let length = u32::from_le_bytes(raw.try_into().expect("four bytes"));
            HEADER_BYTES.saturating_add(usize::try_from(length).expect("a usize"))
        });
        let (message, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        (!message.is_empty()).then_some(message)
    }
}

/// What comes with messages.
struct Files {
    memory: OwnedFd,
    /// It cannot shrink, as a region of requests in flight must not.
    sealed: OwnedFd,
    /// Kicked from the beginning. Whoever calls kicks.
    event: OwnedFd,
    socket: UnixStream,
}

impl Files {
    fn new(memory: &[u8]) -> io::Result<Self> {
        let sealed = memory_with(memory)?;
        fcntl_add_seals(&sealed, SealFlags::SHRINK)?;
        Ok(Self {
            memory: memory_with(memory)?,
            sealed,
            event: eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            socket: UnixStream::pair()?.0,
        })
    }

    fn send(&self, monitor: &UnixStream, message: &[u8]) -> rustix::io::Result<()> {
        let mut message = message.to_vec();
        let mark = message.get_mut(MARK_AT).map_or(0, std::mem::take);
        let files = match (self.belonging(&message), mark) {
            (_, NO_FILES) => Vec::new(),
            (files, OTHER_FILES) => files.iter().map(|_| self.socket.as_fd()).collect(),
            (files, TWICE_AS_MANY) => [files.as_slice(), &files].concat(),
            (files, _) => files,
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2 * FILES_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)), "there is space for them");
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(monitor, &[IoSlice::new(&message)], &mut ancillary, flags).map(drop)
    }

    fn belonging(&self, message: &[u8]) -> Vec<BorrowedFd<'_>> {
        let Some((header, body)) = message.split_first_chunk::<HEADER_BYTES>() else { return Vec::new() };
        let request = u32::from_le_bytes(*header.first_chunk().expect("it is longer"));
        match FrontendReq::try_from(request) {
            Ok(FrontendReq::SET_MEM_TABLE) => {
                let regions = body.first().map_or(0, |count| usize::from(*count).min(FILES_MAX));
                vec![self.memory.as_fd(); regions]
            }
            Ok(FrontendReq::ADD_MEM_REG) => vec![self.memory.as_fd()],
            Ok(FrontendReq::SET_INFLIGHT_FD) => vec![self.sealed.as_fd()],
            Ok(FrontendReq::SET_BACKEND_REQ_FD) => vec![self.socket.as_fd()],
            Ok(FrontendReq::SET_VRING_KICK | FrontendReq::SET_VRING_CALL | FrontendReq::SET_VRING_ERR)
                if body.get(1).is_none_or(|flags| flags & NO_EVENT == 0) =>
            {
                vec![self.event.as_fd()]
            }
            _ => Vec::new(),
        }
    }
}

fn memory_with(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memory, u64::try_from(MEMORY_BYTES).expect("a u64"))?;
    pwrite(&memory, &bytes[..bytes.len().min(MEMORY_BYTES)], 0)?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::{MARK_AT, NO_FILES, OTHER_FILES, Stage, TWICE_AS_MANY, converse};

    /// A monitor that hangs up at once may do so before its ring has been looked at.
    const TRIES_MAX: u32 = 1000;

    /// A ring with one read, and the same with a region of requests in flight.
    const RING: &[u8] = include_bytes!("../../../fuzz/seeds/vhost_messages/ring");
    const IN_FLIGHT: &[u8] = include_bytes!("../../../fuzz/seeds/vhost_messages/ring_in_flight");

    #[test]
    fn a_ring_starts_and_answers_only_with_the_files_that_belong_to_it() {
        let stage = Stage::open();
        let answers = |script: &[u8]| converse(&stage, script).expect("sockets and files");
        let is_answered = |script: &[u8]| (0..TRIES_MAX).any(|_| answers(script) == 1);
        assert!(is_answered(RING) && is_answered(IN_FLIGHT), "the read is never answered");
        // The message of the memory: its number, flags and length.
        let memory = RING.windows(12).position(|raw| raw == [5, 0, 0, 0, 9, 0, 0, 0, 40, 0, 0, 0]);
        for mark in [NO_FILES, OTHER_FILES, TWICE_AS_MANY] {
            let mut marked = RING.to_vec();
            marked[memory.expect("there is one") + MARK_AT] = mark;
            assert!((0..10).all(|_| answers(&marked) == 0), "without its memory nothing is answered");
        }
        for length in 0..RING.len() {
            answers(&RING[..length]);
        }
    }
}
