//! Where the next batch goes, and whether it has room there.

use super::Position;
use super::batch::{Header, blocks_for};
use cow_tree::units::{BLOCK_BYTES, Generation, PoolId, index_of};
use thiserror::Error;

/// A batch that does not fit between `next` and `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a journal batch of {wanted} blocks does not fit: {free} blocks are free")]
pub(crate) struct RingFull {
    pub wanted: u64,
    pub free: u64,
}

/// A batch ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Ring block and whole blocks of bytes: one write, or two around the ring's end. Their order does not matter.
    pub writes: Vec<(u32, Vec<u8>)>,
    pub position: Position,
}

/// The positions of a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ring {
    blocks: u32,
    start: Position,
    next: Position,
}

impl Ring {
    /// A ring whose batches from `start` up to `next` are still needed.
    ///
    /// # Panics
    /// If a position lies outside the ring: both come from a superblock and a scan that were checked.
    #[must_use]
    pub(crate) fn new(blocks: u32, start: Position, next: Position) -> Self {
        assert!(start.block < blocks && next.block < blocks, "positions lie inside the ring");
        assert!(start.number <= next.number, "the oldest batch is not newer than the next");
        assert!(start.number != next.number || start == next, "a batch has one place");
        Self { blocks, start, next }
    }

    #[must_use]
    pub(crate) fn total_blocks(&self) -> u64 {
        self.blocks.into()
    }

    #[must_use]
    pub(crate) fn free_blocks(&self) -> u64 {
        u64::from(self.blocks - self.used())
    }

    /// Blocks of a batch with so many bytes of payload.
    #[must_use]
    pub(crate) fn blocks_for(&self, payload_bytes: u64) -> u64 {
        blocks_for(payload_bytes)
    }

    /// The oldest batch still needed.
    #[must_use]
    #[cfg(test)]
    pub(crate) fn start_position(&self) -> Position {
        self.start
    }

    /// Where the next batch goes.
    #[must_use]
    pub(crate) fn next_position(&self) -> Position {
        self.next
    }

    /// Makes the next batch, and counts its blocks as used.
    ///
    /// # Errors
    /// When it has no room; nothing has changed then.
    pub(crate) fn place(
        &mut self,
        pool: PoolId,
        generation: u64,
        first_sequence: u64,
        last_sequence: u64,
        payload: &[u8],
    ) -> Result<Placement, RingFull> {
        let wanted = blocks_for(cow_tree::units::length_of(payload.len()));
        let free = self.free_blocks();
        if wanted > free {
            return Err(RingFull { wanted, free });
        }
        let header = Header {
            number: self.next.number,
            generation: Generation(generation),
            first_sequence,
            last_sequence,
            block: self.next.block,
            payload_length: u32::try_from(payload.len()).expect("a ring is shorter than 4 GiB"),
            payload_checksum: crc32c::crc32c(payload),
        };
        let mut bytes = Vec::with_capacity((payload.len() + BLOCK_BYTES).next_multiple_of(BLOCK_BYTES));
        bytes.extend_from_slice(&header.encode(pool));
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let position = self.next;
        self.next = self.behind(position, wanted);
        Ok(Placement { writes: self.split(position.block, bytes), position })
    }

    /// Batches before `position` are not needed any more: a superblock that begins there is durable.
    ///
    /// # Panics
    /// If the position is not between the start and the next batch.
    pub(crate) fn advance_start(&mut self, position: Position) {
        assert!(
            (self.start.number..=self.next.number).contains(&position.number),
            "a journal starts where it started or later"
        );
        *self = Self::new(self.blocks, position, self.next);
    }

    fn split(&self, block: u32, mut bytes: Vec<u8>) -> Vec<(u32, Vec<u8>)> {
        let until_end = index_of(self.blocks - block) * BLOCK_BYTES;
        if bytes.len() <= until_end {
            return vec![(block, bytes)];
        }
        let around = bytes.split_off(until_end);
        vec![(block, bytes), (0, around)]
    }

    fn behind(&self, position: Position, blocks: u64) -> Position {
        behind(position, blocks, self.blocks)
    }

    fn used(&self) -> u32 {
        if self.start.number == self.next.number {
            return 0;
        }
        match self.next.block.checked_sub(self.start.block) {
            Some(0) => self.blocks,
            Some(distance) => distance,
            None => self.blocks - (self.start.block - self.next.block),
        }
    }
}

/// The position behind a batch of so many blocks, in a ring of `ring_blocks`.
pub(super) fn behind(position: Position, blocks: u64, ring_blocks: u32) -> Position {
    let block = (u64::from(position.block) + blocks) % u64::from(ring_blocks);
    let block = u32::try_from(block).expect("a remainder is smaller than the ring");
    Position { number: position.number.next(), block }
}
