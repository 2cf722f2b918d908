//! Event descriptors between the monitor and this process. They come from outside: nothing about them is believed.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// "The current position", which is what an event descriptor has instead of offsets.
const NO_OFFSET: u64 = u64::MAX;

/// Readable when the driver has put something into a ring.
#[derive(Debug)]
pub(crate) struct Kick(OwnedFd);

impl Kick {
    /// Takes only what can be read without any danger of waiting, as event descriptors can.
    pub(crate) fn adopt(file: File) -> Option<Self> {
        let kick = Self(file.into());
        kick.clear().then_some(kick)
    }

    /// Makes it unreadable until the next kick; false when it is no event descriptor.
    pub(crate) fn clear(&self) -> bool {
        let mut counter = [0; 8];
        let mut space = [IoSliceMut::new(&mut counter)];
        matches!(preadv2(&self.0, &mut space, NO_OFFSET, ReadWriteFlags::NOWAIT), Ok(8) | Err(Errno::AGAIN))
    }
}

impl AsFd for Kick {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Tells the driver that something was used, or the monitor that a ring is broken.
#[derive(Debug)]
pub(crate) struct Call(OwnedFd);

impl Call {
    pub(crate) fn adopt(file: File) -> Option<Self> {
        let flags = fcntl_getfl(&file).ok()?;
        fcntl_setfl(&file, flags | OFlags::NONBLOCK).ok()?;
        Some(Self(file.into()))
    }

    #[expect(clippy::host_endian_bytes, reason = "an event descriptor counts in the machine's own order")]
    pub(crate) fn give(&self) {
        // A full counter means that it has been told; a closed pipe, that nobody listens.
        let _unheard_is_fine = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// An event descriptor of our own: both ends are in this process.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

impl Signal {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    #[expect(clippy::host_endian_bytes, reason = "an event descriptor counts in the machine's own order")]
    pub(crate) fn give(&self) {
        let _full_is_fine = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        let mut counter = [0; 8];
        let _nothing_is_fine = rustix::io::read(&self.0, &mut counter);
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
