//! The socket on which this side speaks first: a monitor hands it over (SET_BACKEND_REQ_FD) and hears there that the
//! configuration has changed, so that its guest learns of a new size. The library takes such sockets and cannot say this on
//! them, so the message that brings one is looked at before the library gets it.

use crate::message::{HEADER_BYTES, Header};
use rustix::io::{IoSliceMut, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use vhost::vhost_user::message::BackendReq;

#[derive(Debug)]
pub(crate) struct BackChannel(OwnedFd);

impl BackChannel {
    /// The socket that the next message hands over. The message stays where it is.
    pub(crate) fn overhear(connection: &UnixStream) -> Option<Self> {
        let mut header = [0; HEADER_BYTES];
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
        let message = Header::bare(u32::from(BackendReq::CONFIG_CHANGE_MSG)).raw();
        let _deaf_is_the_monitors_choice = send(&self.0, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}
