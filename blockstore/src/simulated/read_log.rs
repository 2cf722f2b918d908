//! What was read of the image a device began with: two images that agree on it look the same to their reader.

use super::disk::SimulatedDisk;
use super::effect::Effect;
use super::page::{PAGE_BYTES_U64, mix};
use std::collections::HashSet;

/// Which pages of 4 KiB a device's users have read before anything wrote to them.
#[derive(Debug, Clone, Default)]
pub struct ReadLog {
    /// Number of the page, and its hash.
    read: Vec<(u64, u128)>,
    /// Pages that were read or written.
    touched: HashSet<u64>,
}

impl ReadLog {
    /// Numbers of the pages and what [`SimulatedDisk::page_hash`] said of them, in the order in which they were read first.
    #[must_use]
    pub fn pages(&self) -> &[(u64, u128)] {
        &self.read
    }

    /// The same for the same pages with the same contents, in every run, whatever the order.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.read.iter().fold(0, |sum: u128, (page, hash)| sum.wrapping_add(mix(*hash, *page)))
    }

    pub(super) fn read(&mut self, disk: &SimulatedDisk, offset: u64, length: u64) {
        for page in offset / PAGE_BYTES_U64..(offset + length).div_ceil(PAGE_BYTES_U64) {
            if self.touched.insert(page) {
                self.read.push((page, disk.page_hash(page)));
            }
        }
    }

    pub(super) fn written(&mut self, effect: &Effect) {
        if let Effect::Contents(patches) = effect {
            self.touched.extend(patches.iter().map(|patch| patch.page()));
        }
    }
}
