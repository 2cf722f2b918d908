//! Orders about image files, and what came of them.

use crate::image_format::ImageFormat;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use utoipa::ToSchema;

/// The largest disk that is taken from a file whose length does not show it, unless the operator says otherwise: 1 TiB.
pub(crate) const DISK_BYTES_MAX: u64 = 1 << 40;

/// An image file to become an image version.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportOrder {
    pub(crate) version: String,
    /// Absolute; opened by whoever holds the pool.
    #[schema(value_type = String)]
    pub(crate) file: PathBuf,
    #[serde(default)]
    pub(crate) base: Base,
    /// Take the file as raw whatever its first bytes look like.
    #[serde(default)]
    pub(crate) force_raw: bool,
    #[serde(default)]
    pub(crate) format: ImageFormat,
    /// The files beneath the image, from the one right beneath it on; absolute.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub(crate) backing: Vec<PathBuf>,
    /// Bytes of disk, where the file's length does not say how large that is.
    #[serde(default = "disk_bytes_max")]
    pub(crate) size_max: u64,
}

fn disk_bytes_max() -> u64 {
    DISK_BYTES_MAX
}

/// What a new version is stored as a difference from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Base {
    /// The newest version of the same image, if there is one.
    #[default]
    Latest,
    Nothing,
    Version(String),
}

/// What an import did; all in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ImportView {
    pub(crate) version: String,
    pub(crate) base: Option<String>,
    pub(crate) size: u64,
    /// Written into the pool for this version.
    pub(crate) stored: u64,
    /// The same as in the base, so shared with it.
    pub(crate) unchanged: u64,
    /// Zeros and holes: stored nowhere.
    pub(crate) zero: u64,
}

/// A volume, snapshot or version to be written into a file.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageExportOrder {
    pub(crate) name: String,
    /// Absolute; written by whoever holds the pool.
    #[schema(value_type = String)]
    pub(crate) file: PathBuf,
    #[serde(default)]
    pub(crate) format: ImageFormat,
    /// Put it in the place of a file that is there.
    #[serde(default)]
    pub(crate) force: bool,
}

/// What an export to a file did; in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ImageExportView {
    pub(crate) name: String,
    #[schema(value_type = String)]
    pub(crate) file: PathBuf,
    pub(crate) format: ImageFormat,
    /// Of the disk.
    pub(crate) size: u64,
    /// Of it, written into the file; the rest are zeros.
    pub(crate) written: u64,
}
