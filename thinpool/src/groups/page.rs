//! The bitmap page of a group: a header that says whose it is, then one bit per block of the group.
//!
//! Little-endian. Header of 64 bytes: magic (8), format (4), CRC-32C of the page with this field zero (4), pool (16),
//! group (8), own address (8), generation (8), blocks allocated (4), zero (4). Bit n of the bits is block n of the
//! group, least significant bit first. The bits of the two bitmap slots and of blocks past the group's end are zero.
//!
//! Decoding never panics, whatever the bytes, and believes a page only if the group table's entry names its checksum.

use super::SLOT_BLOCKS;
use super::bitmap::{BLOCKS_MAX, Bitmap, WORDS};
use super::entry::GroupEntry;
use crate::geometry::GroupIndex;
use cow_tree::units::{BlockAddress, Generation, PoolId};
use std::ops::Range;

/// Bytes of a bitmap page.
pub(crate) const PAGE_BYTES: usize = 4096;

const HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"OFSTBITS";
const FORMAT: u32 = 1;

const FORMAT_AT: Range<usize> = 8..12;
const CHECKSUM_AT: Range<usize> = 12..16;
const POOL_AT: Range<usize> = 16..32;
const GROUP_AT: Range<usize> = 32..40;
const ADDRESS_AT: Range<usize> = 40..48;
const GENERATION_AT: Range<usize> = 48..56;
const ALLOCATED_AT: Range<usize> = 56..60;
const PADDING_AT: Range<usize> = 60..64;

const _: () = assert!(HEADER_BYTES + BLOCKS_MAX / 8 == PAGE_BYTES);

/// Which page it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageIdentity {
    pub(crate) pool: PoolId,
    pub(crate) group: GroupIndex,
    /// Where the page itself lies.
    pub(crate) address: BlockAddress,
    pub(crate) generation: Generation,
}

/// A page that is not the bitmap it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PageError {
    #[error("a bitmap page has {0} bytes instead of {PAGE_BYTES}")]
    Length(usize),
    #[error("the page is not a bitmap page")]
    Magic,
    #[error("the bitmap page has format {0}, which this version does not know")]
    Format(u32),
    #[error("the bitmap page is damaged: its checksum does not match")]
    Checksum,
    #[error("the bitmap page is whole but not the one the group table names")]
    Stale,
    #[error("the bitmap page belongs to another pool, group, place or time")]
    Identity,
    #[error("the bitmap page holds another number of blocks than it says")]
    Count,
    #[error("the bitmap page marks blocks that cannot be allocated")]
    Bounds,
}

pub(crate) fn encode(identity: &PageIdentity, bitmap: &Bitmap) -> [u8; PAGE_BYTES] {
    let mut page = [0; PAGE_BYTES];
    page[..MAGIC.len()].copy_from_slice(&MAGIC);
    page[FORMAT_AT].copy_from_slice(&FORMAT.to_le_bytes());
    page[POOL_AT].copy_from_slice(&identity.pool.0);
    page[GROUP_AT].copy_from_slice(&u64::from(identity.group.0).to_le_bytes());
    page[ADDRESS_AT].copy_from_slice(&identity.address.0.to_le_bytes());
    page[GENERATION_AT].copy_from_slice(&identity.generation.0.to_le_bytes());
    page[ALLOCATED_AT].copy_from_slice(&bitmap.count().to_le_bytes());
    for (bytes, word) in page[HEADER_BYTES..].chunks_exact_mut(8).zip(bitmap.words()) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let checksum = checksum(&page);
    page[CHECKSUM_AT].copy_from_slice(&checksum.to_le_bytes());
    page
}

/// The checksum a page carries.
pub(super) fn checksum_of(page: &[u8; PAGE_BYTES]) -> u32 {
    word32(page, CHECKSUM_AT)
}

/// The generation a page carries.
pub(super) fn generation_of(page: &[u8; PAGE_BYTES]) -> Generation {
    Generation(word64(page, GENERATION_AT))
}

/// Reads the bitmap of a group of `length` blocks out of the page that `entry` names.
pub(crate) fn decode(
    page: &[u8],
    expected: &PageIdentity,
    entry: &GroupEntry,
    length: usize,
) -> Result<Bitmap, PageError> {
    let page: &[u8; PAGE_BYTES] = page.try_into().map_err(|_| PageError::Length(page.len()))?;
    check_header(page, expected, entry)?;
    let bitmap = bits(page);
    if bitmap.count() != word32(page, ALLOCATED_AT) || bitmap.count() != entry.allocated {
        return Err(PageError::Count);
    }
    if !bitmap.is_clear(0..SLOT_BLOCKS) || !bitmap.is_clear(length.min(BLOCKS_MAX)..BLOCKS_MAX) {
        return Err(PageError::Bounds);
    }
    Ok(bitmap)
}

fn check_header(
    page: &[u8; PAGE_BYTES],
    expected: &PageIdentity,
    entry: &GroupEntry,
) -> Result<(), PageError> {
    if page[..MAGIC.len()] != MAGIC {
        return Err(PageError::Magic);
    }
    if word32(page, FORMAT_AT) != FORMAT {
        return Err(PageError::Format(word32(page, FORMAT_AT)));
    }
    let stored = word32(page, CHECKSUM_AT);
    if stored != checksum(page) {
        return Err(PageError::Checksum);
    }
    if stored != entry.checksum {
        return Err(PageError::Stale);
    }
    let is_expected = page[POOL_AT] == expected.pool.0
        && word64(page, GROUP_AT) == u64::from(expected.group.0)
        && word64(page, ADDRESS_AT) == expected.address.0
        && word64(page, GENERATION_AT) == expected.generation.0
        && page[PADDING_AT] == [0; 4];
    if is_expected { Ok(()) } else { Err(PageError::Identity) }
}

fn checksum(page: &[u8; PAGE_BYTES]) -> u32 {
    let before = crc32c::crc32c(&page[..CHECKSUM_AT.start]);
    let zeros = crc32c::crc32c_append(before, &[0; 4]);
    crc32c::crc32c_append(zeros, &page[CHECKSUM_AT.end..])
}

fn bits(page: &[u8; PAGE_BYTES]) -> Bitmap {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(page[HEADER_BYTES..].chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
    }
    Bitmap::from_words(words)
}

fn word32(page: &[u8; PAGE_BYTES], at: Range<usize>) -> u32 {
    u32::from_le_bytes(page[at].try_into().expect("a field of four bytes"))
}

fn word64(page: &[u8; PAGE_BYTES], at: Range<usize>) -> u64 {
    u64::from_le_bytes(page[at].try_into().expect("a field of eight bytes"))
}

#[cfg(test)]
mod tests;
