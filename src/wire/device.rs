//! One device of a pool, as `pool status` shows it.

use serde::{Deserialize, Serialize};
use thinpool::DeviceStatus;
use utoipa::ToSchema;

/// Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeviceView {
    /// Its place in the pool.
    pub(crate) index: usize,
    pub(crate) path: String,
    /// Empty for the first one, which the pool's id names.
    pub(crate) id: String,
    pub(crate) size: u64,
    /// For data, before what metadata may still need.
    pub(crate) free: u64,
    pub(crate) mapped: u64,
    pub(crate) metadata: u64,
}

impl DeviceView {
    pub(crate) fn all(devices: &[DeviceStatus]) -> Vec<Self> {
        devices.iter().enumerate().map(|(index, device)| Self::new(index, device)).collect()
    }

    fn new(index: usize, device: &DeviceStatus) -> Self {
        let DeviceStatus { path, id, size, free, mapped, metadata } = device.clone();
        Self { index, path, id, size, free, mapped, metadata }
    }
}
