//! What was read of the image a device began with: two images that agree on it look the same to their reader.

use super::disk::SimulatedDisk;
use super::effect::Effect;
use super::page::{PAGE_BYTES_U64, mix};
use std::collections::{BTreeMap, BTreeSet};

/// Which pages of 4 KiB a device's users have read before anything wrote to them.
#[derive(Debug, Clone, Default)]
pub struct ReadLog {
    /// Number of the page, and what it adds to its disk's hash.
    read: BTreeMap<u64, u128>,
    written: BTreeSet<u64>,
}

impl ReadLog {
    /// Numbers of the pages, ascending.
    pub fn pages(&self) -> impl Iterator<Item = u64> {
        self.read.keys().copied()
    }

    /// The same for the same pages with the same contents, in every run.
    #[must_use]
    pub fn hash(&self) -> u128 {
        self.read.iter().fold(0, |hash, (page, share)| mix(hash.wrapping_add(*share), *page))
    }

    pub(super) fn read(&mut self, disk: &SimulatedDisk, offset: u64, length: u64) {
        for page in offset / PAGE_BYTES_U64..(offset + length).div_ceil(PAGE_BYTES_U64) {
            if !self.written.contains(&page) {
                let share = || disk.page(page).map_or(0, |contents| contents.share(page));
                self.read.entry(page).or_insert_with(share);
            }
        }
    }

    pub(super) fn written(&mut self, effect: &Effect) {
        if let Effect::Contents(patches) = effect {
            self.written.extend(patches.iter().map(|patch| patch.page()));
        }
    }
}
