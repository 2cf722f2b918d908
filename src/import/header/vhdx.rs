//! The headers, regions and metadata of VHDX: "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format", Microsoft.

use super::fields::{Fields, index};
use super::{Header, Image, Refusal, Stop};

const MAGIC: &[u8] = b"vhdxfile";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const HEADER_BYTES: usize = 4096;
const REGION_TABLES: [u64; 2] = [192 * KIB, 256 * KIB];
const TABLE_BYTES: usize = 64 << 10;
const REGIONS_MAX: usize = 2047;
const METADATA_ENTRIES_MAX: usize = 2047;
/// A region's checksum lies behind its signature and counts as zero.
const CHECKSUM: std::ops::Range<usize> = 4..8;

/// Identifiers as they lie in the file.
const METADATA_REGION: [u8; 16] =
    [0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e];
const FILE_PARAMETERS: [u8; 16] =
    [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b];
const DISK_SIZE: [u8; 16] =
    [0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8];
const PARENT_LOCATOR: [u8; 16] =
    [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];
const HAS_PARENT: u32 = 2;

pub(super) fn check(image: &Image<'_>) -> Result<Header, Stop> {
    if image.bytes(0, MAGIC.len())? != MAGIC {
        return Err(Refusal::unwanted("is not vhdx", "--format with the file's own format").into());
    }
    check_log(image)?;
    let metadata = metadata_offset(image)?;
    let bytes = image.bytes(metadata, TABLE_BYTES)?;
    let table = Fields(&bytes);
    if table.slice(0, 8)? != b"metadata" {
        return Err(Refusal::damaged("has no table of metadata where it should be").into());
    }
    if find(table, PARENT_LOCATOR)?.is_some() {
        return Err(differs().into());
    }
    let item = |id: [u8; 16], length: usize| -> Result<Vec<u8>, Stop> {
        let at = find(table, id)?.ok_or_else(|| Refusal::damaged("lacks a part of its metadata"))?;
        let at =
            metadata.checked_add(u64::from(at)).ok_or_else(|| Refusal::damaged("is larger than any file"))?;
        image.bytes(at, length)
    };
    let parameters = item(FILE_PARAMETERS, 8)?;
    let (block_bytes, bits) = (Fields(&parameters).le_u32(0)?, Fields(&parameters).le_u32(4)?);
    if bits & HAS_PARENT != 0 {
        return Err(differs().into());
    }
    if !block_bytes.is_power_of_two() || !(MIB..=256 * MIB).contains(&u64::from(block_bytes)) {
        return Err(Refusal::damaged(format!("has blocks of {block_bytes} bytes")).into());
    }
    Ok(Header { size: Fields(&item(DISK_SIZE, 8)?).le_u64(0)?, backing: None })
}

fn differs() -> Refusal {
    let next = "a merge of it into its parent, where it was made";
    Refusal::unwanted("stores what differs from another disk", next)
}

/// A log that has something in it has to be replayed by who may write the file.
fn check_log(image: &Image<'_>) -> Result<(), Stop> {
    let mut newest: Option<(u64, [u8; 16])> = None;
    for at in HEADERS {
        let bytes = image.bytes(at, HEADER_BYTES)?;
        let header = Fields(&bytes);
        if header.slice(0, 4)? != b"head" || !is_whole(&bytes)? {
            continue;
        }
        let (sequence, log) = (header.le_u64(8)?, header.array(48)?);
        if newest.is_none_or(|(newest, _)| newest < sequence) {
            newest = Some((sequence, log));
        }
    }
    match newest {
        None => Err(Refusal::damaged("has no header that is whole").into()),
        Some((_, log)) if log != [0; 16] => {
            let why = "was not closed: its log has to be replayed first";
            Err(Refusal::unwanted(why, "qemu-img check -f vhdx -r all on a copy of it").into())
        }
        Some(_) => Ok(()),
    }
}

fn metadata_offset(image: &Image<'_>) -> Result<u64, Stop> {
    for at in REGION_TABLES {
        let bytes = image.bytes(at, TABLE_BYTES)?;
        let table = Fields(&bytes);
        if table.slice(0, 4)? != b"regi" || !is_whole(&bytes)? {
            continue;
        }
        let count = index(table.le_u32(8)?);
        if count > REGIONS_MAX {
            return Err(Refusal::damaged(format!("has {count} regions")).into());
        }
        for entry in (0..count).map(|number| 16 + number * 32) {
            if table.array(entry)? == METADATA_REGION {
                let offset = table.le_u64(entry + 16)?;
                let is_inside = offset >= MIB && offset.is_multiple_of(MIB) && offset < image.length();
                return if is_inside {
                    Ok(offset)
                } else {
                    Err(Refusal::damaged("ends before its metadata").into())
                };
            }
        }
    }
    Err(Refusal::damaged("has no table of regions that is whole").into())
}

/// Where an item lies in the metadata region.
fn find(table: Fields<'_>, id: [u8; 16]) -> Result<Option<u32>, Stop> {
    let count = index(table.le_u16(10)?);
    if count > METADATA_ENTRIES_MAX {
        return Err(Refusal::damaged(format!("has {count} items of metadata")).into());
    }
    for entry in (0..count).map(|number| 32 + number * 32) {
        if table.array(entry)? == id {
            return Ok(Some(table.le_u32(entry + 16)?));
        }
    }
    Ok(None)
}

/// Whether its checksum, CRC-32C, is right.
fn is_whole(bytes: &[u8]) -> Result<bool, Stop> {
    let stored = Fields(bytes).le_u32(CHECKSUM.start)?;
    let parts = [&bytes[..CHECKSUM.start], &[0; 4], &bytes[CHECKSUM.end..]];
    Ok(parts.into_iter().fold(0, crc32c::crc32c_append) == stored)
}
