//! One descriptor for several channels: readable when one of theirs is, or when there are completions that no descriptor
//! tells of.

use crate::device::IoChannel;
use crate::error::DeviceError;
use rustix::event::epoll;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[derive(Debug)]
pub(super) struct Alarm {
    all: OwnedFd,
    own: OwnedFd,
    is_ringing: bool,
}

impl Alarm {
    /// `None` where no channel has a descriptor: all complete at once.
    pub(super) fn new(channels: &[Box<dyn IoChannel>]) -> Result<Option<Self>, DeviceError> {
        if channels.iter().all(|channel| channel.descriptor().is_none()) {
            return Ok(None);
        }
        Self::over(channels).map(Some).map_err(|errno| DeviceError::System {
            doing: "making the event descriptor of",
            path: "a span of devices".into(),
            source: errno.into(),
        })
    }

    fn over(channels: &[Box<dyn IoChannel>]) -> Result<Self, Errno> {
        let all = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let own = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = || epoll::EventData::new_u64(0);
        epoll::add(&all, &own, data(), epoll::EventFlags::IN)?;
        for descriptor in channels.iter().filter_map(|channel| channel.descriptor()) {
            epoll::add(&all, descriptor, data(), epoll::EventFlags::IN)?;
        }
        Ok(Self { all, own, is_ringing: false })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.all.as_fd()
    }

    /// Makes the descriptor readable, or lets it be what the channels' are.
    #[expect(clippy::host_endian_bytes, reason = "an eventfd counts in the machine's own order")]
    pub(super) fn set(&mut self, is_ringing: bool) {
        if self.is_ringing == is_ringing {
            return;
        }
        self.is_ringing = is_ringing;
        if is_ringing {
            // The counter is 0 or 1, so there is room.
            let _there_is_room = rustix::io::write(&self.own, &1_u64.to_ne_bytes());
        } else {
            let mut counter = [0; 8];
            let _it_was_rung = rustix::io::read(&self.own, &mut counter);
        }
    }
}
