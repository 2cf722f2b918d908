//! Event descriptors between the monitor and this process. They come from outside: nothing about them is believed.

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// "The current position", which is what an event descriptor has instead of offsets.
const NO_OFFSET: u64 = u64::MAX;

/// What the kernel calls them.
const EVENT_DESCRIPTOR: &str = "anon_inode:[eventfd]";

/// Readable when the driver has put something into a ring.
#[derive(Debug)]
pub(crate) struct Kick(OwnedFd);

impl Kick {
    /// Takes event descriptors only: they can be read without waiting, and are unreadable once they were. A file or a
    /// device that is readable for ever would keep its worker awake for ever.
    pub(crate) fn adopt(file: File) -> Option<Self> {
        let kind = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        let kick = Self(file.into());
        (kind.as_os_str() == EVENT_DESCRIPTOR && kick.clear()).then_some(kick)
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

#[cfg(test)]
mod tests {
    use super::{EventfdFlags, Kick, OwnedFd, eventfd};
    use std::fs::File;

    #[test]
    fn only_event_descriptors_are_kicks() {
        assert!(Kick::adopt(File::open("/dev/zero").expect("there")).is_none());
        assert!(Kick::adopt(File::open("/proc/self/exe").expect("there")).is_none());
        let (pipe, _writer) = std::io::pipe().expect("a pipe");
        assert!(Kick::adopt(OwnedFd::from(pipe).into()).is_none());
        for flags in [EventfdFlags::empty(), EventfdFlags::NONBLOCK] {
            let event = eventfd(5, flags | EventfdFlags::CLOEXEC).expect("an event");
            assert!(Kick::adopt(event.into()).is_some(), "{flags:?}");
        }
    }
}
