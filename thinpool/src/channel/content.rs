//! The bytes of a chunk: widened to whole blocks, completed with what was there, cut to what is written.

use super::plan::{Chunk, Edge, Intent};
use crate::mutants::{self, Mutant};
use blockstore::Buffer;
use cow_tree::units::{BLOCK_BYTES, BlockAddress, LogicalBlock};

/// The chunk's bytes: the guest's own buffer where it has whole blocks in memory of the alignment, in bytes, else a copy
/// inside whole blocks.
pub(super) fn take_content(data: &mut Option<Buffer>, chunk: &Chunk, alignment: usize) -> Option<Buffer> {
    let length = usize::try_from(chunk.bytes.end - chunk.bytes.start).expect("a chunk is short");
    let covering = bytes_of(chunk.blocks.end.0 - chunk.blocks.start.0);
    match chunk.intent {
        Intent::Trim => None,
        // Whole blocks are unmapped, not written.
        Intent::Erase if length == covering => None,
        Intent::Fill | Intent::Erase => Some(Buffer::zeroed(covering)),
        Intent::Store => {
            let mut part = data.take().expect("a write has its data until the last chunk");
            if length < part.len() {
                *data = Some(part.split_off(length));
            }
            if length == covering && part.is_aligned(alignment) {
                return Some(part);
            }
            let mut whole = Buffer::zeroed(covering);
            let head = head_bytes(chunk);
            whole[head..head + length].copy_from_slice(&part);
            Some(whole)
        }
    }
}

/// Whether a write needs no look at its bytes but this one, which may be of memory that changes: whole blocks, as the device
/// wants them, none of which begins with zeros.
pub(super) fn is_written_as_it_is(offset: u64, data: &Buffer, alignment: usize) -> bool {
    let block = u64::try_from(BLOCK_BYTES).expect("small");
    let is_whole = offset.is_multiple_of(block) && data.len().is_multiple_of(BLOCK_BYTES);
    let begins_with_data = |at: usize| {
        let mut first = [0; size_of::<u64>()];
        data.copy_to(at, &mut first);
        first != [0; size_of::<u64>()]
    };
    is_whole && data.is_aligned(alignment) && (0..data.len()).step_by(BLOCK_BYTES).all(begins_with_data)
}

fn head_bytes(chunk: &Chunk) -> usize {
    usize::try_from(chunk.bytes.start % u64::try_from(BLOCK_BYTES).expect("small"))
        .expect("less than a block")
}

/// The guest's own bytes inside the widened content.
pub(super) fn own_bytes<'a>(content: &'a [u8], chunk: &Chunk) -> &'a [u8] {
    let head = head_bytes(chunk);
    let length = usize::try_from(chunk.bytes.end - chunk.bytes.start).expect("a chunk is short");
    &content[head..head + length]
}

pub(super) fn bytes_of(blocks: u64) -> usize {
    usize::try_from(blocks).expect("a chunk is short") * BLOCK_BYTES
}

/// Fills the part of an edge block that the guest did not write with what was there.
pub(super) fn complete_edge(content: &mut Buffer, chunk: &Chunk, edge: Edge, old: Option<Buffer>) {
    let Some(old) = old else { return };
    if mutants::active(Mutant::PartialNotFilled) {
        return;
    }
    let at = bytes_of(edge.block.0 - chunk.blocks.start.0);
    let block_start = edge.block.0 * u64::try_from(BLOCK_BYTES).expect("small");
    let inside = |offset: u64| usize::try_from(offset.saturating_sub(block_start)).unwrap_or(BLOCK_BYTES);
    let head = inside(chunk.bytes.start).min(BLOCK_BYTES);
    let tail = inside(chunk.bytes.end).min(BLOCK_BYTES);
    content[at..at + head].copy_from_slice(&old[..head]);
    content[at + tail..at + BLOCK_BYTES].copy_from_slice(&old[tail..]);
}

pub(super) fn skip(mut content: Buffer, at: LogicalBlock, to: LogicalBlock) -> Buffer {
    if at == to { content } else { content.split_off(bytes_of(to.0 - at.0)) }
}

/// Only the guest's own bytes of blocks that are overwritten in place.
pub(super) fn trimmed(
    mut part: Buffer,
    start: LogicalBlock,
    address: BlockAddress,
    chunk: &Chunk,
) -> (u64, Buffer) {
    let first = start.0 * u64::try_from(BLOCK_BYTES).expect("small");
    let end = first + u64::try_from(part.len()).expect("a length");
    let mut offset = address.byte_offset();
    if chunk.bytes.end < end {
        let keep = usize::try_from(chunk.bytes.end - first).expect("within the part");
        drop(part.split_off(keep));
    }
    if first < chunk.bytes.start {
        let cut = chunk.bytes.start - first;
        part = part.split_off(usize::try_from(cut).expect("less than a block"));
        offset += cut;
    }
    (offset, part)
}
