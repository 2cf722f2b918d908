//! The header of qcow2, versions 2 and 3: <https://github.com/qemu/qemu/blob/master/docs/interop/qcow2.rst>.

use super::fields::{Fields, index};
use super::{Backing, Header, Image, Refusal, Stop, shown};
use crate::image_format::ImageFormat;

const MAGIC: &[u8] = b"QFI\xfb";
/// The header and its extensions are in the first cluster, of which more is not looked at.
const FIRST_CLUSTER_BYTES_MAX: u32 = 64 << 10;
const EXTENSIONS_MAX: usize = 64;
/// As in QEMU: bytes of the tables that are read when an image is opened.
const L1_BYTES_MAX: u64 = 32 << 20;
const REFCOUNT_TABLE_BYTES_MAX: u64 = 8 << 20;
const SNAPSHOTS_MAX: u32 = 65_536;
const BACKING_NAME_BYTES_MAX: u32 = 1023;

const BACKING_FORMAT: u32 = 0xe279_2aca;
const DATA_FILE: u32 = 0x4441_5441;
const ENCRYPTION: u32 = 0x0537_be77;

/// Bits of the incompatible features.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;

pub(super) fn check(image: &Image<'_>) -> Result<Header, Stop> {
    let bytes = image.bytes(0, index(FIRST_CLUSTER_BYTES_MAX))?;
    let fields = Fields(&bytes);
    if fields.slice(0, 4)? != MAGIC {
        return Err(Refusal::unwanted("is not qcow2", "--format with the file's own format").into());
    }
    let layout = Layout::read(fields)?;
    layout.check_features(fields)?;
    layout.check_tables(fields, image.length())?;
    let backing_format = check_extensions(fields, &layout)?;
    let backing = backing(fields, &layout, backing_format)?;
    Ok(Header { size: fields.be_u64(24)?, backing, blocks: None })
}

/// What decides where everything else is.
struct Layout {
    version: u32,
    cluster_bytes: u64,
    header_bytes: u32,
    incompatible: u64,
}

impl Layout {
    fn read(fields: Fields<'_>) -> Result<Self, Stop> {
        let version = fields.be_u32(4)?;
        let cluster_bits = fields.be_u32(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(Refusal::damaged(format!("has clusters of 2^{cluster_bits} bytes")).into());
        }
        let (header_bytes, incompatible) = match version {
            2 => (72, 0),
            3 => (fields.be_u32(100)?, fields.be_u64(72)?),
            _ => return Err(Refusal::damaged(format!("is qcow2 of version {version}")).into()),
        };
        let cluster_bytes = 1 << cluster_bits;
        let is_sane = header_bytes.is_multiple_of(8) && u64::from(header_bytes) <= cluster_bytes;
        if version == 3 && (header_bytes < 104 || !is_sane) {
            return Err(Refusal::damaged(format!("has a header of {header_bytes} bytes")).into());
        }
        Ok(Self { version, cluster_bytes, header_bytes, incompatible })
    }

    fn check_features(&self, fields: Fields<'_>) -> Result<(), Stop> {
        if fields.be_u32(32)? != 0 {
            let next = "qemu-img convert with its key, then an import of that";
            return Err(Refusal::unwanted("is encrypted", next).into());
        }
        if self.incompatible & EXTERNAL_DATA != 0 {
            let next = "qemu-img convert -O qcow2, where its data file is known and trusted";
            return Err(Refusal::unwanted("has its data in another file", next).into());
        }
        if self.incompatible & CORRUPT != 0 {
            let next = "qemu-img check -r all on a copy of it";
            return Err(Refusal::unwanted("is marked as corrupt", next).into());
        }
        if self.incompatible & !KNOWN != 0 {
            let why = format!("has features nobody knows here: {:#x}", self.incompatible & !KNOWN);
            return Err(Refusal::unwanted(why, "qemu-img convert -O qcow2 where it was made").into());
        }
        if self.incompatible & EXTENDED_L2 != 0 && self.cluster_bytes < 1 << 14 {
            return Err(Refusal::damaged("has extended entries for clusters that are too small").into());
        }
        let compression = if self.header_bytes > 104 { fields.array::<1>(104)?[0] } else { 0 };
        let is_told = self.incompatible & COMPRESSION_TYPE != 0;
        if compression > 1 || is_told != (compression != 0) {
            return Err(Refusal::damaged(format!("is compressed in a way {compression} nobody knows")).into());
        }
        Ok(())
    }

    fn check_tables(&self, fields: Fields<'_>, length: u64) -> Result<(), Stop> {
        let size = fields.be_u64(24)?;
        let entry_bytes = if self.incompatible & EXTENDED_L2 != 0 { 16 } else { 8 };
        let mapped_by_one = self.cluster_bytes * (self.cluster_bytes / entry_bytes);
        let (l1_entries, l1_offset) = (fields.be_u32(36)?, fields.be_u64(40)?);
        let l1_bytes = u64::from(l1_entries) * 8;
        if l1_bytes > L1_BYTES_MAX || u64::from(l1_entries) < size.div_ceil(mapped_by_one) {
            return Err(Refusal::damaged(format!("has a table of {l1_entries} entries")).into());
        }
        let (refcount_offset, refcount_clusters) = (fields.be_u64(48)?, fields.be_u32(56)?);
        let refcount_bytes = u64::from(refcount_clusters) * self.cluster_bytes;
        if refcount_clusters == 0 || refcount_bytes > REFCOUNT_TABLE_BYTES_MAX {
            return Err(Refusal::damaged(format!("counts references in {refcount_clusters} clusters")).into());
        }
        if self.version == 3 && fields.be_u32(96)? > 6 {
            return Err(Refusal::damaged("counts references with more than 64 bits").into());
        }
        let (snapshots, snapshots_offset) = (fields.be_u32(60)?, fields.be_u64(64)?);
        if snapshots > SNAPSHOTS_MAX {
            return Err(Refusal::damaged(format!("has {snapshots} snapshots")).into());
        }
        let is_inside = |offset: u64, bytes: u64| {
            offset.is_multiple_of(self.cluster_bytes)
                && offset >= self.cluster_bytes
                && offset.checked_add(bytes).is_some_and(|end| end <= length)
        };
        // A table's last cluster may end with the file.
        let tables = [
            ("map", l1_offset, l1_bytes),
            ("reference counts", refcount_offset, 8),
            ("snapshots", snapshots_offset, u64::from(snapshots) * 40),
        ];
        match tables.into_iter().find(|(_, offset, bytes)| *bytes > 0 && !is_inside(*offset, *bytes)) {
            Some((name, offset, _)) => {
                let why = format!("has its {name} at byte {offset} and is {length} bytes long");
                Err(Refusal::damaged(why).into())
            }
            None => Ok(()),
        }
    }
}

/// Extensions are looked at for what they lead to; gives the format of the backing file.
fn check_extensions(fields: Fields<'_>, layout: &Layout) -> Result<Option<Vec<u8>>, Stop> {
    let mut format = None;
    let mut at = index(layout.header_bytes);
    let end = index(layout.cluster_bytes.min(u64::from(FIRST_CLUSTER_BYTES_MAX)));
    for _ in 0..EXTENSIONS_MAX {
        // Without room for another one there is none; so QEMU has it.
        if at.saturating_add(8) > end || fields.0.len() < at + 8 {
            return Ok(format);
        }
        let (kind, length) = (fields.be_u32(at)?, index(fields.be_u32(at + 4)?));
        if length > end - at - 8 {
            return Err(Refusal::damaged("has an extension of its header that is too long").into());
        }
        let content = fields.slice(at + 8, length)?;
        match kind {
            0 => return Ok(format),
            BACKING_FORMAT => format = Some(content.to_vec()),
            DATA_FILE => {
                let why = format!("has its data in another file, {}", shown(content));
                let next = "qemu-img convert -O qcow2, where that file is known and trusted";
                return Err(Refusal::unwanted(why, next).into());
            }
            ENCRYPTION => {
                return Err(Refusal::unwanted("is encrypted", "qemu-img convert with its key").into());
            }
            _ => {}
        }
        at += 8 + length.next_multiple_of(8);
    }
    Err(Refusal::damaged("has extensions of its header without an end").into())
}

fn backing(fields: Fields<'_>, layout: &Layout, format: Option<Vec<u8>>) -> Result<Option<Backing>, Stop> {
    let (offset, length) = (fields.be_u64(8)?, fields.be_u32(16)?);
    if offset == 0 {
        return Ok(None);
    }
    let end = offset.saturating_add(u64::from(length));
    if length > BACKING_NAME_BYTES_MAX || end > layout.cluster_bytes {
        return Err(Refusal::damaged(format!("names a backing file with {length} bytes")).into());
    }
    let name = fields.slice(index(offset), index(length))?.to_vec();
    let said = shown(&name);
    let format = match format.as_deref() {
        Some(b"raw") => ImageFormat::Raw,
        Some(b"qcow2") => ImageFormat::Qcow2,
        Some(b"vmdk") => ImageFormat::Vmdk,
        Some(b"vhdx") => ImageFormat::Vhdx,
        Some(other) => {
            let why = format!("has a backing file, {said}, of the format {}", shown(other));
            return Err(Refusal::unwanted(why, "qemu-img convert -O qcow2, then an import of that").into());
        }
        None => {
            let why = format!("has a backing file, {said}, and does not say of which format");
            return Err(Refusal::unwanted(why, "qemu-img rebase -u -F FORMAT -b FILE").into());
        }
    };
    Ok(Some(Backing { name, format }))
}
