//! Where everything lies on device 0.
//!
//! ```text
//! block 0      1..=4               5..8   8..8+j           then
//!       label  superblock copies   gap    journal ring     group 0 | group 1 | ... | last group, maybe shorter | rest
//! ```
//! Generation g of the superblock goes to slot g % 2, whose copies are blocks 1 + slot and 3 + slot. The first two
//! blocks of every group are its bitmap slots. A rest shorter than [`GROUP_BLOCKS_MIN`] stays unused until the device
//! grows; growing moves nothing: it lengthens the last group and adds groups behind it.

use cow_tree::units::{
    BLOCK_BYTES, BLOCK_BYTES_U64, BLOCK_IN_DEVICE_BITS, BlockAddress, BlockCount, Generation,
};
use thiserror::Error;

/// The device that alone decides.
const DEVICE: u8 = 0;
pub(crate) const LABEL_BLOCK: u64 = 0;
pub(crate) const SUPERBLOCK_FIRST: u64 = 1;
/// Two slots, written alternately.
pub(crate) const SUPERBLOCK_SLOTS: u64 = 2;
/// Copies of each generation.
pub(crate) const SUPERBLOCK_COPIES: u64 = 2;
/// First block of the journal on a device of this version; a superblock names it.
pub(crate) const JOURNAL_START: u64 = 8;

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
}

/// The layout of device 0; everything else about places is computed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    device_blocks: u64,
    journal_start: u64,
    journal_blocks: u64,
    group_blocks: u32,
}

impl Geometry {
    /// Lays out a new pool on a device.
    ///
    /// # Errors
    /// When the device or a chosen size is out of bounds.
    pub(crate) fn plan(device_bytes: u64, options: GeometryOptions) -> Result<Self, GeometryError> {
        let device_blocks = device_bytes / BLOCK_BYTES_U64;
        let journal_blocks = options.journal_blocks.unwrap_or_else(|| journal_of(device_blocks));
        let groups_blocks = device_blocks.saturating_sub(JOURNAL_START.saturating_add(journal_blocks));
        let group_blocks = options.group_blocks.unwrap_or_else(|| group_of_space(groups_blocks));
        Self::stored(device_blocks, JOURNAL_START, journal_blocks, group_blocks)
    }

    /// The layout a superblock names.
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
        let bytes = device_blocks.saturating_mul(BLOCK_BYTES_U64);
        let geometry = Self { device_blocks, journal_start, journal_blocks, group_blocks };
        let needed = journal_start
            + journal_blocks
            + (GROUPS_MIN - 1) * u64::from(group_blocks)
            + u64::from(GROUP_BLOCKS_MIN);
        if device_blocks < needed {
            return Err(GeometryError::TooSmall { bytes, needed: needed * BLOCK_BYTES_U64 });
        }
        let groups = device_blocks / u64::from(group_blocks) + 1;
        if device_blocks >> BLOCK_IN_DEVICE_BITS != 0 || u32::try_from(groups).is_err() {
            return Err(GeometryError::TooLarge(bytes));
        }
        Ok(geometry)
    }

    /// The same pool on a device that has become longer.
    ///
    /// # Errors
    /// When the device is shorter than what the pool uses, or longer than it can use.
    pub(crate) fn grown(&self, device_bytes: u64) -> Result<Self, GeometryError> {
        let blocks = device_bytes / BLOCK_BYTES_U64;
        if blocks < self.device_blocks {
            return Err(GeometryError::Shrunk { blocks, used: self.device_blocks });
        }
        Self::stored(blocks, self.journal_start, self.journal_blocks, self.group_blocks)
    }

    /// Blocks of the device, used or not.
    #[must_use]
    pub(crate) fn device_blocks(&self) -> u64 {
        self.device_blocks
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
        let (whole, rest) = self.whole_groups_and_rest();
        let partial = u64::from(rest >= u64::from(GROUP_BLOCKS_MIN));
        u32::try_from(whole + partial).expect("the constructor counted the groups")
    }

    /// The group an address lies in; `None` in front of the groups, behind them and on other devices.
    #[must_use]
    pub(crate) fn group_of(&self, address: BlockAddress) -> Option<GroupIndex> {
        if address != at(address.in_device()) {
            return None;
        }
        let distance = address.in_device().checked_sub(self.groups_start())?;
        let index = u32::try_from(distance / u64::from(self.group_blocks)).ok()?;
        (index < self.groups() && address.in_device() < self.device_blocks).then_some(GroupIndex(index))
    }

    /// # Panics
    /// If the pool has no such group.
    #[must_use]
    pub(crate) fn first_block(&self, group: GroupIndex) -> BlockAddress {
        assert!(group.0 < self.groups(), "the group exists");
        at(self.groups_start() + u64::from(group.0) * u64::from(self.group_blocks))
    }

    /// Blocks of a group, its bitmap slots included.
    ///
    /// # Panics
    /// If the pool has no such group.
    #[must_use]
    pub(crate) fn group_len(&self, group: GroupIndex) -> BlockCount {
        let behind = self.device_blocks - self.first_block(group).in_device();
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

    fn groups_start(&self) -> u64 {
        self.journal_start + self.journal_blocks
    }

    fn whole_groups_and_rest(&self) -> (u64, u64) {
        let blocks = self.device_blocks - self.groups_start();
        (blocks / u64::from(self.group_blocks), blocks % u64::from(self.group_blocks))
    }
}

/// Where the copies of a generation's superblock lie.
#[must_use]
pub(crate) fn superblock_homes(generation: Generation) -> [BlockAddress; 2] {
    let first = SUPERBLOCK_FIRST + Slot::of_generation(generation).index();
    [at(first), at(first + SUPERBLOCK_SLOTS)]
}

/// Every place a superblock can be: what an opener reads.
#[must_use]
pub(crate) fn superblock_places() -> [BlockAddress; 4] {
    [0, 1, 2, 3].map(|number| at(SUPERBLOCK_FIRST + number))
}

fn at(block: u64) -> BlockAddress {
    BlockAddress::new(DEVICE, block).expect("a geometry stays within its device")
}

fn journal_of(device_blocks: u64) -> u64 {
    (device_blocks / JOURNAL_DEFAULT_SHARE).clamp(JOURNAL_DEFAULT_MIN, JOURNAL_DEFAULT_MAX)
}

fn group_of_space(blocks: u64) -> u32 {
    let wanted = (blocks / GROUPS_WANTED).max(GROUP_BLOCKS_WANTED_MIN);
    u32::try_from(wanted).unwrap_or(GROUP_BLOCKS_MAX).min(GROUP_BLOCKS_MAX)
}

#[cfg(test)]
mod tests;
