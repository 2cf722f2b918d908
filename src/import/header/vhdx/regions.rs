//! Where the regions of a VHDX lie. Two tables say the same; the first that is whole counts.

use super::super::fields::{Fields, index};
use super::super::{Image, Refusal, Stop};
use super::{KIB, is_whole, part};
use std::ops::Range;

const TABLES: [u64; 2] = [192 * KIB, 256 * KIB];
const TABLE_BYTES: usize = 64 << 10;
const ENTRY_BYTES: usize = 32;
const ENTRIES_MAX: usize = 2047;
const REQUIRED: u32 = 1;

/// Identifiers as they lie in the file.
const BLOCKS: [u8; 16] =
    [0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08];
const METADATA: [u8; 16] =
    [0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e];

/// Ranges of the file, each inside of it.
#[derive(Debug)]
pub(super) struct Regions {
    pub(super) metadata: Range<u64>,
    /// Of the table of blocks.
    pub(super) table: Range<u64>,
    pub(super) all: Vec<Range<u64>>,
}

impl Regions {
    pub(super) fn read(image: &Image<'_>) -> Result<Self, Stop> {
        for at in TABLES {
            let bytes = image.bytes(at, TABLE_BYTES)?;
            if Fields(&bytes).slice(0, 4)? == b"regi" && is_whole(&bytes)? {
                return Self::parse(image, Fields(&bytes));
            }
        }
        Err(Refusal::damaged("has no table of regions that is whole").into())
    }

    fn parse(image: &Image<'_>, table: Fields<'_>) -> Result<Self, Stop> {
        let count = index(table.le_u32(8)?);
        if count > ENTRIES_MAX {
            return Err(Refusal::damaged(format!("has {count} regions")).into());
        }
        let (mut metadata, mut blocks, mut all) = (None, None, Vec::new());
        for entry in (0..count).map(|number| 16 + number * ENTRY_BYTES) {
            let (offset, length) = (table.le_u64(entry + 16)?, table.le_u32(entry + 24)?);
            let (name, place) = match table.array(entry)? {
                METADATA => ("metadata", Some(&mut metadata)),
                BLOCKS => ("table of blocks", Some(&mut blocks)),
                _ if table.le_u32(entry + 28)? & REQUIRED != 0 => {
                    let next = "a conversion of it by what made it";
                    return Err(Refusal::unwanted("needs a region that nobody knows", next).into());
                }
                _ => ("region", None),
            };
            let range = part(image, name, offset, length)?;
            all.push(range.clone());
            if place.is_some_and(|place| place.replace(range).is_some()) {
                return Err(Refusal::damaged(format!("has its {name} twice")).into());
            }
        }
        let lacks = |name| Refusal::damaged(format!("has no {name}"));
        let metadata = metadata.ok_or_else(|| lacks("metadata"))?;
        let table = blocks.ok_or_else(|| lacks("table of blocks"))?;
        Ok(Self { metadata, table, all })
    }
}
