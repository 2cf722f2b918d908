//! A batch's header, and whether a batch is whole.

use super::{BatchNumber, Position};
use crate::superblock::fields::{Field, Row, fills};
use cow_tree::units::{BLOCK_BYTES, Generation, PoolId, index_of};

/// Bytes in front of the payload.
pub(super) const HEADER_BYTES: usize = 80;
const MAGIC: [u8; 8] = *b"OFSTJRNL";
const FORMAT: u32 = 1;

const MAGIC_AT: Field<8> = Field::at(0);
const FORMAT_AT: Field<4> = Field::at(8);
const CHECKSUM: Field<4> = Field::at(12);
const POOL: Field<16> = Field::at(16);
const NUMBER: Field<8> = Field::at(32);
const GENERATION: Field<8> = Field::at(40);
const FIRST_SEQUENCE: Field<8> = Field::at(48);
const LAST_SEQUENCE: Field<8> = Field::at(56);
const PAYLOAD_LENGTH: Field<4> = Field::at(64);
const PAYLOAD_CHECKSUM: Field<4> = Field::at(68);
const BLOCK: Field<4> = Field::at(72);
const REST: Field<4> = Field::at(76);

pub(crate) const LAYOUT: &[Row] = &[
    MAGIC_AT.row("magic"),
    FORMAT_AT.row("format"),
    CHECKSUM.row("header checksum"),
    POOL.row("pool id"),
    NUMBER.row("batch number"),
    GENERATION.row("generation it builds on"),
    FIRST_SEQUENCE.row("first sequence"),
    LAST_SEQUENCE.row("last sequence"),
    PAYLOAD_LENGTH.row("payload length"),
    PAYLOAD_CHECKSUM.row("payload checksum"),
    BLOCK.row("own ring block"),
    REST.row("zero"),
];
const _: () = assert!(fills(LAYOUT, HEADER_BYTES));

/// What a batch says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub number: BatchNumber,
    /// The newest durable superblock when the batch was made.
    pub generation: Generation,
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub(super) block: u32,
    pub(super) payload_length: u32,
    pub(super) payload_checksum: u32,
}

impl Header {
    /// Where the batch lies.
    #[must_use]
    pub(crate) fn position(&self) -> Position {
        Position { number: self.number, block: self.block }
    }

    /// Blocks of the batch in its ring.
    pub(super) fn blocks(&self) -> u64 {
        blocks_for(self.payload_length.into())
    }

    pub(super) fn encode(&self, pool: PoolId) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        MAGIC_AT.put(&mut bytes, MAGIC);
        FORMAT_AT.put_u32(&mut bytes, FORMAT);
        POOL.put(&mut bytes, pool.0);
        NUMBER.put_u64(&mut bytes, self.number.0);
        GENERATION.put_u64(&mut bytes, self.generation.0);
        FIRST_SEQUENCE.put_u64(&mut bytes, self.first_sequence);
        LAST_SEQUENCE.put_u64(&mut bytes, self.last_sequence);
        PAYLOAD_LENGTH.put_u32(&mut bytes, self.payload_length);
        PAYLOAD_CHECKSUM.put_u32(&mut bytes, self.payload_checksum);
        BLOCK.put_u32(&mut bytes, self.block);
        let checksum = CHECKSUM.checksum(&bytes);
        CHECKSUM.put_u32(&mut bytes, checksum);
        bytes
    }

    /// The header in ring block `block`, if there is a whole one of this pool that was written there.
    pub(super) fn parse(ring: &[u8], block: u32, pool: PoolId) -> Option<Self> {
        let at = index_of(block).checked_mul(BLOCK_BYTES)?;
        let bytes = ring.get(at..)?.get(..HEADER_BYTES)?;
        let is_ours = MAGIC_AT.get(bytes) == MAGIC
            && CHECKSUM.u32(bytes) == CHECKSUM.checksum(bytes)
            && FORMAT_AT.u32(bytes) == FORMAT
            && POOL.get(bytes) == pool.0
            && BLOCK.u32(bytes) == block;
        is_ours.then(|| Self {
            number: BatchNumber(NUMBER.u64(bytes)),
            generation: Generation(GENERATION.u64(bytes)),
            first_sequence: FIRST_SEQUENCE.u64(bytes),
            last_sequence: LAST_SEQUENCE.u64(bytes),
            block,
            payload_length: PAYLOAD_LENGTH.u32(bytes),
            payload_checksum: PAYLOAD_CHECKSUM.u32(bytes),
        })
    }

    /// The payload, gathered around the ring's end; `None` if it is not whole.
    pub(super) fn payload(&self, ring: &[u8]) -> Option<Vec<u8>> {
        let length = index_of(self.payload_length);
        if (length + HEADER_BYTES).div_ceil(BLOCK_BYTES) * BLOCK_BYTES > ring.len() {
            return None;
        }
        let start = index_of(self.block) * BLOCK_BYTES + HEADER_BYTES;
        let before_end = length.min(ring.len().checked_sub(start)?);
        let mut payload = ring[start..start + before_end].to_vec();
        payload.extend_from_slice(&ring[..length - before_end]);
        (crc32c::crc32c(&payload) == self.payload_checksum).then_some(payload)
    }
}

/// Blocks of a batch with so many bytes of payload.
pub(super) fn blocks_for(payload_bytes: u64) -> u64 {
    let (header, block) = (cow_tree::units::length_of(HEADER_BYTES), cow_tree::units::length_of(BLOCK_BYTES));
    payload_bytes.saturating_add(header).div_ceil(block)
}
