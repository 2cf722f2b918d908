//! The formats of image files. They are named by the operator and never guessed: whoever writes a disk chooses its first
//! bytes.

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ImageFormat {
    /// The bytes of the disk, one after the other
    #[default]
    Raw,
    /// QEMU's format, versions 2 and 3
    Qcow2,
    /// VMware's format in one file: monolithicSparse and streamOptimized
    Vmdk,
    /// Hyper-V's format, fixed and dynamic
    Vhdx,
    /// Raw, compressed by zstd
    #[value(name = "raw.zst")]
    RawZst,
    /// Raw, compressed by gzip
    #[value(name = "raw.gz")]
    RawGz,
}

impl ImageFormat {
    /// As it is typed; also what QEMU calls it, where QEMU knows it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            ImageFormat::Raw => "raw",
            ImageFormat::Qcow2 => "qcow2",
            ImageFormat::Vmdk => "vmdk",
            ImageFormat::Vhdx => "vhdx",
            ImageFormat::RawZst => "raw.zst",
            ImageFormat::RawGz => "raw.gz",
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.word())
    }
}
