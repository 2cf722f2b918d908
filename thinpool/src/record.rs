//! What the journal and the tail carry: one record per change of the pool.
//!
//! Replaying the records after the last checkpoint, in order of sequence, over that checkpoint's trees gives the
//! pool as it was. A record therefore names everything it changes by identity, never by position, and what a
//! mapping replaced is found again by looking it up at replay.

use crate::error::Error;
use crate::ids::ID_END;
use bincode::{Decode, Encode};
use cow_tree::units::BlockAddress;

/// Largest volume, in bytes: the extent tree's keys reach further, a guest's disk does not.
const VOLUME_BYTES_MAX: u64 = 1 << 56;
const BLOCK: u64 = 4096;

/// A change. Blocks are 4 KiB; `start` and `length` are logical blocks, `address` is physical.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Record {
    /// The live layer's map changes, all at once.
    Update {
        layer: u64,
        changes: Vec<Change>,
    },
    /// A new volume with an empty layer.
    Create {
        entry: NewEntry,
        layer: u64,
        line: u32,
    },
    /// New volumes on one sealed layer.
    Clone {
        source: u64,
        clones: Vec<NewClone>,
    },
    /// Live layers sealed under snapshot names, each volume going on in a new layer.
    Snapshot {
        items: Vec<NewSnapshot>,
    },
    /// The volume goes on in a new layer on `source`; the layer it had is sealed and loses its name.
    Rollback {
        entry: u64,
        source: u64,
        layer: u64,
        line: u32,
    },
    /// Names go; their layers are sealed and reclaimed.
    Remove {
        entries: Vec<u64>,
    },
    Resize {
        entry: u64,
        size: u64,
    },
    /// A volume becomes an image version: sealed and renamed.
    Publish {
        entry: u64,
        name: String,
    },
    Rename {
        entry: u64,
        name: String,
    },
    /// Of a name, or of the pool itself, whose number is 0.
    SetProperty {
        entry: u64,
        key: String,
        value: Option<String>,
    },
    /// Nothing depends on the layer: its blocks are being freed.
    BeginFree {
        layer: u64,
    },
    /// Rule 7: `layer` becomes incoming to its only dependent.
    BeginAbsorb {
        layer: u64,
        into: u64,
    },
    /// Rule 9: everything of `layer` below the cursor is swept, all of it without one. `into` equals `layer` when the
    /// layer is freed. What it freed is found again at replay: data by the maps, nodes by the trees replay has made.
    Sweep {
        layer: u64,
        into: u64,
        cursor: Option<u64>,
    },
    /// Rule 10.
    EndAbsorb {
        layer: u64,
        into: u64,
    },
    EndFree {
        layer: u64,
    },
    /// Rule 14: the part of a waiting layer from one key up to another has lost what no dependent maps.
    Thin {
        layer: u64,
        from: u64,
        upto: Option<u64>,
    },
    /// The last device is used up to this many blocks.
    Grow {
        blocks: u64,
    },
}

/// One change of a layer's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Change {
    /// `length` blocks from `start` lie at `address`, which the layer has just allocated.
    Map { start: u64, length: u32, address: u64 },
    /// Nothing is mapped from `start` on, `length` blocks.
    Unmap { start: u64, length: u64 },
}

/// A name about to enter the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct NewEntry {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) created_unix: u64,
}

/// One clone of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct NewClone {
    pub(crate) entry: NewEntry,
    pub(crate) origin: String,
    pub(crate) layer: u64,
    pub(crate) line: u32,
}

/// One snapshot of a batch: `volume`'s layer is sealed under the new entry, `layer` is what the volume goes on in.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct NewSnapshot {
    pub(crate) volume: u64,
    pub(crate) entry: NewEntry,
    pub(crate) layer: u64,
}

/// Logical blocks end here: what the largest volume has, and then some.
const LOGICAL_END: u64 = 1 << 52;

impl Record {
    /// Whether its numbers can be: what a checksum does not tell.
    ///
    /// # Errors
    /// What cannot be.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        match self {
            Record::Update { changes, .. } => changes.iter().try_for_each(Change::check),
            Record::Create { entry, layer, line } => {
                entry.check()?;
                check_layer(*layer, *line)
            }
            Record::Clone { clones, .. } => clones.iter().try_for_each(|new| {
                new.entry.check()?;
                check_layer(new.layer, new.line)
            }),
            Record::Snapshot { items } => items.iter().try_for_each(|item| {
                item.entry.check()?;
                check_layer(item.layer, 0)
            }),
            Record::Rollback { layer, line, .. } => check_layer(*layer, *line),
            Record::Resize { size, .. } => check_size(*size),
            _ => Ok(()),
        }
    }
}

impl Change {
    fn check(&self) -> Result<(), &'static str> {
        let (start, length) = match *self {
            Change::Map { start, length, address } => {
                if !BlockAddress(address).can_hold(u64::from(length)) {
                    return Err("it maps blocks that no device has");
                }
                (start, u64::from(length))
            }
            Change::Unmap { start, length } => (start, length),
        };
        if length == 0 || start.checked_add(length).is_none_or(|end| end > LOGICAL_END) {
            return Err("it changes blocks that no volume has");
        }
        Ok(())
    }
}

impl NewEntry {
    fn check(&self) -> Result<(), &'static str> {
        check_size(self.size)?;
        if (1..ID_END).contains(&self.id) { Ok(()) } else { Err("it numbers a name as no pool does") }
    }
}

/// Whether a volume may have the size.
///
/// # Errors
/// When no volume has it.
pub(crate) fn check_size(size: u64) -> Result<(), &'static str> {
    legal_size(size).map(drop).map_err(|_| "it names a size that no volume has")
}

/// The size again, if a volume may have it.
///
/// # Errors
/// What an operator is told of one that no volume has.
pub(crate) fn legal_size(size: u64) -> Result<u64, Error> {
    if size == 0 || !size.is_multiple_of(BLOCK) || size > VOLUME_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "{size} bytes is not a size of a volume: it must be a multiple of {BLOCK}, at least {BLOCK} and at most {VOLUME_BYTES_MAX}"
        )));
    }
    Ok(size)
}

/// Whether a layer may have the number, and its line may be followed by another.
///
/// # Errors
/// When a number is out of bounds.
pub(crate) fn check_layer(layer: u64, line: u32) -> Result<(), &'static str> {
    if layer < ID_END && line < u32::MAX { Ok(()) } else { Err("it numbers a layer as no pool does") }
}

#[cfg(test)]
mod tests {
    use super::{NewEntry, Record};

    fn create(id: u64, size: u64, layer: u64, line: u32) -> Result<(), &'static str> {
        let entry = NewEntry { id, name: "a".to_owned(), size, created_unix: 0 };
        Record::Create { entry, layer, line }.check()
    }

    #[test]
    fn numbers_and_sizes_that_no_pool_has_are_refused() {
        assert_eq!(create(1, 4096, 1, 1), Ok(()));
        create(0, 4096, 1, 1).expect_err("that is the pool itself");
        create(1 << 47, 4096, 1, 1).expect_err("the catalog has no key for the name");
        create(1, 4096, 1 << 47, 1).expect_err("nor for the layer");
        create(1, 4096, 1, u32::MAX).expect_err("no line follows it");
        create(1, 4097, 1, 1).expect_err("a volume has whole blocks");
        Record::Resize { entry: 1, size: 0 }.check().expect_err("a volume has a block");
    }
}
