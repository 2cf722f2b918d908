//! The mark on a further device: which opening had it last. The superblock names that opening too, so a device, or a
//! first device, that was away while the others were written is found out.
//!
//! * M1 A mark is written to the slot that does not name the opening the superblock names, and is durable before a
//!   superblock names the new opening; afterwards the other slot is written, too. So at every moment one slot of every
//!   device names the superblock's opening, and once an opening has begun none names an earlier one.

use crate::geometry::at;
use crate::ids::DeviceId;
use crate::superblock::fields::{Field, Row, fills};
use cow_tree::units::{BLOCK_BYTES, BlockAddress, Generation, PoolId};

const MAGIC: [u8; 8] = *b"OFSTMARK";
const FORMAT: u32 = 1;
/// The two slots, blocks of the device.
const SLOTS: [u64; 2] = [1, 2];

const MAGIC_AT: Field<8> = Field::at(0);
const FORMAT_AT: Field<4> = Field::at(8);
const CHECKSUM: Field<4> = Field::at(12);
const POOL: Field<16> = Field::at(16);
const DEVICE: Field<16> = Field::at(32);
const INCARNATION: Field<16> = Field::at(48);
const GENERATION: Field<8> = Field::at(64);
const REST: Field<4024> = Field::at(72);

pub(crate) const LAYOUT: &[Row] = &[
    MAGIC_AT.row("magic"),
    FORMAT_AT.row("format"),
    CHECKSUM.row("checksum"),
    POOL.row("pool id"),
    DEVICE.row("device id"),
    INCARNATION.row("incarnation"),
    GENERATION.row("generation"),
    REST.row("zero"),
];
const _: () = assert!(fills(LAYOUT, BLOCK_BYTES));

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) pool: PoolId,
    pub(crate) device: DeviceId,
    /// Of the opening.
    pub(crate) incarnation: [u8; 16],
    /// Of the superblock that names that opening.
    pub(crate) generation: Generation,
}

impl Mark {
    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut page = [0; BLOCK_BYTES];
        MAGIC_AT.put(&mut page, MAGIC);
        FORMAT_AT.put_u32(&mut page, FORMAT);
        POOL.put(&mut page, self.pool.0);
        DEVICE.put(&mut page, self.device.0);
        INCARNATION.put(&mut page, self.incarnation);
        GENERATION.put_u64(&mut page, self.generation.0);
        let checksum = CHECKSUM.checksum(&page);
        CHECKSUM.put_u32(&mut page, checksum);
        page
    }

    /// `None` when it is not a whole mark.
    pub(crate) fn parse(block: &[u8]) -> Option<Self> {
        let page: &[u8; BLOCK_BYTES] = block.try_into().ok()?;
        let is_whole = MAGIC_AT.get(page) == MAGIC
            && CHECKSUM.u32(page) == CHECKSUM.checksum(page)
            && FORMAT_AT.u32(page) == FORMAT;
        is_whole.then(|| Self {
            pool: PoolId(POOL.get(page)),
            device: DeviceId(DEVICE.get(page)),
            incarnation: INCARNATION.get(page),
            generation: Generation(GENERATION.u64(page)),
        })
    }
}

/// Where the marks of a device are.
pub(crate) fn homes(device: usize) -> [BlockAddress; 2] {
    SLOTS.map(|block| at(device, block))
}

#[cfg(test)]
mod tests {
    use super::Mark;
    use crate::ids::DeviceId;
    use cow_tree::units::{Generation, PoolId};

    #[test]
    fn a_mark_comes_back_and_every_flipped_bit_is_detected() {
        let mark = Mark {
            pool: PoolId([1; 16]),
            device: DeviceId([2; 16]),
            incarnation: [3; 16],
            generation: Generation(4),
        };
        let page = mark.encode();
        assert_eq!(Mark::parse(&page), Some(mark));
        for bit in 0..page.len() * 8 {
            let mut flipped = page;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::parse(&flipped), None, "bit {bit}");
        }
        assert_eq!(Mark::parse(&page[1..]), None);
    }
}
