//! How long each device of a pool is.

use super::GeometryError;

/// Most devices of a pool.
pub const DEVICES_MAX: usize = 16;

/// Blocks of each device, in order; at least one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Devices {
    blocks: [u64; DEVICES_MAX],
    count: usize,
}

impl Devices {
    pub(super) fn single(blocks: u64) -> Self {
        let mut devices = Self { blocks: [0; DEVICES_MAX], count: 1 };
        devices.blocks[0] = blocks;
        devices
    }

    pub(super) fn and(mut self, blocks: u64) -> Result<Self, GeometryError> {
        let place = self.blocks.get_mut(self.count).ok_or(GeometryError::TooManyDevices)?;
        *place = blocks;
        self.count += 1;
        Ok(self)
    }

    /// The same with another length of the last one.
    pub(super) fn with_last(mut self, blocks: u64) -> Self {
        self.blocks[self.count - 1] = blocks;
        self
    }

    pub(super) fn list(&self) -> &[u64] {
        &self.blocks[..self.count]
    }

    pub(super) fn last(&self) -> u64 {
        self.blocks[self.count - 1]
    }
}
