//! Units of the block address space, each its own type, so that logical and physical blocks, counts and generations
//! never mix. Arithmetic is checked in release too: a wrapped block number is somebody else's data.
//!
//! This is the only module that may use `as`; each use is widening or proven by the assertion beside it.

use std::fmt;
use std::ops::Add;

/// Bytes of one block: the grain of mapping, allocation and of tree nodes.
pub const BLOCK_BYTES: usize = 4096;
/// [`BLOCK_BYTES`] for offsets and lengths in bytes.
pub const BLOCK_BYTES_U64: u64 = BLOCK_BYTES as u64;
/// Bits of a [`BlockAddress`] that count blocks within one device.
pub const BLOCK_IN_DEVICE_BITS: u32 = 40;
/// Bits of a [`BlockAddress`] altogether; what a page of the format stores.
pub const BLOCK_ADDRESS_BITS: u32 = 48;

const _: () = assert!(usize::BITS >= u32::BITS, "indices of 32 bits must fit");
const _: () = assert!(usize::BITS <= u64::BITS, "lengths in memory must fit an offset");

/// An index or length of 32 bits, as memory indexing wants it.
#[must_use]
pub const fn index_of(value: u32) -> usize {
    value as usize
}

/// A length in memory as a length on a device.
#[must_use]
pub const fn length_of(value: usize) -> u64 {
    value as u64
}

/// A 4 KiB block of a volume, as the guest counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogicalBlock(pub u64);

impl LogicalBlock {
    /// The block that holds the byte at `offset`.
    #[must_use]
    pub const fn containing(offset: u64) -> Self {
        Self(offset / BLOCK_BYTES_U64)
    }

    /// First byte of the block.
    ///
    /// # Panics
    /// If no 64-bit offset can name it.
    #[must_use]
    pub fn byte_offset(self) -> u64 {
        self.0.checked_mul(BLOCK_BYTES_U64).expect("a mapped block lies within 64 bits of bytes")
    }

    /// Blocks from `earlier` to here.
    ///
    /// # Panics
    /// If `earlier` is the later one.
    #[must_use]
    pub fn blocks_since(self, earlier: LogicalBlock) -> u64 {
        self.0.checked_sub(earlier.0).expect("a distance is asked from the earlier block")
    }
}

impl Add<u64> for LogicalBlock {
    type Output = Self;

    fn add(self, blocks: u64) -> Self {
        Self(self.0.checked_add(blocks).expect("a logical block number fits 64 bits"))
    }
}

impl fmt::Display for LogicalBlock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// A 4 KiB block of the pool: bits 40 to 47 are the device index, bits 0 to 39 the block within it.
///
/// Zero never names data or a node: block 0 of device 0 is the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockAddress(pub u64);

impl BlockAddress {
    /// Block `block` of device `device`; `None` if the block number needs more than 40 bits.
    #[must_use]
    pub const fn new(device: u8, block: u64) -> Option<Self> {
        if block >> BLOCK_IN_DEVICE_BITS != 0 {
            return None;
        }
        Some(Self((device as u64) << BLOCK_IN_DEVICE_BITS | block))
    }

    /// Index of the device.
    #[must_use]
    pub const fn device(self) -> u8 {
        ((self.0 >> BLOCK_IN_DEVICE_BITS) & 0xff) as u8
    }

    /// Block within its device.
    #[must_use]
    pub const fn in_device(self) -> u64 {
        self.0 & ((1 << BLOCK_IN_DEVICE_BITS) - 1)
    }

    /// First byte of the block where all devices of a pool are one space: device i begins at i x 2^40 blocks.
    #[must_use]
    pub const fn byte_offset(self) -> u64 {
        (self.0 & ((1 << BLOCK_ADDRESS_BITS) - 1)) * BLOCK_BYTES_U64
    }

    /// The block `blocks` further on the same device.
    ///
    /// # Panics
    /// If that leaves the device's 40 bits.
    #[must_use]
    pub fn offset_by(self, blocks: u64) -> Self {
        let block = self.in_device().checked_add(blocks);
        let moved = block.and_then(|block| Self::new(self.device(), block));
        let moved = moved.expect("a run of blocks stays within its device");
        Self(moved.0 | (self.0 >> BLOCK_ADDRESS_BITS << BLOCK_ADDRESS_BITS))
    }

    /// Whether `blocks` blocks from here on are addresses a page can store and none of them is the label.
    #[must_use]
    pub const fn can_hold(self, blocks: u64) -> bool {
        let end = self.in_device().checked_add(blocks);
        let fits = matches!(end, Some(end) if end <= 1 << BLOCK_IN_DEVICE_BITS);
        fits && self.0 != 0 && self.0 >> BLOCK_ADDRESS_BITS == 0
    }
}

impl fmt::Display for BlockAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.device(), self.in_device())
    }
}

/// A number of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockCount(pub u64);

impl BlockCount {
    /// # Panics
    /// If no 64-bit length can name so many bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0.checked_mul(BLOCK_BYTES_U64).expect("a length in bytes fits 64 bits")
    }
}

impl Add for BlockCount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).expect("a number of blocks fits 64 bits"))
    }
}

impl fmt::Display for BlockCount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// Who allocated a block: a volume's lineage, and a counter raised at each seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag {
    pub line: u32,
    pub sequence: u32,
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.line, self.sequence)
    }
}

/// Number of a superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl Generation {
    /// # Panics
    /// After 2^64 checkpoints.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a pool does not live for 2^64 checkpoints"))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// What every structure of one pool carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PoolId(pub [u8; 16]);

impl fmt::Display for PoolId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{BlockAddress, LogicalBlock};

    #[test]
    fn an_address_is_its_device_and_its_block() {
        let address = BlockAddress::new(3, 77).expect("77 fits 40 bits");
        assert_eq!((address.device(), address.in_device()), (3, 77));
        assert_eq!(address.byte_offset(), (3 << 52) + 77 * 4096);
        assert_eq!(address.offset_by(5), BlockAddress::new(3, 82).expect("82 fits 40 bits"));
        assert_eq!(BlockAddress::new(0, 1 << 40), None);
    }

    #[test]
    #[should_panic(expected = "stays within its device")]
    fn a_run_never_leaves_its_device() {
        drop((BlockAddress((1 << 40) - 1)).offset_by(1).to_string());
    }

    #[test]
    fn what_a_page_can_hold_ends_with_the_device_and_starts_after_the_label() {
        assert!(BlockAddress((1 << 40) - 1).can_hold(1));
        assert!(!BlockAddress((1 << 40) - 1).can_hold(2));
        assert!(!BlockAddress(0).can_hold(1));
        assert!(!BlockAddress(1 << 48).can_hold(1));
    }

    #[test]
    fn a_byte_belongs_to_one_block() {
        assert_eq!(LogicalBlock::containing(4095), LogicalBlock(0));
        assert_eq!(LogicalBlock::containing(4096), LogicalBlock(1));
        assert_eq!((LogicalBlock(1) + 2).byte_offset(), 3 * 4096);
    }
}
