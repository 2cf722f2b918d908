//! Where everything lies on the devices of a pool.
//!
//! ```text
//! device 0
//! block 0      1..=4               5..8   8..8+j           then
//!       label  superblock copies   gap    journal ring     group 0 | group 1 | ... | last group, maybe shorter | rest
//! further devices
//! block 0      1, 2     3..8       then
//!       label  marks    gap        group n | group n + 1 | ... | last group, maybe shorter | rest
//! ```
//! Generation g of the superblock goes to slot g % 2, whose copies are blocks 1 + slot and 3 + slot. The first two
//! blocks of every group are its bitmap slots. A rest shorter than [`GROUP_BLOCKS_MIN`] stays unused until the device
//! grows. Groups are numbered device by device, and growing moves nothing: it lengthens the last group of the last device
//! and adds groups behind it, or it adds a device. A device that has others behind it keeps its length.

mod devices;

pub use devices::DEVICES_MAX;

use cow_tree::units::{
    BLOCK_BYTES, BLOCK_BYTES_U64, BLOCK_IN_DEVICE_BITS, BlockAddress, BlockCount, Generation,
};
use devices::Devices;
use thiserror::Error;

/// The device that alone decides.
const DEVICE: usize = 0;
pub(crate) const LABEL_BLOCK: u64 = 0;
pub(crate) const SUPERBLOCK_FIRST: u64 = 1;
/// Two slots, written alternately.
pub(crate) const SUPERBLOCK_SLOTS: u64 = 2;
/// Copies of each generation.
pub(crate) const SUPERBLOCK_COPIES: u64 = 2;
/// First block of the journal on a device of this version; a superblock names it.
pub(crate) const JOURNAL_START: u64 = 8;
/// First block of the groups on a further device.
pub(crate) const FURTHER_START: u64 = 8;

/// Bytes in front of the bits of a bitmap page.
const BITMAP_HEADER_BYTES: usize = 64;
/// Blocks of a group unless its creator asks otherwise, and the most that one bitmap page can describe.
pub(crate) const GROUP_BLOCKS_MAX: u32 = 32_256;
/// Shortest group: two bitmap slots and room for a few blocks.
pub(crate) const GROUP_BLOCKS_MIN: u32 = 8;
/// One group for metadata and one for data.
const GROUPS_MIN: u64 = 2;
/// A new pool has this many groups at least, so that a small one does not lose half of itself to metadata.
const GROUPS_WANTED: u64 = 16;
/// Shortest group that this wish leads to.
const GROUP_BLOCKS_WANTED_MIN: u64 = 64;

pub(crate) const JOURNAL_BLOCKS_MIN: u64 = 8;
/// Recovery reads the ring into memory: 1 GiB.
pub(crate) const JOURNAL_BLOCKS_MAX: u64 = 1 << 18;
/// Bounds and share of the default.
const JOURNAL_DEFAULT_MIN: u64 = 64;
const JOURNAL_DEFAULT_MAX: u64 = (8 << 20) / BLOCK_BYTES_U64;
const JOURNAL_DEFAULT_SHARE: u64 = 64;

const _: () = assert!((BLOCK_BYTES - BITMAP_HEADER_BYTES) * 8 == cow_tree::units::index_of(GROUP_BLOCKS_MAX));
const _: () = assert!(LABEL_BLOCK < SUPERBLOCK_FIRST);
const _: () = assert!(SUPERBLOCK_FIRST + SUPERBLOCK_SLOTS * SUPERBLOCK_COPIES <= JOURNAL_START);
const _: () = assert!(GROUP_BLOCKS_MIN > 2);

/// Number of an allocation group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupIndex(pub u32);

/// One of two places written alternately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Slot {
    First,
    Second,
}

impl Slot {
    /// The slot a superblock of this generation is written to.
    #[must_use]
    pub(crate) fn of_generation(generation: Generation) -> Self {
        if generation.0.is_multiple_of(SUPERBLOCK_SLOTS) { Slot::First } else { Slot::Second }
    }

    #[must_use]
    pub(crate) fn other(self) -> Self {
        match self {
            Slot::First => Slot::Second,
            Slot::Second => Slot::First,
        }
    }

    const fn index(self) -> u64 {
        match self {
            Slot::First => 0,
            Slot::Second => 1,
        }
    }
}

/// What the creator of a pool may choose; the rest follows from the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GeometryOptions {
    pub journal_blocks: Option<u64>,
    pub group_blocks: Option<u32>,
}

/// A layout that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GeometryError {
    #[error("a device of {bytes} bytes is too small for a pool: it needs at least {needed} bytes")]
    TooSmall { bytes: u64, needed: u64 },
    #[error("a device of {0} bytes is too large for a pool with groups of this size")]
    TooLarge(u64),
    #[error("a journal of {0} blocks is not between {JOURNAL_BLOCKS_MIN} and {JOURNAL_BLOCKS_MAX} blocks")]
    Journal(u64),
    #[error("a group of {0} blocks is not between {GROUP_BLOCKS_MIN} and {GROUP_BLOCKS_MAX} blocks")]
    Group(u32),
    #[error("the journal does not begin behind the superblock but at block {0}")]
    JournalStart(u64),
    #[error("the device has {blocks} blocks, fewer than the {used} that the pool uses")]
    Shrunk { blocks: u64, used: u64 },
    #[error("a pool has at most {DEVICES_MAX} devices")]
    TooManyDevices,
}

/// The layout of a pool; everything else about places is computed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    devices: Devices,
    /// Number of each device's first group.
    first_groups: [u32; DEVICES_MAX],
    journal_start: u64,
    journal_blocks: u64,
    group_blocks: u32,
}

impl Geometry {
    /// Lays out a new pool on a device.
    ///
    /// # Errors
    /// When the device or a chosen size is out of bounds.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn plan(device_bytes: u64, options: GeometryOptions) -> Result<Self, GeometryError> {
        Self::plan_all(device_bytes, &[], options)
    }

    /// Lays out a new pool on several devices.
    ///
    /// # Errors
    /// When a device or a chosen size is out of bounds.
    pub(crate) fn plan_all(
        first_bytes: u64,
        further_bytes: &[u64],
        options: GeometryOptions,
    ) -> Result<Self, GeometryError> {
        let first_blocks = first_bytes / BLOCK_BYTES_U64;
        let further = further_bytes.iter().map(|bytes| bytes / BLOCK_BYTES_U64).fold(0, u64::saturating_add);
        let all_blocks = first_blocks.saturating_add(further);
        let journal_blocks = options.journal_blocks.unwrap_or_else(|| journal_of(all_blocks));
        let before_groups = JOURNAL_START.saturating_add(journal_blocks);
        let group_blocks = options.group_blocks.unwrap_or_else(|| {
            let of_all = group_of_space(all_blocks.saturating_sub(before_groups));
            match further {
                0 => of_all,
                // The first device has two groups, whatever the others are like.
                _ => of_all.min(half_of(first_blocks.saturating_sub(before_groups))),
            }
        });
        let first = Self::stored(first_blocks, JOURNAL_START, journal_blocks, group_blocks)?;
        further_bytes.iter().try_fold(first, |geometry, bytes| geometry.joined(*bytes))
    }

    /// The layout a superblock names, on its first device.
    ///
    /// # Errors
    /// When no pool can have it.
    pub(crate) fn stored(
        device_blocks: u64,
        journal_start: u64,
        journal_blocks: u64,
        group_blocks: u32,
    ) -> Result<Self, GeometryError> {
        if !(JOURNAL_BLOCKS_MIN..=JOURNAL_BLOCKS_MAX).contains(&journal_blocks) {
            return Err(GeometryError::Journal(journal_blocks));
        }
        if !(GROUP_BLOCKS_MIN..=GROUP_BLOCKS_MAX).contains(&group_blocks) {
            return Err(GeometryError::Group(group_blocks));
        }
        if !(SUPERBLOCK_FIRST + SUPERBLOCK_SLOTS * SUPERBLOCK_COPIES..=1 << 20).contains(&journal_start) {
            return Err(GeometryError::JournalStart(journal_start));
        }
        let needed = journal_start
            + journal_blocks
            + (GROUPS_MIN - 1) * u64::from(group_blocks)
            + u64::from(GROUP_BLOCKS_MIN);
        require(device_blocks, needed)?;
        let devices = Devices::single(device_blocks);
        Self { devices, first_groups: [0; DEVICES_MAX], journal_start, journal_blocks, group_blocks }
            .counted()
    }

    /// The same pool with a last device that has become longer.
    ///
    /// # Errors
    /// When the device is shorter than what the pool uses, or longer than it can use.
    pub(crate) fn grown(&self, device_bytes: u64) -> Result<Self, GeometryError> {
        let (blocks, used) = (device_bytes / BLOCK_BYTES_U64, self.devices.last());
        if blocks < used {
            return Err(GeometryError::Shrunk { blocks, used });
        }
        Self { devices: self.devices.with_last(blocks), ..*self }.counted()
    }

    /// The same pool with one more device.
    ///
    /// # Errors
    /// When there are as many as a pool can have, or the device is too short or too long.
    pub(crate) fn joined(&self, device_bytes: u64) -> Result<Self, GeometryError> {
        let blocks = device_bytes / BLOCK_BYTES_U64;
        require(blocks, FURTHER_START + u64::from(GROUP_BLOCKS_MIN))?;
        Self { devices: self.devices.and(blocks)?, ..*self }.counted()
    }

    /// With its groups counted.
    fn counted(mut self) -> Result<Self, GeometryError> {
        let mut next = 0_u64;
        for (device, blocks) in self.devices.list().iter().enumerate() {
            let bytes = blocks.saturating_mul(BLOCK_BYTES_U64);
            let too_large = GeometryError::TooLarge(bytes);
            self.first_groups[device] = u32::try_from(next).map_err(|_| too_large)?;
            next = next.saturating_add(blocks / u64::from(self.group_blocks) + 1);
            if blocks >> BLOCK_IN_DEVICE_BITS != 0 || u32::try_from(next).is_err() {
                return Err(too_large);
            }
            next = u64::from(self.first_groups[device]) + u64::from(self.groups_on(device));
        }
        Ok(self)
    }

    /// Blocks of each device, used or not.
    #[must_use]
    pub(crate) fn devices(&self) -> &[u64] {
        self.devices.list()
    }

    /// Blocks of all devices.
    #[must_use]
    pub(crate) fn blocks(&self) -> u64 {
        self.devices.list().iter().fold(0, |sum, blocks| sum.saturating_add(*blocks))
    }

    /// Blocks of the last device, which alone may become longer.
    #[must_use]
    pub(crate) fn last_blocks(&self) -> u64 {
        self.devices.last()
    }

    /// First block of the ring.
    #[must_use]
    pub(crate) fn journal_start(&self) -> u64 {
        self.journal_start
    }

    #[must_use]
    pub(crate) fn journal_blocks(&self) -> u64 {
        self.journal_blocks
    }

    /// Blocks of every group but the last.
    #[must_use]
    pub(crate) fn group_blocks(&self) -> u32 {
        self.group_blocks
    }

    /// Number of groups.
    #[must_use]
    pub(crate) fn groups(&self) -> u32 {
        let last = self.devices().len() - 1;
        self.first_groups[last] + self.groups_on(last)
    }

    /// The group an address lies in; `None` in front of the groups of its device and behind them, and where no device is.
    #[must_use]
    pub(crate) fn group_of(&self, address: BlockAddress) -> Option<GroupIndex> {
        let device = usize::from(address.device());
        let blocks = *self.devices().get(device)?;
        if address != at(device, address.in_device()) || address.in_device() >= blocks {
            return None;
        }
        let distance = address.in_device().checked_sub(self.groups_start(device))?;
        let index = u32::try_from(distance / u64::from(self.group_blocks)).ok()?;
        (index < self.groups_on(device)).then(|| GroupIndex(self.first_groups[device] + index))
    }

    /// # Panics
    /// If the pool has no such group.
    #[must_use]
    pub(crate) fn device_of(&self, group: GroupIndex) -> usize {
        assert!(group.0 < self.groups(), "the group exists");
        let first_groups = &self.first_groups[..self.devices().len()];
        first_groups.iter().rposition(|first| *first <= group.0).expect("device 0 begins with group 0")
    }

    /// # Panics
    /// If the pool has no such group.
    #[must_use]
    pub(crate) fn first_block(&self, group: GroupIndex) -> BlockAddress {
        let device = self.device_of(group);
        let index = u64::from(group.0 - self.first_groups[device]);
        at(device, self.groups_start(device) + index * u64::from(self.group_blocks))
    }

    /// Blocks of a group, its bitmap slots included.
    ///
    /// # Panics
    /// If the pool has no such group.
    #[must_use]
    pub(crate) fn group_len(&self, group: GroupIndex) -> BlockCount {
        let blocks = self.devices()[self.device_of(group)];
        let behind = blocks - self.first_block(group).in_device();
        BlockCount(behind.min(u64::from(self.group_blocks)))
    }

    /// Where a bitmap of the group lies.
    ///
    /// # Panics
    /// If the pool has no such group.
    #[must_use]
    pub(crate) fn bitmap_slot(&self, group: GroupIndex, slot: Slot) -> BlockAddress {
        self.first_block(group).offset_by(slot.index())
    }

    fn groups_start(&self, device: usize) -> u64 {
        match device {
            0 => self.journal_start + self.journal_blocks,
            _ => FURTHER_START,
        }
    }

    /// Number of groups of a device.
    fn groups_on(&self, device: usize) -> u32 {
        let blocks = self.devices()[device] - self.groups_start(device);
        let (whole, rest) = (blocks / u64::from(self.group_blocks), blocks % u64::from(self.group_blocks));
        let partial = u64::from(rest >= u64::from(GROUP_BLOCKS_MIN));
        u32::try_from(whole + partial).expect("the constructor counted the groups")
    }
}

fn require(blocks: u64, needed: u64) -> Result<(), GeometryError> {
    if blocks >= needed {
        return Ok(());
    }
    let (bytes, needed) = (blocks.saturating_mul(BLOCK_BYTES_U64), needed * BLOCK_BYTES_U64);
    Err(GeometryError::TooSmall { bytes, needed })
}

/// Where the copies of a generation's superblock lie.
#[must_use]
pub(crate) fn superblock_homes(generation: Generation) -> [BlockAddress; 2] {
    let first = SUPERBLOCK_FIRST + Slot::of_generation(generation).index();
    [at(DEVICE, first), at(DEVICE, first + SUPERBLOCK_SLOTS)]
}

/// Every place a superblock can be: what an opener reads.
#[must_use]
pub(crate) fn superblock_places() -> [BlockAddress; 4] {
    [0, 1, 2, 3].map(|number| at(DEVICE, SUPERBLOCK_FIRST + number))
}

/// Block `block` of a device of a pool.
pub(crate) fn at(device: usize, block: u64) -> BlockAddress {
    let device = u8::try_from(device).expect("a pool has few devices");
    BlockAddress::new(device, block).expect("a geometry stays within its device")
}

fn journal_of(device_blocks: u64) -> u64 {
    (device_blocks / JOURNAL_DEFAULT_SHARE).clamp(JOURNAL_DEFAULT_MIN, JOURNAL_DEFAULT_MAX)
}

fn half_of(blocks: u64) -> u32 {
    u32::try_from(blocks / 2).unwrap_or(GROUP_BLOCKS_MAX).clamp(GROUP_BLOCKS_MIN, GROUP_BLOCKS_MAX)
}

fn group_of_space(blocks: u64) -> u32 {
    let wanted = (blocks / GROUPS_WANTED).max(GROUP_BLOCKS_WANTED_MIN);
    u32::try_from(wanted).unwrap_or(GROUP_BLOCKS_MAX).min(GROUP_BLOCKS_MAX)
}

#[cfg(test)]
mod tests;
