//! Which of the four copies counts.

use super::codec::Rejected;
use super::features::Bits;
use super::{CopyDamage, FIRST_GENERATION, Superblock};
use crate::geometry::superblock_homes;
use crate::label::FORMAT_VERSION;
use cow_tree::units::{BlockAddress, Generation, PoolId};
use thiserror::Error;

/// The superblock that counts, and copies somebody should write again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub superblock: Superblock,
    /// Copies that are not whole, and of the newest generation also one that is not there.
    pub damaged: Vec<(BlockAddress, CopyDamage)>,
}

/// Why no superblock counts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SuperblockError {
    #[error("no copy of the superblock is whole{}", list(.0))]
    NoneWhole(Vec<(BlockAddress, CopyDamage)>),
    #[error("the pool has format version {found}, and this build knows versions up to {known}")]
    Newer { found: u32, known: u32 },
    #[error("the pool needs features this build does not know (incompatible feature bits {0})")]
    Incompatible(Bits),
    #[error("the two copies of superblock generation {0} are both whole and say different things")]
    Disagreement(Generation),
}

fn list(damaged: &[(BlockAddress, CopyDamage)]) -> String {
    damaged.iter().map(|(home, damage)| format!("; block {}: {damage}", home.in_device())).collect()
}

/// Judges what was read from [`superblock_places`](crate::geometry::superblock_places).
///
/// # Errors
/// When nothing is whole, when two copies contradict each other, or when a copy says that this build must not go on.
pub(crate) fn choose(pool: PoolId, pages: [(BlockAddress, &[u8]); 4]) -> Result<Choice, SuperblockError> {
    let mut whole: Vec<(BlockAddress, Superblock)> = Vec::new();
    let mut damaged = Vec::new();
    for (home, bytes) in pages {
        match Superblock::parse(bytes, home, pool) {
            Ok(superblock) => whole.push((home, superblock)),
            Err(Rejected::Damaged(damage)) => damaged.push((home, damage)),
            Err(Rejected::Newer(found)) => {
                return Err(SuperblockError::Newer { found, known: FORMAT_VERSION });
            }
            Err(Rejected::Incompatible(bits)) => return Err(SuperblockError::Incompatible(bits)),
        }
    }
    let newest = whole.iter().map(|(_, superblock)| superblock.generation).max();
    let Some(newest) = newest else { return Err(SuperblockError::NoneWhole(damaged)) };
    whole.retain(|(home, superblock)| {
        let counts = superblock.generation == newest;
        if !counts && superblock_homes(newest).contains(home) {
            damaged.push((*home, CopyDamage::Behind));
        }
        counts
    });
    if newest == FIRST_GENERATION {
        // Nobody has written the other slot yet.
        damaged
            .retain(|(home, damage)| *damage != CopyDamage::Empty || superblock_homes(newest).contains(home));
    }
    let mut copies = whole.into_iter().map(|(_, superblock)| superblock);
    let superblock = copies.next().expect("the newest generation is that of a copy");
    if copies.any(|copy| copy != superblock) {
        return Err(SuperblockError::Disagreement(newest));
    }
    Ok(Choice { superblock, damaged })
}
