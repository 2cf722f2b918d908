//! What a VHDX says of its disk: a table of items, each with its identifier, and the items behind it.

use super::super::fields::{Fields, index};
use super::super::{Image, Refusal, Stop};
use super::MIB;
use crate::import::blocks::Geometry;
use std::ops::Range;

const TABLE_BYTES: usize = 64 << 10;
const ENTRY_BYTES: usize = 32;
const ENTRIES_MAX: usize = 2047;
const REQUIRED: u32 = 4;
const HAS_PARENT: u32 = 2;
const DISK_BYTES_MAX: u64 = 64 << 40;
const BLOCK_BYTES_MAX: u64 = 256 * MIB;

/// Identifiers as they lie in the file.
const FILE_PARAMETERS: [u8; 16] =
    [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b];
const DISK_SIZE: [u8; 16] =
    [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];
const SECTOR_SIZE: [u8; 16] =
    [0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f];
const PHYSICAL_SECTOR_SIZE: [u8; 16] =
    [0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56];
const PAGE_83: [u8; 16] =
    [0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46];
const PARENT_LOCATOR: [u8; 16] =
    [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];
/// What need not be understood to read the disk, though it may say so of itself.
const OTHERS: [[u8; 16]; 2] = [PHYSICAL_SECTOR_SIZE, PAGE_83];

/// The items that are needed, by their ranges in the file.
#[derive(Default)]
struct Items {
    parameters: Option<Range<u64>>,
    disk_size: Option<Range<u64>>,
    sector_size: Option<Range<u64>>,
}

pub(super) fn read(image: &Image<'_>, region: &Range<u64>) -> Result<Geometry, Stop> {
    let bytes = image.bytes(region.start, TABLE_BYTES)?;
    let table = Fields(&bytes);
    if table.slice(0, 8)? != b"metadata" {
        return Err(Refusal::damaged("has no table of metadata where it should be").into());
    }
    let items = find(table, region)?;
    let parameters = bytes_of(image, items.parameters, 8)?;
    let (block_bytes, bits) = (Fields(&parameters).le_u32(0)?, Fields(&parameters).le_u32(4)?);
    if bits & HAS_PARENT != 0 {
        return Err(differs().into());
    }
    let block_bytes = u64::from(block_bytes);
    if !block_bytes.is_power_of_two() || !(MIB..=BLOCK_BYTES_MAX).contains(&block_bytes) {
        return Err(Refusal::damaged(format!("has blocks of {block_bytes} bytes")).into());
    }
    let sector_bytes = u64::from(Fields(&bytes_of(image, items.sector_size, 4)?).le_u32(0)?);
    if ![512, 4096].contains(&sector_bytes) {
        return Err(Refusal::damaged(format!("has sectors of {sector_bytes} bytes")).into());
    }
    let disk_bytes = Fields(&bytes_of(image, items.disk_size, 8)?).le_u64(0)?;
    if disk_bytes > DISK_BYTES_MAX || !disk_bytes.is_multiple_of(sector_bytes) {
        return Err(Refusal::damaged(format!("has a disk of {disk_bytes} bytes")).into());
    }
    Ok(Geometry { disk_bytes, block_bytes, sector_bytes })
}

fn find(table: Fields<'_>, region: &Range<u64>) -> Result<Items, Stop> {
    let count = index(table.le_u16(10)?);
    if count > ENTRIES_MAX {
        return Err(Refusal::damaged(format!("has {count} items of metadata")).into());
    }
    let mut items = Items::default();
    for entry in (0..count).map(|number| 32 + number * ENTRY_BYTES) {
        let id = table.array(entry)?;
        let place = match id {
            FILE_PARAMETERS => &mut items.parameters,
            DISK_SIZE => &mut items.disk_size,
            SECTOR_SIZE => &mut items.sector_size,
            PARENT_LOCATOR => return Err(differs().into()),
            _ if table.le_u32(entry + 24)? & REQUIRED != 0 && !OTHERS.contains(&id) => {
                let next = "a conversion of it by what made it";
                return Err(Refusal::unwanted("needs an item of metadata that nobody knows", next).into());
            }
            _ => continue,
        };
        let (offset, length) = (u64::from(table.le_u32(entry + 16)?), u64::from(table.le_u32(entry + 20)?));
        let table_bytes = u64::try_from(TABLE_BYTES).expect("64 KiB");
        if offset < table_bytes || offset + length > region.end - region.start {
            let why = format!("has an item of metadata outside of it, of {length} bytes at byte {offset}");
            return Err(Refusal::damaged(why).into());
        }
        let start = region.start + offset;
        if place.replace(start..start + length).is_some() {
            return Err(Refusal::damaged("has an item of its metadata twice").into());
        }
    }
    Ok(items)
}

/// The bytes of an item that has so many.
fn bytes_of(image: &Image<'_>, item: Option<Range<u64>>, count: usize) -> Result<Vec<u8>, Stop> {
    let item = item.ok_or_else(|| Refusal::damaged("lacks a part of its metadata"))?;
    let length = item.end - item.start;
    if index(length) != count {
        return Err(Refusal::damaged(format!("has an item of metadata of {length} bytes for {count}")).into());
    }
    image.bytes(item.start, count)
}

fn differs() -> Refusal {
    let next = "a merge of it into its parent, where it was made";
    Refusal::unwanted("stores what differs from another disk", next)
}
