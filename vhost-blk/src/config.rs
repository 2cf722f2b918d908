//! The device's configuration space: `struct virtio_blk_config` of virtio 1.2, section 5.2.4. Little-endian.

use crate::limits::{DISCARD_SECTORS_MAX, SECTOR_BYTES, SEGMENT_BYTES_MAX, SEGMENTS_MAX};

pub(crate) const CONFIG_BYTES: usize = 60;
/// Where the only byte is that a driver may write: 1 for write-back, 0 for write-through.
pub(crate) const WRITEBACK_AT: u32 = 32;
/// Sectors of an engine's block: what should not be written in parts.
const BLOCK_SECTORS: u16 = 8;
const BLOCK_EXPONENT: u8 = 3;

/// What of the configuration changes from export to export.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) queues: u16,
    pub(crate) writeback: bool,
}

/// The whole space as a driver reads it.
pub(crate) fn encode(shape: &Shape) -> [u8; CONFIG_BYTES] {
    let mut space = [0; CONFIG_BYTES];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(shape.size / SECTOR_BYTES).to_le_bytes());
    put(8, &SEGMENT_BYTES_MAX.to_le_bytes());
    put(12, &SEGMENTS_MAX.to_le_bytes());
    put(20, &u32::try_from(SECTOR_BYTES).expect("512").to_le_bytes());
    put(24, &[BLOCK_EXPONENT, 0]);
    put(26, &BLOCK_SECTORS.to_le_bytes());
    put(28, &u32::from(BLOCK_SECTORS).to_le_bytes());
    put(32, &[u8::from(shape.writeback)]);
    put(34, &shape.queues.to_le_bytes());
    put(36, &DISCARD_SECTORS_MAX.to_le_bytes());
    put(40, &1_u32.to_le_bytes());
    put(44, &u32::from(BLOCK_SECTORS).to_le_bytes());
    put(48, &DISCARD_SECTORS_MAX.to_le_bytes());
    put(52, &1_u32.to_le_bytes());
    put(56, &[1]);
    space
}

/// The part a monitor asks for, padded with zeros behind the end: monitors ask for more and for less than there is.
pub(crate) fn window(space: &[u8; CONFIG_BYTES], offset: u32, length: u32) -> Vec<u8> {
    let byte = |at: u32| {
        let at = usize::try_from(offset.saturating_add(at)).unwrap_or(usize::MAX);
        space.get(at).copied().unwrap_or(0)
    };
    (0..length).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::{Shape, encode, window};

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let space = encode(&Shape { size: 1 << 30, queues: 4, writeback: true });
        assert_eq!(space[0..8], (1_u64 << 21).to_le_bytes(), "capacity in sectors");
        assert_eq!(space[8..12], (128_u32 << 10).to_le_bytes(), "size_max");
        assert_eq!(space[12..16], 126_u32.to_le_bytes(), "seg_max");
        assert_eq!(space[20..24], 512_u32.to_le_bytes(), "blk_size");
        assert_eq!(space[24..26], [3, 0], "physical_block_exp, alignment_offset");
        assert_eq!(space[26..28], 8_u16.to_le_bytes(), "min_io_size in blocks");
        assert_eq!(space[28..32], 8_u32.to_le_bytes(), "opt_io_size in blocks");
        assert_eq!(space[32], 1, "writeback");
        assert_eq!(space[34..36], 4_u16.to_le_bytes(), "num_queues");
        for (at, what) in [(36, "discard"), (48, "write_zeroes")] {
            assert_eq!(space[at..at + 4], (1_u32 << 21).to_le_bytes(), "max_{what}_sectors");
            assert_eq!(space[at + 4..at + 8], 1_u32.to_le_bytes(), "max_{what}_seg");
        }
        assert_eq!(space[44..48], 8_u32.to_le_bytes(), "discard_sector_alignment");
        assert_eq!(space[56], 1, "write_zeroes_may_unmap");
    }

    #[test]
    fn a_window_has_the_length_asked_for_wherever_it_begins() {
        let space = encode(&Shape { size: 4096, queues: 1, writeback: false });
        assert_eq!(window(&space, 0, 8), 8_u64.to_le_bytes());
        assert_eq!(window(&space, 56, 8), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(window(&space, u32::MAX, 4), [0; 4]);
        assert_eq!(window(&space, 0, 256).len(), 256);
    }
}
