//! A descriptor one thread makes readable and another sleeps on.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Readable from the first [`Signal::give`] on. Clones are the same signal.
#[derive(Debug)]
pub(crate) struct Signal(OwnedFd);

impl Signal {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    #[expect(clippy::host_endian_bytes, reason = "the kernel reads a number of this machine")]
    pub(crate) fn give(&self) {
        // It fails when the counter is full, and then it is readable.
        let _full_is_fine = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    pub(crate) fn into_descriptor(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
