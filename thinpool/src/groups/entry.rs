//! What the group table says about a group: which kind it is, which bitmap slot counts, and what that bitmap holds.
//!
//! Twenty bytes, little-endian: kind (1), slot (1), zero (2), blocks allocated (4), checksum of the bitmap page (4),
//! generation of the bitmap page (8). A group without an entry is unused and has no bitmap.

use super::GroupKind;
use crate::geometry::Slot;
use cow_tree::units::Generation;

/// Bytes of an encoded entry.
pub(crate) const ENTRY_BYTES: usize = 20;

const KIND_DATA: u8 = 1;
const KIND_METADATA: u8 = 2;
const SLOT_FIRST: u8 = 0;
const SLOT_SECOND: u8 = 1;

/// The group table's value for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    pub(crate) kind: GroupKind,
    pub(crate) slot: Slot,
    /// Blocks set in the bitmap.
    pub(crate) allocated: u32,
    /// CRC-32C that the bitmap page carries.
    pub(crate) checksum: u32,
    pub(crate) generation: Generation,
}

/// A group table value that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("a group table entry has {0} bytes instead of {ENTRY_BYTES}")]
    Length(usize),
    #[error("a group table entry names kind {0}")]
    Kind(u8),
    #[error("a group table entry names bitmap slot {0}")]
    Slot(u8),
    #[error("a group table entry has bits set that must be zero")]
    Padding,
}

fn array<const N: usize>(bytes: &[u8; ENTRY_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("every field lies within the entry")
}

impl GroupEntry {
    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0] = match self.kind {
            GroupKind::Data => KIND_DATA,
            GroupKind::Metadata => KIND_METADATA,
        };
        bytes[1] = match self.slot {
            Slot::First => SLOT_FIRST,
            Slot::Second => SLOT_SECOND,
        };
        bytes[4..8].copy_from_slice(&self.allocated.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.generation.0.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().map_err(|_| EntryError::Length(bytes.len()))?;
        let kind = match bytes[0] {
            KIND_DATA => GroupKind::Data,
            KIND_METADATA => GroupKind::Metadata,
            other => return Err(EntryError::Kind(other)),
        };
        let slot = match bytes[1] {
            SLOT_FIRST => Slot::First,
            SLOT_SECOND => Slot::Second,
            other => return Err(EntryError::Slot(other)),
        };
        if bytes[2..4] != [0, 0] {
            return Err(EntryError::Padding);
        }
        Ok(Self {
            kind,
            slot,
            allocated: u32::from_le_bytes(array(bytes, 4)),
            checksum: u32::from_le_bytes(array(bytes, 8)),
            generation: Generation(u64::from_le_bytes(array(bytes, 12))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{ENTRY_BYTES, EntryError, GroupEntry};
    use crate::geometry::Slot;
    use crate::groups::GroupKind;
    use cow_tree::units::Generation;
    use proptest::prelude::{any, proptest};

    const GOLDEN: [u8; ENTRY_BYTES] =
        [2, 1, 0, 0, 0x78, 0x56, 0, 0, 0xef, 0xbe, 0xad, 0xde, 8, 7, 6, 5, 4, 3, 2, 1];

    #[test]
    fn an_entry_has_exactly_these_bytes() {
        let entry = GroupEntry {
            kind: GroupKind::Metadata,
            slot: Slot::Second,
            allocated: 0x5678,
            checksum: 0xdead_beef,
            generation: Generation(0x0102_0304_0506_0708),
        };
        assert_eq!(entry.encode(), GOLDEN);
        assert_eq!(GroupEntry::decode(&GOLDEN), Ok(entry));
    }

    #[test]
    fn bytes_that_say_nothing_are_refused() {
        let with = |at: usize, byte: u8| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            GroupEntry::decode(&bytes)
        };
        assert_eq!(with(0, 0), Err(EntryError::Kind(0)));
        assert_eq!(with(1, 2), Err(EntryError::Slot(2)));
        assert_eq!(with(3, 1), Err(EntryError::Padding));
        assert_eq!(GroupEntry::decode(&GOLDEN[1..]), Err(EntryError::Length(19)));
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(bytes in any::<[u8; ENTRY_BYTES]>(), kind in 1u8..3, slot in 0u8..2) {
            let mut bytes = bytes;
            bytes[..4].copy_from_slice(&[kind, slot, 0, 0]);
            let entry = GroupEntry::decode(&bytes).expect("kind and slot are known");
            assert_eq!(entry.encode(), bytes);
        }
    }
}
