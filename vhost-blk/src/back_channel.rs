//! The socket on which this side speaks first: a monitor hands it over (SET_BACKEND_REQ_FD) and hears there that the
//! configuration has changed, so that its guest learns of a new size. The library takes such sockets and cannot say this on
//! them, so the message that brings one is looked at before the library gets it.

use rustix::io::{IoSliceMut, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use vhost::vhost_user::message::{BackendReq, FrontendReq};

/// Bytes of a header: request, flags, length of what follows; each a 32-bit number in the machine's order.
const HEADER_BYTES: usize = 12;
/// Version 1 of the protocol.
const FLAGS: u32 = 1;

#[derive(Debug)]
pub(crate) struct BackChannel(OwnedFd);

impl BackChannel {
    /// Waits for the next message and looks whether it hands over such a socket. The message stays where it is.
    pub(crate) fn overhear(connection: &UnixStream) -> Option<Self> {
        let mut header = [0; HEADER_BYTES];
        let flags = RecvFlags::PEEK | RecvFlags::WAITALL;
        let (_, length) = retry_on_intr(|| recv(connection, &mut header, flags)).ok()?;
        if length < HEADER_BYTES || request_of(&header) != u32::from(FrontendReq::SET_BACKEND_REQ_FD) {
            return None;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC;
        retry_on_intr(|| recvmsg(connection, &mut [IoSliceMut::new(&mut header)], &mut ancillary, flags))
            .ok()?;
        ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next().map(Self),
            _ => None,
        })
    }

    /// The configuration is to be read again. Whoever does not listen does not hold up this side.
    pub(crate) fn tell_of_change(&self) {
        let words = [u32::from(BackendReq::CONFIG_CHANGE_MSG), FLAGS, 0].map(u32::to_ne_bytes);
        let _deaf_is_the_monitors_choice =
            send(&self.0, words.as_flattened(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

#[expect(clippy::host_endian_bytes, reason = "the protocol speaks in the machine's own order")]
fn request_of(header: &[u8; HEADER_BYTES]) -> u32 {
    let (word, _) = header.split_first_chunk().expect("a header has three words");
    u32::from_ne_bytes(*word)
}
