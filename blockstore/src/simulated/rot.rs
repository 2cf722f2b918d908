//! Damage that happens to a disk at rest: the modes a scrub and an opener must find.

use super::chance::Chance;
use super::disk::SimulatedDisk;
use super::page::{PAGE_BYTES_U64, SECTOR_BYTES, SECTORS_PER_PAGE};
use crate::legality::{bytes, memory};

/// One way in which a page of 4 KiB rots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rot {
    /// One bit, any of its 32,768.
    Bit,
    /// One byte becomes another.
    Byte,
    Zeroed,
    Random,
    /// One sector of 512 bytes becomes zeros.
    Hole,
}

impl Rot {
    pub const ALL: [Self; 5] = [Self::Bit, Self::Byte, Self::Zeroed, Self::Random, Self::Hole];
}

impl SimulatedDisk {
    /// Damages one page of 4 KiB; the seed says where in it. A page that is zeros already may stay what it was.
    pub fn rot(&mut self, page: u64, rot: Rot, seed: u64) {
        assert!((page + 1) * PAGE_BYTES_U64 <= self.size(), "page {page} is not on the disk");
        let mut chance = Chance::new(seed);
        self.edit(page, |contents| match rot {
            Rot::Bit => {
                let bit = chance.below(bytes(contents.len()) * 8);
                contents[memory(bit / 8)] ^= 1 << (bit % 8);
            }
            Rot::Byte => {
                let at = memory(chance.below(bytes(contents.len())));
                let change = u8::try_from(1 + chance.below(255)).expect("at most 255");
                contents[at] ^= change;
            }
            Rot::Zeroed => contents.fill(0),
            Rot::Random => chance.fill(contents),
            Rot::Hole => {
                let sector = memory(chance.below(bytes(SECTORS_PER_PAGE)));
                contents[sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES].fill(0);
            }
        });
    }
}
