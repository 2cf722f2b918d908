//! Event descriptors between the monitor and this process. They come from outside: nothing about them is believed.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
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
    /// Takes event descriptors only, whose every kick is an event to wake by, however many there were before. A semaphore is
    /// none of them: it gives one at a time.
    pub(crate) fn adopt(file: File) -> Option<Self> {
        let kick = Self(event(file)?);
        let _old_kicks_are_looked_for_anyway = kick.read()?;
        give(&kick.0, 2);
        let is_counter = kick.read()? >= 2;
        // What was read may have been meant for a ring that runs on the same descriptor: its worker is to look.
        give(&kick.0, 1);
        is_counter.then_some(kick)
    }

    /// The kicks since the last time; nothing where there should be a number.
    #[expect(clippy::host_endian_bytes, reason = "an event descriptor counts in the machine's own order")]
    fn read(&self) -> Option<u64> {
        let mut counter = [0; 8];
        let mut space = [IoSliceMut::new(&mut counter)];
        match preadv2(&self.0, &mut space, NO_OFFSET, ReadWriteFlags::NOWAIT) {
            Ok(8) => Some(u64::from_ne_bytes(counter)),
            Err(Errno::AGAIN) => Some(0),
            _ => None,
        }
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
    /// Takes event descriptors only, as [`Kick::adopt`].
    pub(crate) fn adopt(file: File) -> Option<Self> {
        let event = event(file)?;
        let flags = fcntl_getfl(&event).ok()?;
        fcntl_setfl(&event, flags | OFlags::NONBLOCK).ok()?;
        Some(Self(event))
    }

    pub(crate) fn give(&self) {
        give(&self.0, 1);
    }
}

fn event(file: File) -> Option<OwnedFd> {
    let kind = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    (kind.as_os_str() == EVENT_DESCRIPTOR).then(|| file.into())
}

/// Adds to an event descriptor that others share and may have made blocking again: a full one is left as it is.
#[expect(clippy::host_endian_bytes, reason = "an event descriptor counts in the machine's own order")]
fn give(event: &OwnedFd, count: u64) {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut polled = [PollFd::new(event, PollFlags::OUT)];
    if poll(&mut polled, Some(&at_once)) == Ok(1) {
        // A counter that has become full meanwhile means that it has been told.
        let _full_is_fine = rustix::io::write(event, &count.to_ne_bytes());
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
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Call, EventfdFlags, Kick, OwnedFd, eventfd};
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
        let semaphore = eventfd(5, EventfdFlags::SEMAPHORE).expect("an event");
        assert!(Kick::adopt(semaphore.into()).is_none(), "it would be readable for ever");
    }

    #[test]
    fn looking_at_a_kick_takes_it_from_nobody() {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an event");
        rustix::io::write(&event, &[1; 8]).expect("a kick");
        assert!(Kick::adopt(event.try_clone().expect("cloned").into()).is_some());
        rustix::io::read(&event, &mut [0; 8]).expect("there is something to wake by");
    }

    #[test]
    fn a_full_event_does_not_hold_up_whoever_calls() {
        assert!(Call::adopt(File::open("/proc/self/exe").expect("there")).is_none());
        let event = eventfd(0, EventfdFlags::CLOEXEC).expect("an event");
        let call = Call::adopt(event.try_clone().expect("cloned").into()).expect("an event");
        rustix::fs::fcntl_setfl(&event, rustix::fs::OFlags::empty()).expect("blocking again");
        rustix::io::write(&event, &(u64::MAX - 1).to_le_bytes()).expect("full");
        call.give();
    }
}
