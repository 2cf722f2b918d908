//! A bell: one thread rings it, another sleeps until it rings. An eventfd that is written only when somebody listens.

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Bell {
    descriptor: Option<OwnedFd>,
    rung: AtomicBool,
    listening: AtomicBool,
    /// The descriptor has been written since it was last read.
    written: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            descriptor: Some(eventfd(0, flags)?),
            rung: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            written: AtomicBool::new(false),
        })
    }

    /// A bell nobody can sleep on: for engines that are polled, as in the simulation.
    pub(crate) fn silent() -> Self {
        Self {
            descriptor: None,
            rung: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            written: AtomicBool::new(false),
        }
    }

    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        if self.listening.swap(false, Ordering::SeqCst) {
            self.write();
        }
    }

    #[expect(clippy::host_endian_bytes, reason = "an eventfd counts in the machine's own order")]
    fn write(&self) {
        if let Some(descriptor) = &self.descriptor {
            // A full counter means that the listener has been woken already.
            let _full_is_fine = rustix::io::write(descriptor, &1_u64.to_ne_bytes());
            // Last, so that a reader who misses it reads the next time.
            self.written.store(true, Ordering::SeqCst);
        }
    }

    /// Whether it rang since the last call. Call [`Bell::listen`] before deciding to sleep.
    pub(crate) fn take(&self) -> bool {
        self.rung.swap(false, Ordering::SeqCst)
    }

    /// From now on a ring makes the descriptor readable. Returns false when it rang already: do not sleep then.
    pub(crate) fn listen(&self) -> bool {
        self.listening.store(true, Ordering::SeqCst);
        !self.rung.load(Ordering::SeqCst)
    }

    /// Forgets earlier rings of the descriptor.
    pub(crate) fn clear(&self) {
        self.listening.store(false, Ordering::SeqCst);
        if let Some(descriptor) = &self.descriptor
            && self.written.swap(false, Ordering::SeqCst)
        {
            let mut counter = [0; 8];
            let _nothing_is_fine = rustix::io::read(descriptor, &mut counter);
        }
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }
}

/// Sleeps until one of the descriptors is readable or the time is over.
pub(crate) fn sleep_on(descriptors: &[BorrowedFd<'_>], timeout: Duration) {
    let mut polled: Vec<PollFd<'_>> = descriptors.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // An interrupted sleep is a short sleep.
    let _interrupted_is_fine = poll(&mut polled, Some(&timeout));
}
