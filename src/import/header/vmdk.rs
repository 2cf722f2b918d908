//! The header of a VMDK in one file: "Virtual Disk Format 5.0", VMware. Kinds: monolithicSparse, streamOptimized.
//!
//! A VMDK that is a list of files is refused whole: each of its lines is a name to open.

use super::fields::{Fields, index};
use super::{Header, Image, Refusal, Stop, shown};

const MAGIC: &[u8] = b"KDMV";
const LIST_OF_FILES: &[u8] = b"# Disk DescriptorFile";
const SECTOR_BYTES: u64 = 512;
const HEADER_BYTES: usize = 512;
/// The directory of grains is told by the last but one sector.
const AT_END: u64 = u64::MAX;
const FOOTER_BYTES: u64 = 1024;
const DESCRIPTOR_BYTES_MAX: u64 = 64 << 10;
/// Entries of a table of grains; the specification knows no other number.
const TABLE_ENTRIES: u32 = 512;
/// Sectors of a grain: 4 KiB to 1 MiB.
const GRAIN_SECTORS_MIN: u64 = 8;
const GRAIN_SECTORS_MAX: u64 = 2048;
const NO_PARENT: &str = "ffffffff";
const KINDS: [&str; 2] = ["monolithicSparse", "streamOptimized"];

pub(super) fn check(image: &Image<'_>) -> Result<Header, Stop> {
    let bytes = image.bytes(0, HEADER_BYTES)?;
    if bytes.starts_with(LIST_OF_FILES) {
        return Err(several("is a list of other files").into());
    }
    if !bytes.starts_with(MAGIC) {
        return Err(Refusal::unwanted("is not vmdk", "--format with the file's own format").into());
    }
    let first = Sparse::read(Fields(&bytes), image.length())?;
    check_descriptor(&descriptor(image, &first)?)?;
    if first.directory == AT_END {
        let at = image.length().checked_sub(FOOTER_BYTES).ok_or_else(|| Refusal::damaged("has no end"))?;
        let bytes = image.bytes(at, HEADER_BYTES)?;
        if !bytes.starts_with(MAGIC) {
            return Err(Refusal::damaged("does not end as it should").into());
        }
        let last = Sparse::read(Fields(&bytes), image.length())?;
        if last.capacity != first.capacity || last.directory == AT_END {
            return Err(Refusal::damaged("ends with another disk than it begins with").into());
        }
    }
    let size = first.capacity.checked_mul(SECTOR_BYTES);
    let size = size.ok_or_else(|| Refusal::damaged("is larger than any disk"))?;
    Ok(Header { size, backing: None, blocks: None })
}

fn several(why: &str) -> Refusal {
    Refusal::unwanted(why, "qemu-img convert -f vmdk -O qcow2, where its files are known and trusted")
}

/// The header of a sparse extent; all but the directory in sectors.
struct Sparse {
    capacity: u64,
    descriptor_start: u64,
    descriptor_length: u64,
    directory: u64,
}

impl Sparse {
    fn read(fields: Fields<'_>, length: u64) -> Result<Self, Stop> {
        let version = fields.le_u32(4)?;
        if !(1..=3).contains(&version) {
            return Err(Refusal::damaged(format!("is vmdk of version {version}")).into());
        }
        let (capacity, grain, tables) = (fields.le_u64(12)?, fields.le_u64(20)?, fields.le_u32(44)?);
        // Without a capacity the descriptor would be taken for a list of files.
        if capacity == 0 {
            return Err(Refusal::damaged("says that its disk is empty").into());
        }
        let is_sane = grain.is_power_of_two() && (GRAIN_SECTORS_MIN..=GRAIN_SECTORS_MAX).contains(&grain);
        if !is_sane || tables != TABLE_ENTRIES {
            return Err(
                Refusal::damaged(format!("has grains of {grain} sectors in tables of {tables}")).into()
            );
        }
        let directory = fields.le_u64(56)?;
        let is_beyond = directory.checked_mul(SECTOR_BYTES).is_none_or(|start| start >= length);
        if directory != AT_END && is_beyond {
            return Err(Refusal::damaged("ends before its directory of grains").into());
        }
        Ok(Self {
            capacity,
            descriptor_start: fields.le_u64(28)?,
            descriptor_length: fields.le_u64(36)?,
            directory,
        })
    }
}

fn descriptor(image: &Image<'_>, sparse: &Sparse) -> Result<String, Stop> {
    let bytes = |sectors: u64| sectors.checked_mul(SECTOR_BYTES);
    let range = bytes(sparse.descriptor_start).zip(bytes(sparse.descriptor_length));
    match range {
        Some((start, length)) if start > 0 && (1..=DESCRIPTOR_BYTES_MAX).contains(&length) => {
            let text = image.bytes(start, index(length))?;
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            Ok(String::from_utf8_lossy(&text[..end]).into_owned())
        }
        Some((0, _) | (_, 0)) => Err(several("is one of several files").into()),
        _ => Err(Refusal::damaged("has a descriptor that is too long").into()),
    }
}

fn check_descriptor(text: &str) -> Result<(), Stop> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let values = |key: &str| {
        let key = key.to_owned();
        lines.clone().into_iter().filter_map(move |line| {
            let (name, value) = line.split_once('=')?;
            name.trim().eq_ignore_ascii_case(&key).then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    for kind in values("createType") {
        if !KINDS.contains(&kind.as_str()) {
            return Err(several(&format!("is of the kind {}", shown(kind.as_bytes()))).into());
        }
    }
    if values("createType").count() != 1 {
        return Err(Refusal::damaged("does not say of which kind it is").into());
    }
    let has_parent = values("parentCID").any(|parent| !parent.eq_ignore_ascii_case(NO_PARENT));
    if let Some(parent) = values("parentFileNameHint").next() {
        return Err(several(&format!("stores what differs from {}", shown(parent.as_bytes()))).into());
    }
    if has_parent {
        return Err(several("stores what differs from another disk").into());
    }
    if lines.iter().any(|line| line.to_ascii_lowercase().starts_with("encryption.")) {
        return Err(Refusal::unwanted("is encrypted", "a copy of the disk without encryption").into());
    }
    let is_extent =
        |line: &&&str| ["RW ", "RDONLY ", "NOACCESS "].iter().any(|access| line.starts_with(access));
    let extents: Vec<&&str> = lines.iter().filter(is_extent).collect();
    match extents.as_slice() {
        [extent] if extent.split_whitespace().nth(2) == Some("SPARSE") => Ok(()),
        [extent] => Err(several(&format!("has its data elsewhere: {}", shown(extent.as_bytes()))).into()),
        _ => Err(several(&format!("consists of {} files", extents.len())).into()),
    }
}
