//! What an operator asks of a pool. The keeper executes commands one at a time; each is all or nothing.

use crate::name::Name;
use std::collections::BTreeMap;

/// A change of the pool. Sizes in bytes, multiples of 4,096.
#[derive(Debug, Clone)]
pub enum Command {
    /// A new, empty volume.
    CreateVolume {
        name: Name,
        size: u64,
    },
    /// Volumes born from one snapshot or image version (or from a volume, by way of no snapshot: refused), in one
    /// commit. `size` of `None` keeps the source's.
    Clone {
        source: Name,
        names: Vec<Name>,
        size: Option<u64>,
    },
    /// Points in time of several volumes, all at one instant. Each name is `volume@snapshot`.
    Snapshot {
        names: Vec<Name>,
    },
    /// The volume shows the snapshot's contents again; what it held since is dropped. `volume@snapshot`.
    Rollback {
        to: Name,
    },
    /// Removes a volume, a snapshot or an image version. A volume takes its snapshots with it when `recursive`.
    Remove {
        name: Name,
        recursive: bool,
    },
    Resize {
        name: Name,
        size: u64,
    },
    /// Seals a volume as a new image version and removes the volume's name. `version` is `image@version`.
    Publish {
        volume: Name,
        version: Name,
    },
    Rename {
        from: Name,
        to: Name,
    },
    /// The same property of several names: refused as a whole, durable together; a crash before the answer may leave it of some.
    /// A value of `None` removes it.
    SetProperty {
        names: Vec<Name>,
        key: String,
        value: Option<String>,
    },
    /// The same of the pool itself.
    SetPoolProperty {
        key: String,
        value: Option<String>,
    },
    /// Makes everything staged so far durable.
    Commit,
    /// Writes all trees and a new superblock.
    Checkpoint,
    /// Runs background work (frees, absorbs, discards) to its end.
    Settle,
    /// Drops what nobody reads from unnamed layers that several others still depend on.
    Thin,
    /// Uses the last device's present size.
    Grow,
    /// Makes the last device this many bytes long, then uses that.
    Extend {
        bytes: u64,
    },
    /// Walks everything and compares it with the counts and the bitmaps.
    Check,
    /// Ends the keeper: a last checkpoint, and the superblock says clean.
    Close,
}

/// What a command answers.
#[derive(Debug, Clone)]
pub enum Outcome {
    Done,
    Checked(crate::check::CheckReport),
}

/// What a catalog entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    Volume,
    Snapshot,
    Version,
}

/// One name of the pool with its figures; all sizes in bytes.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: Name,
    pub kind: EntryKind,
    /// Promised to the guest.
    pub size: u64,
    /// The snapshot or version it was made from.
    pub origin: Option<String>,
    pub created_unix: u64,
    /// Owned by its layer: exact.
    pub owned: u64,
    /// What removing it gives back; `None` when that is not known without a walk.
    pub gives_back: Option<u64>,
    /// Attached read-write or read-only at this moment.
    pub attached: bool,
    pub properties: BTreeMap<String, String>,
}

/// The pool's figures; all sizes in bytes.
#[derive(Debug, Clone)]
pub struct Status {
    pub pool: String,
    pub pool_id: String,
    pub generation: u64,
    /// What data may take altogether: mapped, reserved, quarantined and free.
    pub capacity: u64,
    /// Promised to all volumes.
    pub provisioned: u64,
    /// Data blocks allocated.
    pub mapped: u64,
    /// Data blocks still free for guests.
    pub free: u64,
    /// Freed and not yet reusable.
    pub quarantined: u64,
    /// Free, and still holding space of the device; that goes back when nobody uses it for a while.
    pub kept: u64,
    /// Held by requests in flight.
    pub reserved: u64,
    /// Writes that wait for space.
    pub waiting_writes: u64,
    pub metadata_used: u64,
    pub metadata_free: u64,
    /// The journal, and what of it the next checkpoint will make free.
    pub journal_size: u64,
    pub journal_used: u64,
    pub volumes: u64,
    pub snapshots: u64,
    pub versions: u64,
    pub layers: u64,
    /// Layers that are being freed, absorbed, or wait for that.
    pub reclaiming: u64,
    /// Discards the device has refused or failed since the pool was opened.
    pub discard_failures: u64,
    pub poisoned: bool,
    pub read_only: bool,
    /// Of the pool itself.
    pub properties: BTreeMap<String, String>,
    /// In order; at least one.
    pub devices: Vec<DeviceStatus>,
}

/// The figures of one device; all sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStatus {
    /// A path, where it is a file or a block device.
    pub path: String,
    /// Empty for the first device, which the pool's id names.
    pub id: String,
    /// What the pool uses of it.
    pub size: u64,
    /// Free in groups of data and in groups of nothing yet. What metadata may still need is not taken off.
    pub free: u64,
    /// Data blocks allocated.
    pub mapped: u64,
    /// Of groups of metadata.
    pub metadata: u64,
}

impl Status {
    /// Provisioned bytes divided by capacity.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people; sixteen digits are enough")]
    pub fn overcommit(&self) -> f64 {
        self.provisioned as f64 / self.capacity.max(1) as f64
    }
}
