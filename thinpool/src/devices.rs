//! The devices below an open pool: all of them as one for I/O, and each for its length and its name.

use crate::create::together;
use crate::error::Error;
use crate::geometry::DEVICES_MAX;
use crate::join::NewDevice;
use blockstore::Device;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(crate) struct Devices {
    /// A pool's only device itself, or a span of several.
    pub(crate) together: Arc<dyn Device>,
    /// In order, without the one that joins.
    pub(crate) members: Vec<Arc<dyn Device>>,
    /// Becomes the last one with this opening.
    pub(crate) joining: Option<NewDevice>,
}

impl Devices {
    /// # Panics
    /// Without a device.
    pub(crate) fn new(members: Vec<Arc<dyn Device>>, joining: Option<NewDevice>) -> Result<Self, Error> {
        let count = members.len() + usize::from(joining.is_some());
        if count > DEVICES_MAX {
            return Err(Error::Invalid(format!("a pool has at most {DEVICES_MAX} devices, and not {count}")));
        }
        let mut all = members.iter().cloned().chain(joining.iter().map(|new| new.device.clone()));
        let first = all.next().expect("a pool has a device");
        let together = together(first, all);
        Ok(Self { together, members, joining })
    }

    /// Whether the pool may be opened for reading only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.together.is_read_only()
    }

    /// Bytes of the last one, which alone may become longer.
    pub(crate) fn last_bytes(&self) -> u64 {
        self.members.last().map_or(0, |device| device.size())
    }
}
