//! A random stream of commands that any NBD server has to answer in the same way: legal ones of every kind, and ones that
//! reach behind the end.

use super::nbd_client::{Answer, Command, FUA, NO_HOLE};

pub(crate) const DISK_BYTES: u64 = 8 << 20;
/// Most requests are of whole sectors; the others of any bytes.
const SECTOR_BYTES: u64 = 512;
const BLOCK_BYTES: u64 = 4096;
/// Longest read, write and trim.
const LENGTH_MAX: u64 = 256 << 10;

/// Without an end; the same for the same seed.
#[derive(Debug)]
pub(crate) struct Commands {
    state: u64,
    writes: u64,
}

impl Commands {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed, writes: 0 }
    }

    /// splitmix64
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn grain(&mut self) -> u64 {
        if self.below(4) == 0 { 1 } else { SECTOR_BYTES }
    }

    /// A range in units of `grain`; one in fifty reaches behind the end.
    fn range(&mut self, grain: u64) -> (u64, u32) {
        let offset = self.below(DISK_BYTES / grain) * grain;
        // Mostly short: what is next to it matters more than length.
        let most = if self.below(8) == 0 { LENGTH_MAX } else { 8 * BLOCK_BYTES };
        let length = (1 + self.below(most / grain)) * grain;
        let inside = length.min(DISK_BYTES - offset);
        let length = if self.below(50) == 0 { length + DISK_BYTES - offset } else { inside };
        (offset, u32::try_from(length).expect("short"))
    }
}

impl Iterator for Commands {
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        let flags = if self.below(10) == 0 { FUA } else { 0 };
        Some(match self.below(10) {
            0..=3 => {
                let grain = self.grain();
                let (offset, length) = self.range(grain);
                Command::Read { offset, length }
            }
            4..=6 => {
                let grain = self.grain();
                let (offset, length) = self.range(grain);
                self.writes += 1;
                let stamp = if self.below(8) == 0 { 0 } else { self.writes };
                let length = usize::try_from(length).expect("short");
                let data = stamp.to_le_bytes().into_iter().cycle().take(length).collect();
                Command::Write { offset, flags, data }
            }
            // A server may do with parts of blocks what it likes.
            7 => {
                let (offset, length) = self.range(BLOCK_BYTES);
                Command::Trim { offset, flags, length }
            }
            8 => {
                let grain = self.grain();
                let (offset, length) = self.range(grain);
                let flags = flags | if self.below(2) == 0 { NO_HOLE } else { 0 };
                Command::WriteZeroes { offset, flags, length }
            }
            _ => Command::Flush,
        })
    }
}

/// A command and two answers without their data.
pub(crate) fn show(command: &Command, ours: &Answer, theirs: &Answer) -> String {
    let command = match command {
        Command::Write { offset, flags, data } => format!("write {offset}+{} flags {flags}", data.len()),
        other => format!("{other:?}"),
    };
    let difference = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let at = ours.iter().zip(theirs).position(|(one, other)| one != other);
            format!("the data differ from byte {at:?} of the answer on")
        }
        _ => format!("{:?} instead of {:?}", ours.as_ref().map(Vec::len), theirs.as_ref().map(Vec::len)),
    };
    format!("{command}: {difference}")
}
