//! The superblock: the one place where everything else begins.
//!
//! * S1 A superblock is read from bytes only by [`choose`], which believes nothing before it has agreed with itself.
//! * S2 The newest whole generation counts. A generation is written twice, into the slot the newest does not occupy, so
//!   that a crash during writing leaves the one before whole.
//! * S3 Magic, format version and checksum lie at the same places in every version to come.
//! * S4 Nothing is believed of a copy with features that forbid it, its generation included: the pool is refused.
//!
//! That an older generation is not mistaken for the newest when both copies of that have rotted is the journal's to
//! find: its batches name the generation they build on.

mod choose;
mod codec;
mod features;
pub(crate) mod fields;
mod further;
mod opener;

pub(crate) use choose::{Choice, SuperblockError, choose};
pub(crate) use codec::CopyDamage;
pub(crate) use features::{Bits, Features};
pub(crate) use further::Further;
pub(crate) use opener::{HOST_BYTES_MAX, Opener};

#[cfg(test)]
pub(crate) use codec::{LAYOUT, ROOT_LAYOUT};
#[cfg(test)]
pub(crate) use further::FURTHER_LAYOUT;

use crate::geometry::{Geometry, GeometryError, superblock_homes};
use crate::journal::Position;
use cow_tree::Pointer;
use cow_tree::units::{BLOCK_BYTES, BLOCK_BYTES_U64, BlockAddress, Generation, PoolId};

/// What a new pool is born with; the other slot is empty until the next one.
pub(crate) const FIRST_GENERATION: Generation = Generation(1);

/// Whether somebody may still be serving the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Closed; the trees are all there is, and no tail counts.
    Clean,
    /// Opened read-write by the opener it names; its tail counts if its incarnation is this one.
    Serving,
}

/// A superblock that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub pool: PoolId,
    pub device_index: u32,
    pub generation: Generation,
    pub features: Features,
    pub state: State,
    /// Names the opening; a crash tail counts only for the incarnation named here.
    pub incarnation: [u8; 16],
    /// The boot the opening happened in.
    pub boot_id: [u8; 16],
    pub opener: Opener,
    /// The first batch that may hold a record the trees do not.
    pub journal: Position,
    /// Every record up to this one is in the trees.
    pub last_sequence: u64,
    pub next_layer: u64,
    pub next_line: u32,
    pub catalog_root: Option<Pointer>,
    pub group_table_root: Option<Pointer>,
    /// Data checksums; always `None` in this version.
    pub checksum_root: Option<Pointer>,
    /// Blocks of the first device that the pool uses.
    pub device_blocks: u64,
    pub journal_start: u64,
    pub journal_blocks: u64,
    pub group_blocks: u32,
    /// The devices after the first.
    pub further: Vec<Further>,
}

impl Superblock {
    /// The superblock of a pool without a catalog that nobody has opened.
    #[must_use]
    pub(crate) fn of_new_pool(pool: PoolId, geometry: &Geometry) -> Self {
        Self {
            pool,
            device_index: 0,
            generation: FIRST_GENERATION,
            features: Features::default(),
            state: State::Clean,
            incarnation: [0; 16],
            boot_id: [0; 16],
            opener: Opener::new(0, ""),
            journal: Position::FIRST,
            last_sequence: 0,
            next_layer: 1,
            next_line: 1,
            catalog_root: None,
            group_table_root: None,
            checksum_root: None,
            device_blocks: geometry.devices()[0],
            journal_start: geometry.journal_start(),
            journal_blocks: geometry.journal_blocks(),
            group_blocks: geometry.group_blocks(),
            further: Vec::new(),
        }
    }

    /// One more device.
    pub(crate) fn join(&mut self, device: Further) {
        self.further.push(device);
        self.features.set_several_devices();
    }

    /// The lengths of the devices, which may have grown.
    ///
    /// # Panics
    /// If the geometry is of other devices.
    pub(crate) fn set_lengths(&mut self, geometry: &Geometry) {
        let [first, further @ ..] = geometry.devices() else { unreachable!("a pool has a device") };
        assert!(further.len() == self.further.len(), "a superblock names the devices of its geometry");
        self.device_blocks = *first;
        self.further.iter_mut().zip(further).for_each(|(device, blocks)| device.blocks = *blocks);
    }

    /// The layout it names.
    ///
    /// # Errors
    /// Never for a superblock that was chosen or made from a geometry.
    pub(crate) fn geometry(&self) -> Result<Geometry, GeometryError> {
        let first =
            Geometry::stored(self.device_blocks, self.journal_start, self.journal_blocks, self.group_blocks)?;
        let bytes = |device: &Further| device.blocks.saturating_mul(BLOCK_BYTES_U64);
        self.further.iter().try_fold(first, |geometry, device| geometry.joined(bytes(device)))
    }

    /// Its two copies and where they go.
    #[must_use]
    pub(crate) fn copies(&self) -> [(BlockAddress, [u8; BLOCK_BYTES]); 2] {
        superblock_homes(self.generation).map(|home| (home, self.encode(home)))
    }
}

#[cfg(test)]
mod format_document;
#[cfg(test)]
mod tests;
