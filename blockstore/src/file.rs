//! Devices from paths: regular files and block devices.
//!
//! `opening` finds out what a path is and locks it, `transfer` how its bytes move, `progress` which system calls an
//! operation takes. `medium` does them one by one; the `uring` module does the same steps through a ring.

mod call;
mod holder;
mod lock;
mod medium;
pub(crate) mod opening;
pub(crate) mod progress;
mod transfer;

pub(crate) use medium::{Facts, FileMedium, ZEROS};
pub(crate) use transfer::MediumKind;
pub use transfer::is_in_memory;

use crate::device::{Device, IoChannel};
use crate::error::DeviceError;
use crate::immediate::{ImmediateChannel, Perform};
use crate::mapped::MappedMedium;
use crate::open::Access;
use crate::uring::UringChannel;
use std::fmt;
use std::sync::Arc;

/// A file or block device, with the way its channels take.
pub(crate) struct FileDevice {
    pub(crate) medium: Arc<FileMedium>,
    pub(crate) way: Way,
}

/// How the channels of a device reach the medium.
pub(crate) enum Way {
    Uring,
    /// io_uring, and a channel for which the kernel has no ring left takes system calls.
    UringOrInline,
    Inline,
    Mapped(Arc<MappedMedium>),
}

impl fmt::Debug for FileDevice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::Uring | Way::UringOrInline => "uring",
            Way::Inline => "inline",
            Way::Mapped(_) => "mapped",
        };
        write!(out, "FileDevice({}, {way})", self.medium.path().display())
    }
}

impl Device for FileDevice {
    fn size(&self) -> u64 {
        self.medium.geometry().size
    }

    fn alignment(&self) -> usize {
        self.medium.geometry().alignment
    }

    fn discard_granularity(&self) -> Option<u64> {
        self.medium.discard_granularity()
    }

    fn description(&self) -> String {
        self.medium.path().display().to_string()
    }

    fn is_read_only(&self) -> bool {
        self.medium.access() == Access::ReadOnly
    }

    fn bears_changing_memory(&self) -> bool {
        self.medium.transfer().bears_changing_memory
    }

    fn works_alone(&self) -> bool {
        self.medium.works_alone()
    }

    fn room_for_writes(&self) -> Option<u64> {
        match self.way {
            // A store must not be the first to find out that there is no place.
            Way::Mapped(_) => None,
            Way::Uring | Way::UringOrInline | Way::Inline => self.medium.room_for_writes(),
        }
    }

    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        let inline = || Box::new(ImmediateChannel::new(self.medium.clone(), depth));
        match &self.way {
            Way::Uring => Ok(Box::new(UringChannel::new(self.medium.clone(), depth)?)),
            Way::UringOrInline => match UringChannel::new(self.medium.clone(), depth) {
                Ok(channel) => Ok(Box::new(channel)),
                Err(DeviceError::UringUnavailable(_)) => Ok(inline()),
                Err(error) => Err(error),
            },
            Way::Inline => Ok(inline()),
            Way::Mapped(medium) => Ok(Box::new(ImmediateChannel::new(medium.clone(), depth))),
        }
    }
}
