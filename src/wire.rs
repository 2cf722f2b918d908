//! What a command asks and what it gets back: the same values whether a daemon holds the pool or nobody does.
//!
//! Between processes each value is one line of JSON. Names travel as text and are checked where they are used.
//! The views are also what `-o json` prints, so their fields are an interface: bytes are integers, nothing is renamed.

mod image;
mod io;

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use thinpool::{CheckReport, Entry, EntryKind, Status};

pub(crate) use image::{Base, DISK_BYTES_MAX, ImageExportOrder, ImageExportView, ImportOrder, ImportView};
pub(crate) use io::IoView;

/// One request. Sizes in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    Entries,
    Status,
    CreateVolume { name: String, size: u64 },
    Clone { source: String, names: Vec<String>, size: Option<u64> },
    Snapshot { names: Vec<String> },
    Rollback { to: String },
    Remove { name: String, recursive: bool },
    Resize { name: String, size: u64 },
    Settle,
    Thin,
    Grow { size: u64 },
    Check,
    Import(ImportOrder),
    ExportImage(ImageExportOrder),
    Export(ExportOrder),
    Unexport { name: String },
    Exports,
}

/// A volume, snapshot or version to be served over vhost-user-blk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExportOrder {
    pub(crate) name: String,
    /// Absolute; where it is not given, the daemon chooses.
    pub(crate) socket: Option<PathBuf>,
    /// Permission bits of the socket.
    pub(crate) mode: u32,
    pub(crate) read_only: bool,
    pub(crate) queues: u16,
}

/// One answer. Only [`Answer::Progress`] may be followed by another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    Entries { items: Vec<EntryView> },
    Status(StatusView),
    Checked(CheckView),
    Progress { done: u64, total: u64 },
    Imported(ImportView),
    ImageExported(ImageExportView),
    Exported(Box<ExportView>),
    Exports { items: Vec<ExportView> },
    Failed(Failure),
}

/// One name of a pool; sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryView {
    pub(crate) name: String,
    pub(crate) kind: KindView,
    pub(crate) size: u64,
    pub(crate) origin: Option<String>,
    pub(crate) created_unix: u64,
    pub(crate) owned: u64,
    pub(crate) gives_back: Option<u64>,
    pub(crate) attached: bool,
    pub(crate) properties: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KindView {
    Volume,
    Snapshot,
    Version,
}

impl KindView {
    pub(crate) fn word(self) -> &'static str {
        match self {
            KindView::Volume => "volume",
            KindView::Snapshot => "snapshot",
            KindView::Version => "version",
        }
    }
}

impl From<&Entry> for EntryView {
    fn from(entry: &Entry) -> Self {
        Self {
            name: entry.name.to_string(),
            kind: match entry.kind {
                EntryKind::Volume => KindView::Volume,
                EntryKind::Snapshot => KindView::Snapshot,
                EntryKind::Version => KindView::Version,
            },
            size: entry.size,
            origin: entry.origin.clone(),
            created_unix: entry.created_unix,
            owned: entry.owned,
            gives_back: entry.gives_back,
            attached: entry.attached,
            properties: entry.properties.clone(),
        }
    }
}

/// A pool's figures; sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusView {
    pub(crate) pool: String,
    pub(crate) pool_id: String,
    pub(crate) generation: u64,
    pub(crate) capacity: u64,
    pub(crate) provisioned: u64,
    pub(crate) mapped: u64,
    pub(crate) free: u64,
    pub(crate) quarantined: u64,
    pub(crate) kept: u64,
    pub(crate) reserved: u64,
    pub(crate) metadata_used: u64,
    pub(crate) metadata_free: u64,
    pub(crate) volumes: u64,
    pub(crate) snapshots: u64,
    pub(crate) versions: u64,
    pub(crate) layers: u64,
    pub(crate) reclaiming: u64,
    pub(crate) discard_failures: u64,
    pub(crate) poisoned: bool,
    pub(crate) read_only: bool,
    pub(crate) overcommit: f64,
}

impl From<&Status> for StatusView {
    fn from(status: &Status) -> Self {
        Self {
            pool: status.pool.clone(),
            pool_id: status.pool_id.clone(),
            generation: status.generation,
            capacity: status.capacity,
            provisioned: status.provisioned,
            mapped: status.mapped,
            free: status.free,
            quarantined: status.quarantined,
            kept: status.kept,
            reserved: status.reserved,
            metadata_used: status.metadata_used,
            metadata_free: status.metadata_free,
            volumes: status.volumes,
            snapshots: status.snapshots,
            versions: status.versions,
            layers: status.layers,
            reclaiming: status.reclaiming,
            discard_failures: status.discard_failures,
            poisoned: status.poisoned,
            read_only: status.read_only,
            overcommit: status.overcommit(),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckView {
    pub(crate) errors: Vec<String>,
    pub(crate) leaked_blocks: u64,
    pub(crate) blocks_checked: u64,
}

impl From<CheckReport> for CheckView {
    fn from(report: CheckReport) -> Self {
        Self {
            errors: report.errors,
            leaked_blocks: report.leaked_blocks,
            blocks_checked: report.blocks_checked,
        }
    }
}

/// One export at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExportView {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    pub(crate) read_only: bool,
    /// A virtual machine has it.
    pub(crate) connected: bool,
    pub(crate) io: IoView,
}
