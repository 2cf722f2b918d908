//! The devices of a pool after the first, as a superblock names them.

use super::CopyDamage;
use super::fields::{Field, Row, fills};
use crate::geometry::DEVICES_MAX;
use crate::ids::DeviceId;
use cow_tree::units::index_of;

/// One of them; its place in the list is its index, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Further {
    pub(crate) id: DeviceId,
    /// Blocks of it that the pool uses.
    pub(crate) blocks: u64,
}

const FURTHER_BYTES: usize = 24;
/// Bytes of the whole table.
pub(super) const TABLE_BYTES: usize = (DEVICES_MAX - 1) * FURTHER_BYTES;

const ID: Field<16> = Field::at(0);
const BLOCKS: Field<8> = Field::at(16);

pub(crate) const FURTHER_LAYOUT: &[Row] = &[ID.row("device id"), BLOCKS.row("device blocks")];
const _: () = assert!(fills(FURTHER_LAYOUT, FURTHER_BYTES));

/// # Panics
/// If there are more than a pool can have.
pub(super) fn encode(devices: &[Further]) -> [u8; TABLE_BYTES] {
    assert!(devices.len() < DEVICES_MAX, "a geometry bounds the devices");
    let mut table = [0; TABLE_BYTES];
    for (entry, device) in table.chunks_exact_mut(FURTHER_BYTES).zip(devices) {
        ID.put(entry, device.id.0);
        BLOCKS.put_u64(entry, device.blocks);
    }
    table
}

pub(super) fn parse(count: u32, table: &[u8; TABLE_BYTES]) -> Result<Vec<Further>, CopyDamage> {
    if index_of(count) >= DEVICES_MAX {
        return Err(CopyDamage::Field("number of further devices"));
    }
    let entries = table.chunks_exact(FURTHER_BYTES).take(index_of(count));
    Ok(entries.map(|entry| Further { id: DeviceId(ID.get(entry)), blocks: BLOCKS.u64(entry) }).collect())
}
