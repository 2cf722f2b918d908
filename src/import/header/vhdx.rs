//! The headers of VHDX: "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format", Microsoft. What they lead to, the regions and the
//! metadata, tells where the table of blocks lies and how it is read.
//!
//! ```text
//! 0         64 KiB     128 KiB    192 KiB   256 KiB   1 MiB
//! identifier | header 1 | header 2 | regions | regions | log, metadata, table of blocks, blocks, each at a mebibyte
//! ```

mod metadata;
mod regions;

use super::fields::Fields;
use super::{Header, Image, Refusal, Stop};
use crate::import::blocks::BlockTable;
use crate::size::Iec;
use regions::Regions;
use std::ops::Range;

const MAGIC: &[u8] = b"vhdxfile";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const HEADER_BYTES: usize = 4096;
/// Twice what the largest disk takes: what is counted per mebibyte of a file has a bound.
const FILE_BYTES_MAX: u64 = 128 << 40;
/// A checksum lies behind its signature and counts as zero.
const CHECKSUM: Range<usize> = 4..8;

pub(super) fn check(image: &Image<'_>) -> Result<Header, Stop> {
    if image.bytes(0, MAGIC.len())? != MAGIC {
        return Err(Refusal::unwanted("is not vhdx", "--format with the file's own format").into());
    }
    if image.length() > FILE_BYTES_MAX {
        let why = format!("has {}, and no vhdx has more than {}", Iec(image.length()), Iec(FILE_BYTES_MAX));
        return Err(Refusal::damaged(why).into());
    }
    let log = newest(image)?.empty_log(image)?;
    let regions = Regions::read(image)?;
    let geometry = metadata::read(image, &regions.metadata)?;
    let mut parts = vec![0..MIB, log];
    parts.extend(regions.all);
    parts.sort_by_key(|part| part.start);
    if let Some(pair) = parts.windows(2).find(|pair| pair[1].start < pair[0].end) {
        let why = format!("has two of its parts at byte {}", pair[1].start);
        return Err(Refusal::damaged(why).into());
    }
    let table_bytes = regions.table.end - regions.table.start;
    let blocks = BlockTable::new(geometry, regions.table, parts).ok_or_else(|| {
        Refusal::damaged(format!("has a table of {table_bytes} bytes, too few for the blocks of its disk"))
    })?;
    Ok(Header { size: geometry.disk_bytes, backing: None, blocks: Some(blocks) })
}

/// A header that is whole.
struct Newest {
    sequence: u64,
    bytes: Vec<u8>,
}

/// Of the two headers the one that was written last. Of one number there is one header.
fn newest(image: &Image<'_>) -> Result<Newest, Stop> {
    let mut newest: Option<Newest> = None;
    for at in HEADERS {
        let bytes = image.bytes(at, HEADER_BYTES)?;
        if Fields(&bytes).slice(0, 4)? != b"head" || !is_whole(&bytes)? {
            continue;
        }
        let sequence = Fields(&bytes).le_u64(8)?;
        match &newest {
            Some(other) if other.sequence > sequence => {}
            Some(other) if other.sequence == sequence && other.bytes != bytes => {
                let why = format!("has two headers that differ and are both number {sequence}");
                return Err(Refusal::damaged(why).into());
            }
            _ => newest = Some(Newest { sequence, bytes }),
        }
    }
    newest.ok_or_else(|| Refusal::damaged("has no header that is whole").into())
}

impl Newest {
    /// Where the log lies. One that has something in it has to be replayed by who may write the file.
    fn empty_log(&self, image: &Image<'_>) -> Result<Range<u64>, Stop> {
        let header = Fields(&self.bytes);
        let (log_version, version) = (header.le_u16(64)?, header.le_u16(66)?);
        if (log_version, version) != (0, 1) {
            let why =
                format!("has version {version} and a log of version {log_version}, and 1 and 0 are known");
            return Err(Refusal::damaged(why).into());
        }
        if header.array(48)? != [0; 16] {
            let why = "was not closed: its log has to be replayed first";
            return Err(Refusal::unwanted(why, "qemu-img check -f vhdx -r all on a copy of it").into());
        }
        part(image, "log", header.le_u64(72)?, header.le_u32(68)?)
    }
}

/// A part of the file; all of them lie in whole mebibytes behind the first.
fn part(image: &Image<'_>, name: &str, offset: u64, length: u32) -> Result<Range<u64>, Stop> {
    let end = offset.checked_add(u64::from(length)).filter(|end| *end <= image.length());
    let Some(end) = end else {
        let why = format!("ends before its {name}, of {length} bytes at byte {offset}");
        return Err(Refusal::damaged(why).into());
    };
    if length == 0 || offset < MIB || !offset.is_multiple_of(MIB) || !end.is_multiple_of(MIB) {
        let why = format!("has its {name} where none can be, of {length} bytes at byte {offset}");
        return Err(Refusal::damaged(why).into());
    }
    Ok(offset..end)
}

/// Whether its checksum, CRC-32C, is right.
fn is_whole(bytes: &[u8]) -> Result<bool, Stop> {
    let stored = Fields(bytes).le_u32(CHECKSUM.start)?;
    let parts = [&bytes[..CHECKSUM.start], &[0; 4], &bytes[CHECKSUM.end..]];
    Ok(parts.into_iter().fold(0, crc32c::crc32c_append) == stored)
}
