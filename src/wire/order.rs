//! What can be asked for, as it travels. Sizes in bytes.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use utoipa::ToSchema;

/// New, empty volumes, each of this size.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeOrder {
    pub(crate) names: Vec<String>,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
}

/// Volumes from an image version or a snapshot, all or none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloneOrder {
    pub(crate) source: String,
    pub(crate) names: Vec<String>,
    /// The source's, where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// Each gets one, under its name with `-seed` behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<SeedOrder>,
}

/// A disk beside a clone that tells cloud-init which machine it is: user data, and an identity of its own (NoCloud).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeedOrder {
    /// Begins with `#cloud-config`, `#!`, or what else cloud-init knows; 512 KiB at most.
    pub(crate) user_data: String,
    /// For cloud-init, in its version 1 or 2; 64 KiB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network_config: Option<String>,
}

/// Snapshots, each `volume@snapshot`, all at one instant or none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotOrder {
    pub(crate) names: Vec<String>,
}

/// The snapshot `volume@snapshot` that its volume returns to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackOrder {
    pub(crate) to: String,
}

/// Volumes, snapshots and versions to be removed, each for itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveOrder {
    pub(crate) names: Vec<String>,
    /// A volume takes its snapshots with it.
    #[serde(default)]
    pub(crate) recursive: bool,
}

/// A volume's new size.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResizeOrder {
    pub(crate) name: String,
    pub(crate) size: u64,
}

/// Labels of volumes, snapshots and versions: set, or removed where the value is null.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LabelOrder {
    pub(crate) names: Vec<String>,
    pub(crate) labels: BTreeMap<String, Option<String>>,
}

/// The pool's new size on its device.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrowOrder {
    pub(crate) size: u64,
}

/// A volume, snapshot or version to be served over vhost-user-blk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportOrder {
    pub(crate) name: String,
    /// Absolute; where it is not given, the daemon chooses.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) socket: Option<PathBuf>,
    /// Permission bits of the socket.
    #[serde(default = "usual_mode")]
    pub(crate) mode: u32,
    /// Whose the socket is: `USER`, `USER:GROUP` or `:GROUP`, by names or numbers; where it is not given, the daemon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    #[serde(default)]
    pub(crate) read_only: bool,
    #[serde(default = "usual_queues")]
    pub(crate) queues: u16,
    /// In a second, at most.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub(crate) iops: Option<NonZeroU64>,
    /// Read and written in a second, at most.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub(crate) bytes_per_second: Option<NonZeroU64>,
}

/// Other limits of speed for an export, while it is used. What is not given stays as it is; null is without end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportChange {
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub(crate) iops: Option<Option<NonZeroU64>>,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub(crate) bytes_per_second: Option<Option<NonZeroU64>>,
}

/// What is there is given, null too.
fn given<'a, T: Deserialize<'a>, D: Deserializer<'a>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

impl ExportOrder {
    /// The same with other limits.
    pub(crate) fn with(&self, change: &ExportChange) -> Self {
        let iops = change.iops.unwrap_or(self.iops);
        let bytes_per_second = change.bytes_per_second.unwrap_or(self.bytes_per_second);
        Self { iops, bytes_per_second, ..self.clone() }
    }
}

fn usual_mode() -> u32 {
    0o600
}

fn usual_queues() -> u16 {
    8
}
