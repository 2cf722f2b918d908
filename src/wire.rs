//! What a command asks and what it gets back: the same values whether a daemon holds the pool or nobody does.
//!
//! Between processes they are the bodies of the HTTP API (`daemon/routes.rs`). Names travel as text and are checked where
//! they are used. The views are also what `-o json` prints, so their fields are an interface: bytes are integers, nothing is
//! renamed.

mod device;
mod image;
mod io;
mod job;
mod on_full;
mod order;
mod plan;
mod thresholds;

use crate::failure::Failure;
use crate::labels;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use thinpool::{CheckReport, Entry, EntryKind, Status};
use utoipa::ToSchema;

pub(crate) use device::DeviceView;
pub(crate) use image::{Base, DISK_BYTES_MAX, ImageExportOrder, ImageExportView, ImportOrder, ImportView};
pub(crate) use io::IoView;
pub(crate) use job::{JobList, JobState, JobView};
pub(crate) use on_full::{OnFull, PROPERTY as ON_FULL};
pub(crate) use order::{
    CloneOrder, ExportChange, ExportOrder, GrowOrder, LabelOrder, RemoveOrder, ResizeOrder, RollbackOrder,
    SeedOrder, SnapshotOrder, VolumeOrder,
};
pub(crate) use plan::PlanView;
pub(crate) use thresholds::{PROPERTY as THRESHOLDS, PoolOrder, Thresholds};

/// One request to a pool.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    Entries,
    Status,
    CreateVolumes(VolumeOrder),
    Clone(CloneOrder),
    Snapshot(SnapshotOrder),
    Rollback(RollbackOrder),
    Remove(RemoveOrder),
    Resize(ResizeOrder),
    Label(LabelOrder),
    Settle,
    Thin,
    Grow(GrowOrder),
    SetPool(PoolOrder),
    Check,
    Import(ImportOrder),
    ExportImage(ImageExportOrder),
    Export(ExportOrder),
    SetExport { name: String, change: ExportChange },
    Unexport { name: String },
    Exports,
}

impl Ask {
    /// Whether it changes the pool or what is served of it.
    pub(crate) fn is_change(&self) -> bool {
        !matches!(self, Ask::Entries | Ask::Status | Ask::Exports | Ask::Check)
    }

    /// Whether it may take long: a daemon makes a job of it.
    pub(crate) fn is_long(&self) -> bool {
        matches!(self, Ask::Import(_) | Ask::ExportImage(_) | Ask::Check | Ask::Settle | Ask::Thin)
    }

    /// Its name in the history and in lists of jobs.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Ask::Entries => "list",
            Ask::Status => "status",
            Ask::CreateVolumes(_) => "volume create",
            Ask::Clone(_) => "clone create",
            Ask::Snapshot(_) => "snap create",
            Ask::Rollback(_) => "snap rollback",
            Ask::Remove(_) => "rm",
            Ask::Resize(_) => "volume resize",
            Ask::Label(_) => "label",
            Ask::Settle => "pool settle",
            Ask::Thin => "pool thin",
            Ask::Grow(_) => "pool grow",
            Ask::SetPool(_) => "pool set",
            Ask::Check => "pool check",
            Ask::Import(_) => "image import",
            Ask::ExportImage(_) => "image export",
            Ask::Export(_) => "export start",
            Ask::SetExport { .. } => "export set",
            Ask::Unexport { .. } => "export stop",
            Ask::Exports => "export ls",
        }
    }
}

/// One answer; `kind` as in what `-o json` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub(crate) enum Answer {
    Done,
    #[serde(rename = "EntryList")]
    Entries(EntryList),
    #[serde(rename = "PoolStatus")]
    Status(StatusView),
    #[serde(rename = "CheckReport")]
    Checked(CheckView),
    #[serde(rename = "Import")]
    Imported(ImportView),
    #[serde(rename = "ImageExported")]
    ImageExported(ImageExportView),
    #[serde(rename = "Export")]
    Exported(Box<ExportView>),
    #[serde(rename = "ExportList")]
    Exports(ExportList),
    #[serde(rename = "Removed")]
    Removed(RemovedView),
    #[serde(rename = "Plan")]
    Planned(PlanView),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EntryList {
    pub(crate) items: Vec<EntryView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ExportList {
    pub(crate) items: Vec<ExportView>,
}

/// What was removed of several names, and why the others were not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct RemovedView {
    pub(crate) names: Vec<String>,
    pub(crate) failures: Vec<Failure>,
}

/// One name of a pool; sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EntryView {
    pub(crate) name: String,
    pub(crate) kind: KindView,
    pub(crate) size: u64,
    pub(crate) origin: Option<String>,
    pub(crate) created_unix: u64,
    pub(crate) owned: u64,
    pub(crate) gives_back: Option<u64>,
    pub(crate) attached: bool,
    pub(crate) labels: BTreeMap<String, String>,
    /// What Offshoot itself has noted: an export that comes back with the daemon, an import that is under way.
    pub(crate) properties: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

impl From<EntryKind> for KindView {
    fn from(kind: EntryKind) -> Self {
        match kind {
            EntryKind::Volume => KindView::Volume,
            EntryKind::Snapshot => KindView::Snapshot,
            EntryKind::Version => KindView::Version,
        }
    }
}

impl From<&Entry> for EntryView {
    fn from(entry: &Entry) -> Self {
        Self {
            name: entry.name.to_string(),
            kind: entry.kind.into(),
            size: entry.size,
            origin: entry.origin.clone(),
            created_unix: entry.created_unix,
            owned: entry.owned,
            gives_back: entry.gives_back,
            attached: entry.attached,
            labels: labels::of(&entry.properties),
            properties: labels::others(&entry.properties),
        }
    }
}

/// A pool's figures; sizes in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Writes that wait for space at this moment.
    #[serde(default)]
    pub(crate) waiting_writes: u64,
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
    /// Where NBD clients find what is in it; empty where no daemon serves it.
    #[serde(default)]
    pub(crate) nbd: Vec<String>,
    /// When it is short of space.
    #[serde(default)]
    pub(crate) thresholds: Thresholds,
    /// What becomes of a write that finds it full.
    #[serde(default)]
    #[schema(value_type = String)]
    pub(crate) on_full: OnFull,
    #[serde(default)]
    pub(crate) devices: Vec<DeviceView>,
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
            waiting_writes: status.waiting_writes,
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
            nbd: Vec::new(),
            thresholds: Thresholds::of(&status.properties),
            on_full: OnFull::of(&status.properties),
            devices: DeviceView::all(&status.devices),
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ExportView {
    pub(crate) name: String,
    #[schema(value_type = String)]
    pub(crate) socket: PathBuf,
    /// Where NBD clients find the same.
    #[serde(default)]
    pub(crate) nbd: Vec<String>,
    pub(crate) read_only: bool,
    /// A virtual machine has it.
    pub(crate) connected: bool,
    /// In a second, at most.
    #[schema(value_type = Option<u64>)]
    pub(crate) iops: Option<NonZeroU64>,
    #[schema(value_type = Option<u64>)]
    pub(crate) bytes_per_second: Option<NonZeroU64>,
    pub(crate) io: IoView,
}
