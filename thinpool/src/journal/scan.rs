//! What a ring holds: the batches to replay, and whether their end is an end.

use super::batch::Header;
use super::ring::behind;
use super::{BatchNumber, Position};
use crate::mutants::{self, Mutant};
use cow_tree::units::{BLOCK_BYTES, Generation, PoolId};
use thiserror::Error;

/// A whole batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub header: Header,
    pub payload: Vec<u8>,
}

/// The batches from a superblock's position on, in order, and where the next one goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub batches: Vec<Batch>,
    pub next: Position,
}

/// A journal that must not be replayed: what was acknowledged is missing from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JournalDamage {
    #[error("the journal has {0} bytes, which is no ring of blocks around the superblock's position")]
    Shape(usize),
    /// J1. Numbers up to `newest` have been used.
    #[error(
        "journal batch {missing} is missing or damaged although a later one, {found}, was written \
         (the newest is {newest})"
    )]
    Hole { missing: BatchNumber, found: BatchNumber, newest: BatchNumber },
    /// J2.
    #[error(
        "journal batch {number} builds on superblock generation {generation}, but the newest superblock found is \
         generation {superblock}: the superblock is older than the journal"
    )]
    SuperblockBehind { number: BatchNumber, generation: Generation, superblock: Generation },
}

/// Reads a whole ring.
///
/// `from` is the position of the superblock that counts, `superblock` its generation. A batch a power cut has torn
/// ends the journal; so does an old lap.
///
/// # Errors
/// When batches are missing before others, or the superblock is not the one they build on.
pub(crate) fn scan(
    ring: &[u8],
    from: Position,
    pool: PoolId,
    superblock: Generation,
) -> Result<Scanned, JournalDamage> {
    let shape = JournalDamage::Shape(ring.len());
    let blocks = u32::try_from(ring.len() / BLOCK_BYTES).map_err(|_| shape)?;
    if !ring.len().is_multiple_of(BLOCK_BYTES) || from.block >= blocks {
        return Err(shape);
    }
    // J2 first: a superblock that is too old also makes holes, and is the truer explanation.
    let headers: Vec<Header> = (0..blocks).filter_map(|block| Header::parse(ring, block, pool)).collect();
    if let Some(header) = headers.iter().find(|header| header.generation > superblock) {
        let (number, generation) = (header.number, header.generation);
        return Err(JournalDamage::SuperblockBehind { number, generation, superblock });
    }
    let scanned = follow(ring, blocks, from, pool);
    match hole(&headers, &scanned) {
        None => Ok(scanned),
        Some(_) if mutants::active(Mutant::JournalHoleIgnored) => Ok(scanned),
        Some(damage) => Err(damage),
    }
}

/// Takes batch after batch, as long as each is the next one and whole.
fn follow(ring: &[u8], blocks: u32, from: Position, pool: PoolId) -> Scanned {
    let (mut next, mut batches, mut walked) = (from, Vec::new(), 0);
    loop {
        let header = Header::parse(ring, next.block, pool).filter(|header| header.number == next.number);
        let Some(header) = header else { break };
        walked += header.blocks();
        if walked > u64::from(blocks) {
            break;
        }
        let Some(payload) = header.payload(ring) else { break };
        next = behind(next, header.blocks(), blocks);
        batches.push(Batch { header, payload });
    }
    Scanned { batches, next }
}

/// J1, J3. A header is evidence even when its payload is torn: it was submitted when all before it was durable.
fn hole(headers: &[Header], scanned: &Scanned) -> Option<JournalDamage> {
    let missing = scanned.next.number;
    let is_evidence = |header: &&Header| header.number >= missing && header.position() != scanned.next;
    let found = headers.iter().filter(is_evidence).map(|header| header.number);
    let (found, newest) = (found.clone().min()?, found.max()?);
    Some(JournalDamage::Hole { missing, found, newest })
}
