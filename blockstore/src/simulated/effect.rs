//! What an operation does to a disk, as a value: it can be applied, torn, and overtaken by a later one.

use super::chance::Chance;
use super::disk::SimulatedDisk;
use super::page::{PAGE_BYTES, PAGE_BYTES_U64, Page, SECTOR_BYTES, SECTOR_BYTES_U64, SECTORS_PER_PAGE};
use super::profile::Atomicity;
use crate::legality::{bytes, memory};
use std::sync::Arc;

const ALL_SECTORS: u8 = u8::MAX;

/// New contents of some sectors of one page.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    page: u64,
    /// Bit s stands for sector s of the page.
    sectors: u8,
    /// The new bytes, at their places; `None` is zeros.
    source: Option<Arc<Page>>,
}

#[derive(Debug, Clone)]
pub(super) enum Effect {
    Contents(Vec<Patch>),
    /// The disk's new size in bytes.
    Size(u64),
}

/// How much of a write that was under way reached the medium when the power failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tear {
    /// Its first sectors of 512 bytes.
    Prefix { sectors: usize },
    /// Any of its sectors, as the seed says.
    Subset { seed: u64 },
    /// Some first sectors, and garbage in the sector after them if the medium may do that.
    Garbage { seed: u64 },
}

impl Effect {
    /// Offset and length are multiples of 512.
    pub(super) fn write(offset: u64, from: &[u8]) -> Self {
        let patch = |page: u64, sectors: u8| {
            let start = page * PAGE_BYTES_U64;
            let mut contents = [0; PAGE_BYTES];
            let (first, end) = (offset.max(start), (offset + bytes(from.len())).min(start + PAGE_BYTES_U64));
            contents[memory(first - start)..memory(end - start)]
                .copy_from_slice(&from[memory(first - offset)..memory(end - offset)]);
            Patch { page, sectors, source: Page::new(contents) }
        };
        Self::Contents(
            covered(offset, bytes(from.len())).map(|(page, sectors)| patch(page, sectors)).collect(),
        )
    }

    /// Offset and length are multiples of 512.
    pub(super) fn zeros(offset: u64, length: u64) -> Self {
        let patch = |(page, sectors)| Patch { page, sectors, source: None };
        Self::Contents(covered(offset, length).map(patch).collect())
    }

    /// What lies behind the disk's end is lost.
    pub(super) fn apply(&self, disk: &mut SimulatedDisk) {
        match self {
            Self::Contents(patches) => patches.iter().for_each(|patch| patch.apply(disk)),
            Self::Size(length) => disk.resize(*length),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Contents(patches) if patches.is_empty())
    }

    /// Forgets what the later effect has overwritten or cut off.
    pub(super) fn overtaken_by(&mut self, later: &Self) {
        let Self::Contents(patches) = self else { return };
        match later {
            Self::Contents(later) => {
                for patch in &mut *patches {
                    // Both ascend by page.
                    if let Ok(at) = later.binary_search_by_key(&patch.page, |other| other.page) {
                        patch.sectors &= !later[at].sectors;
                    }
                }
            }
            Self::Size(length) => {
                patches.iter_mut().for_each(|patch| patch.sectors &= inside(patch.page, *length))
            }
        }
        patches.retain(|patch| patch.sectors != 0);
    }

    /// Whether the two have a sector in common, or one of them changes the size.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Contents(mine), Self::Contents(others)) => mine.iter().any(|patch| {
                let at = others.binary_search_by_key(&patch.page, |other| other.page);
                at.is_ok_and(|at| others[at].sectors & patch.sectors != 0)
            }),
            _ => true,
        }
    }

    /// How many sectors it writes.
    pub(super) fn sectors(&self) -> usize {
        match self {
            Self::Contents(patches) => patches.iter().map(Patch::count).sum(),
            Self::Size(_) => 0,
        }
    }

    /// What a power cut in the middle of it leaves. A change of size is never torn.
    pub(super) fn torn(&self, tear: Tear, atomicity: Atomicity) -> Self {
        let Self::Contents(patches) = self else { return self.clone() };
        match tear {
            Tear::Prefix { sectors } => Self::Contents(prefix(patches, sectors, atomicity)),
            Tear::Subset { seed } => Self::Contents(subset(patches, &mut Chance::new(seed), atomicity)),
            Tear::Garbage { seed } => {
                let mut chance = Chance::new(seed);
                let sectors = memory(chance.below(bytes(self.sectors()).max(1)));
                let mut kept = prefix(patches, sectors, atomicity);
                if atomicity == Atomicity::Nothing {
                    kept.extend(garbage(patches, sectors, &mut chance));
                }
                Self::Contents(kept)
            }
        }
    }
}

impl Patch {
    pub(super) fn page(&self) -> u64 {
        self.page
    }

    fn apply(&self, disk: &mut SimulatedDisk) {
        let sectors = self.sectors & inside(self.page, disk.size());
        if sectors == ALL_SECTORS {
            disk.put(self.page, self.source.clone());
        } else if sectors != 0 {
            disk.edit(self.page, |contents| {
                for sector in bits(sectors) {
                    let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                    match &self.source {
                        Some(source) => contents[range.clone()].copy_from_slice(&source.bytes[range]),
                        None => contents[range].fill(0),
                    }
                }
            });
        }
    }

    fn count(&self) -> usize {
        bits(self.sectors).count()
    }
}

/// The first sectors, rounded down to what cannot be torn.
fn prefix(patches: &[Patch], sectors: usize, atomicity: Atomicity) -> Vec<Patch> {
    let mut left = sectors;
    let mut kept = Vec::new();
    for patch in patches {
        let whole = patch.count() <= left;
        let mask = match atomicity {
            _ if whole => patch.sectors,
            Atomicity::Block => 0,
            Atomicity::Nothing | Atomicity::Sector => {
                bits(patch.sectors).take(left).fold(0, |mask, sector| mask | 1 << sector)
            }
        };
        left = left.saturating_sub(patch.count());
        if mask != 0 {
            kept.push(Patch { sectors: mask, ..patch.clone() });
        }
    }
    kept
}

fn subset(patches: &[Patch], chance: &mut Chance, atomicity: Atomicity) -> Vec<Patch> {
    let mut keep = |patch: &Patch| {
        let drawn = match atomicity {
            Atomicity::Block if chance.coin() => ALL_SECTORS,
            Atomicity::Block => 0,
            Atomicity::Nothing | Atomicity::Sector => {
                u8::try_from(chance.below(256)).expect("eight bits were drawn")
            }
        };
        Patch { sectors: patch.sectors & drawn, ..patch.clone() }
    };
    patches.iter().map(&mut keep).filter(|patch| patch.sectors != 0).collect()
}

/// Garbage in the sector with this number among those written.
fn garbage(patches: &[Patch], number: usize, chance: &mut Chance) -> Option<Patch> {
    let mut sectors = patches.iter().flat_map(|patch| bits(patch.sectors).map(|sector| (patch.page, sector)));
    let (page, sector) = sectors.nth(number)?;
    let mut contents = [0; PAGE_BYTES];
    chance.fill(&mut contents);
    Some(Patch { page, sectors: 1 << sector, source: Page::new(contents) })
}

/// The pages of a range, and which of their sectors are in it.
fn covered(offset: u64, length: u64) -> impl Iterator<Item = (u64, u8)> {
    let end = offset + length;
    (offset / PAGE_BYTES_U64..end.div_ceil(PAGE_BYTES_U64)).map(move |page| {
        let before = !inside(page, offset);
        (page, inside(page, end) & before)
    })
}

/// Which sectors of the page lie below `end`, in bytes.
fn inside(page: u64, end: u64) -> u8 {
    let count = end.saturating_sub(page * PAGE_BYTES_U64) / SECTOR_BYTES_U64;
    if count >= bytes(SECTORS_PER_PAGE) { ALL_SECTORS } else { (1 << count) - 1 }
}

fn bits(sectors: u8) -> impl Iterator<Item = usize> {
    (0..SECTORS_PER_PAGE).filter(move |sector| sectors >> sector & 1 == 1)
}
