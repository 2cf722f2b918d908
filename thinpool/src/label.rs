//! The label: block 0 of every device of a pool. Written once, never again.
//!
//! It says whose the device is and nothing that changes; what changes is the superblock's. Magic, format version and
//! checksum lie at the same places in every version to come, so that a label from the future is told from a damaged one.

mod foreign;

pub use foreign::Foreign;

use crate::ids::DeviceId;
use crate::superblock::fields::{Field, Row, fills, text_field};
use cow_tree::units::{BLOCK_BYTES, PoolId, index_of};
use thiserror::Error;

/// The format this build reads and writes, in labels and superblocks.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of the longest pool name.
pub const POOL_NAME_BYTES_MAX: usize = 255;
pub(crate) const MAGIC: [u8; 8] = *b"OFFSHOOT";

const MAGIC_AT: Field<8> = Field::at(0);
const VERSION: Field<4> = Field::at(8);
const CHECKSUM: Field<4> = Field::at(12);
const POOL: Field<16> = Field::at(16);
const DEVICE_INDEX: Field<4> = Field::at(32);
const DEVICE_COUNT: Field<4> = Field::at(36);
const DEVICE_BYTES: Field<8> = Field::at(40);
const CREATED: Field<8> = Field::at(48);
const NAME_BYTES: Field<4> = Field::at(56);
const NAME: Field<256> = Field::at(60);
const DEVICE_ID: Field<16> = Field::at(316);
const REST: Field<3764> = Field::at(332);

pub(crate) const LAYOUT: &[Row] = &[
    MAGIC_AT.row("magic"),
    VERSION.row("format version"),
    CHECKSUM.row("checksum"),
    POOL.row("pool id"),
    DEVICE_INDEX.row("device index"),
    DEVICE_COUNT.row("device count"),
    DEVICE_BYTES.row("device bytes"),
    CREATED.row("created"),
    NAME_BYTES.row("name length"),
    NAME.row("name"),
    DEVICE_ID.row("device id"),
    REST.row("zero"),
];
const _: () = assert!(fills(LAYOUT, BLOCK_BYTES));

/// What the label of one device says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub pool: PoolId,
    /// Place of this device in the pool; device 0 decides.
    pub device_index: u8,
    /// Devices of the pool when this one became one of them.
    pub device_count: u8,
    /// Bytes of the device at that time.
    pub device_bytes: u64,
    /// Seconds since 1970.
    pub created_unix: u64,
    /// At most [`POOL_NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Random; zeros on device 0, which the pool's id names.
    pub device_id: DeviceId,
}

/// Why a block is no label to this build.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelError {
    #[error("this is not an Offshoot pool: {0}")]
    NotAPool(Foreign),
    #[error("the pool has format version {found}, and this build knows versions up to {known}")]
    Newer { found: u32, known: u32 },
    #[error("the pool's label is damaged: {0}")]
    Damaged(&'static str),
}

impl Label {
    /// The label as block 0 holds it.
    ///
    /// # Panics
    /// If the name is longer than [`POOL_NAME_BYTES_MAX`].
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK_BYTES] {
        assert!(self.name.len() <= POOL_NAME_BYTES_MAX, "a pool's name is checked before its label is made");
        let mut page = [0; BLOCK_BYTES];
        MAGIC_AT.put(&mut page, MAGIC);
        VERSION.put_u32(&mut page, FORMAT_VERSION);
        POOL.put(&mut page, self.pool.0);
        DEVICE_INDEX.put_u32(&mut page, self.device_index.into());
        DEVICE_COUNT.put_u32(&mut page, self.device_count.into());
        DEVICE_BYTES.put_u64(&mut page, self.device_bytes);
        CREATED.put_u64(&mut page, self.created_unix);
        let name_bytes = u32::try_from(self.name.len()).expect("asserted to be short");
        NAME_BYTES.put_u32(&mut page, name_bytes);
        NAME.put(&mut page, text_field(&self.name));
        DEVICE_ID.put(&mut page, self.device_id.0);
        let checksum = CHECKSUM.checksum(&page);
        CHECKSUM.put_u32(&mut page, checksum);
        page
    }

    /// Reads block 0 of a device, whatever it holds.
    ///
    /// # Errors
    /// When it is not a whole label of a version this build knows.
    pub fn parse(block: &[u8]) -> Result<Self, LabelError> {
        let page: &[u8; BLOCK_BYTES] =
            block.try_into().map_err(|_| LabelError::Damaged("it is not one block long"))?;
        if MAGIC_AT.get(page) != MAGIC {
            return Err(LabelError::NotAPool(Foreign::recognise(page)));
        }
        if CHECKSUM.u32(page) != CHECKSUM.checksum(page) {
            return Err(LabelError::Damaged("its checksum does not match"));
        }
        match VERSION.u32(page) {
            FORMAT_VERSION => Self::parse_fields(page),
            0 => Err(LabelError::Damaged("it has format version 0")),
            found => Err(LabelError::Newer { found, known: FORMAT_VERSION }),
        }
    }

    fn parse_fields(page: &[u8; BLOCK_BYTES]) -> Result<Self, LabelError> {
        let device_index = u8::try_from(DEVICE_INDEX.u32(page));
        let device_count = u8::try_from(DEVICE_COUNT.u32(page));
        let (Ok(device_index), Ok(device_count)) = (device_index, device_count) else {
            return Err(LabelError::Damaged("no pool has so many devices"));
        };
        if device_index >= device_count {
            return Err(LabelError::Damaged("its device is not one of the pool's"));
        }
        let length = index_of(NAME_BYTES.u32(page));
        if length > POOL_NAME_BYTES_MAX {
            return Err(LabelError::Damaged("the pool's name is too long"));
        }
        let name = str::from_utf8(&NAME.get(page)[..length]).map(str::to_owned);
        Ok(Self {
            pool: PoolId(POOL.get(page)),
            device_index,
            device_count,
            device_bytes: DEVICE_BYTES.u64(page),
            created_unix: CREATED.u64(page),
            name: name.map_err(|_| LabelError::Damaged("the pool's name is not UTF-8"))?,
            device_id: DeviceId(DEVICE_ID.get(page)),
        })
    }
}

#[cfg(test)]
mod tests;
