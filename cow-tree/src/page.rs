//! The page of a node: its 64-byte header and how many entries fit behind it.
//!
//! ```text
//!   0 magic "OSTN"      4 CRC-32C of the page with this field zero
//!   8 kind of tree      9 level      10 format      11 zero      12 count (u16)   14 zero (u16)
//!  16 pool id (16)     32 own address (u64)     40 generation (u64)
//!  48 tag: line, sequence (u32 each)            56 low key (u64)
//!  64 body
//!     leaf of extents   count keys (u32, relative to the low key), then count times 20 bytes:
//!                       length u32 | address 48 bits, flags 16 bits (bit 0: checksummed) | line u32 | sequence u32
//!     leaf of records   count slots of 12 bytes: key u64, offset in the page u16, length u16; values packed behind
//!     inner             count low keys (u64), then count times 20 bytes:
//!                       address u64 | line u32 | sequence u32 | CRC-32C of the child's page u32
//! ```
//! All little-endian; whatever is not named is zero. The low key doubles as the base of a leaf's relative keys.

use crate::damage::Damage;
use crate::pointer::Pointer;
use crate::units::{BLOCK_BYTES, BlockAddress, Generation, PoolId, Tag};

pub(crate) type Page = [u8; BLOCK_BYTES];

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const BODY_BYTES: usize = BLOCK_BYTES - HEADER_BYTES;
const MAGIC: [u8; 4] = *b"OSTN";
const FORMAT: u8 = 1;

const CHECKSUM_AT: usize = 4;
const KIND_AT: usize = 8;
const LEVEL_AT: usize = 9;
const FORMAT_AT: usize = 10;
const COUNT_AT: usize = 12;
const POOL_AT: usize = 16;
const ADDRESS_AT: usize = 32;
const GENERATION_AT: usize = 40;
const TAG_AT: usize = 48;
const LOW_AT: usize = 56;

/// Bytes of one extent: its relative key and what it maps to.
pub(crate) const EXTENT_KEY_BYTES: usize = 4;
pub(crate) const EXTENT_VALUE_BYTES: usize = 20;
/// Extents in one leaf.
pub const EXTENTS_MAX: usize = BODY_BYTES / (EXTENT_KEY_BYTES + EXTENT_VALUE_BYTES);

pub(crate) const INNER_KEY_BYTES: usize = 8;
pub(crate) const INNER_VALUE_BYTES: usize = 20;
/// Links in one inner node.
pub const INNER_ENTRIES_MAX: usize = BODY_BYTES / (INNER_KEY_BYTES + INNER_VALUE_BYTES);

/// Bytes one record takes besides its value.
pub(crate) const RECORD_SLOT_BYTES: usize = 12;
/// Longest value of a record.
pub const RECORD_BYTES_MAX: usize = 1024;
/// Records in one leaf, all of them empty.
pub const RECORDS_MAX: usize = BODY_BYTES / RECORD_SLOT_BYTES;
/// Highest level of a node; more than 2^64 keys need.
pub const LEVEL_MAX: u8 = 63;

const _: () = assert!(LOW_AT + 8 == HEADER_BYTES);
const _: () = assert!(EXTENTS_MAX == 168 && INNER_ENTRIES_MAX == 144 && RECORDS_MAX == 336);
const _: () = assert!(EXTENTS_MAX <= RECORDS_MAX, "the leaf limit of a tree starts at the larger one");
const _: () =
    assert!(3 * (RECORD_SLOT_BYTES + RECORD_BYTES_MAX) <= BODY_BYTES, "a leaf splits into two that fit");

/// What a page says about itself, once believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) level: u8,
    pub(crate) count: usize,
    pub(crate) pool: PoolId,
    pub(crate) address: BlockAddress,
    pub(crate) generation: Generation,
    pub(crate) tag: Tag,
    pub(crate) low: u64,
}

impl Header {
    /// Writes the header over a page whose body is complete, and returns the page's checksum.
    pub(crate) fn seal(&self, page: &mut Page) -> u32 {
        page[..HEADER_BYTES].fill(0);
        page[..4].copy_from_slice(&MAGIC);
        page[KIND_AT] = self.kind;
        page[LEVEL_AT] = self.level;
        page[FORMAT_AT] = FORMAT;
        let count = u16::try_from(self.count).expect("no page holds more than 65535 entries");
        put(page, COUNT_AT, &count.to_le_bytes());
        put(page, POOL_AT, &self.pool.0);
        put(page, ADDRESS_AT, &self.address.0.to_le_bytes());
        put(page, GENERATION_AT, &self.generation.0.to_le_bytes());
        put(page, TAG_AT, &self.tag.line.to_le_bytes());
        put(page, TAG_AT + 4, &self.tag.sequence.to_le_bytes());
        put(page, LOW_AT, &self.low.to_le_bytes());
        let checksum = checksum(page);
        put(page, CHECKSUM_AT, &checksum.to_le_bytes());
        checksum
    }

    /// Reads the header of the page that `pointer` names, and believes none of it before it has agreed with the pointer.
    pub(crate) fn open(page: &Page, pointer: &Pointer, pool: PoolId, kind: u8) -> Result<Self, Damage> {
        if page[..4] != MAGIC {
            return Err(Damage::Magic);
        }
        let (stored, computed) = (word32(page, CHECKSUM_AT), checksum(page));
        if stored != computed {
            return Err(Damage::Checksum { stored, computed });
        }
        if page[FORMAT_AT] != FORMAT {
            return Err(Damage::Format(page[FORMAT_AT]));
        }
        if page[11] != 0 || page[14] != 0 || page[15] != 0 {
            return Err(Damage::Padding);
        }
        let header = Self::parse(page);
        header.agrees_with(pointer, pool, kind)?;
        if computed != pointer.checksum {
            return Err(Damage::Stale { expected: pointer.checksum, found: computed });
        }
        Ok(header)
    }

    fn parse(page: &Page) -> Self {
        let mut pool = [0; 16];
        pool.copy_from_slice(&page[POOL_AT..POOL_AT + 16]);
        Self {
            kind: page[KIND_AT],
            level: page[LEVEL_AT],
            count: usize::from(word16(page, COUNT_AT)),
            pool: PoolId(pool),
            address: BlockAddress(word64(page, ADDRESS_AT)),
            generation: Generation(word64(page, GENERATION_AT)),
            tag: Tag { line: word32(page, TAG_AT), sequence: word32(page, TAG_AT + 4) },
            low: word64(page, LOW_AT),
        }
    }

    fn agrees_with(&self, pointer: &Pointer, pool: PoolId, kind: u8) -> Result<(), Damage> {
        if self.pool != pool {
            return Err(Damage::Pool(self.pool));
        }
        if self.kind != kind {
            return Err(Damage::Kind { expected: kind, found: self.kind });
        }
        if self.address != pointer.address {
            return Err(Damage::Address { expected: pointer.address, found: self.address });
        }
        if self.level != pointer.level || self.level > LEVEL_MAX {
            return Err(Damage::Level { expected: pointer.level, found: self.level });
        }
        if self.tag != pointer.tag {
            return Err(Damage::Tag { expected: pointer.tag, found: self.tag });
        }
        if self.low != pointer.low {
            return Err(Damage::Low { expected: pointer.low, found: self.low });
        }
        Ok(())
    }
}

fn checksum(page: &Page) -> u32 {
    let crc = crc32c::crc32c(&page[..CHECKSUM_AT]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &page[CHECKSUM_AT + 4..])
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub(crate) fn word16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn word32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(crate) fn word64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
