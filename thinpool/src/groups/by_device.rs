//! Several devices: the figures of each, and which of them gets the next new window of data.
//!
//! Windows go round the devices, to each in proportion to what it has free: every device is owed its share of each window,
//! and the one that is owed most gets it and pays for it whole. With one device none of this is there.

use super::counts::{Counts, Share};
use super::index_at;
use crate::geometry::Geometry;
use std::cmp::Reverse;
use std::ops::Range;

#[derive(Debug)]
pub(super) struct ByDevice {
    devices: Vec<DeviceBooks>,
    /// Of each group, by its number.
    device_of: Vec<u8>,
}

#[derive(Debug)]
struct DeviceBooks {
    counts: Counts,
    /// Numbers of its groups.
    groups: Range<usize>,
    /// Blocks of windows that it is owed; less than nothing when it got more than its share.
    owed: i64,
    /// The group that data was last allocated from.
    cursor: usize,
}

impl ByDevice {
    /// `None` for one device.
    pub(super) fn of(geometry: &Geometry, shares: impl Iterator<Item = Share>) -> Option<Self> {
        let count = geometry.devices().len();
        if count == 1 {
            return None;
        }
        let new = || DeviceBooks { counts: Counts::default(), groups: 0..0, owed: 0, cursor: 0 };
        let mut all =
            Self { devices: std::iter::repeat_with(new).take(count).collect(), device_of: Vec::new() };
        for (number, share) in shares.enumerate() {
            let device = geometry.device_of(index_at(number));
            all.device_of.push(u8::try_from(device).expect("a pool has few devices"));
            let books = &mut all.devices[device];
            books.counts.add(share);
            if books.groups.is_empty() {
                books.groups = number..number;
                books.cursor = number;
            }
            books.groups.end = number + 1;
        }
        Some(all)
    }

    /// One group's share of the figures has changed.
    pub(super) fn shift(&mut self, number: usize, before: Share, after: Share) {
        let counts = &mut self.devices[usize::from(self.device_of[number])].counts;
        counts.subtract(before);
        counts.add(after);
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = Counts> {
        self.devices.iter().map(|device| device.counts)
    }

    pub(super) fn counts_of(&self, device: usize) -> &Counts {
        &self.devices[device].counts
    }

    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    /// Numbers of the groups of a device.
    pub(super) fn groups_of(&self, device: usize) -> Range<usize> {
        self.devices[device].groups.clone()
    }

    pub(super) fn cursor_of(&self, device: usize) -> usize {
        self.devices[device].cursor
    }

    /// The devices that have anything free, those first that are owed most.
    pub(super) fn in_turn(&self) -> Vec<usize> {
        let mut devices: Vec<usize> =
            (0..self.devices.len()).filter(|device| self.devices[*device].weight() > 0).collect();
        devices.sort_by_key(|device| {
            let books = &self.devices[*device];
            Reverse(books.owed.saturating_add(books.weight()))
        });
        devices
    }

    /// A device got a new window, in this group.
    pub(super) fn charge(&mut self, device: usize, number: usize) {
        let mut total = 0_i64;
        for books in &mut self.devices {
            books.owed = books.owed.saturating_add(books.weight());
            total = total.saturating_add(books.weight());
        }
        let books = &mut self.devices[device];
        books.owed = books.owed.saturating_sub(total);
        books.cursor = number;
    }
}

impl DeviceBooks {
    /// Blocks that data has or may get.
    fn weight(&self) -> i64 {
        let free = self.counts.data.free().0 + self.counts.unused.0;
        i64::try_from(free).expect("a device has at most 2^40 blocks")
    }
}
