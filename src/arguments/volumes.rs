//! What can be typed of images, volumes, clones and snapshots.

use super::Consent;
use crate::complete;
use crate::image_format::ImageFormat;
use crate::labels;
use crate::size::Size;
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only these: names, 'desk-*'; or a pool, as p0/
    #[arg(add = ArgValueCandidates::new(complete::names))]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Make an image version from a file; holes and zeros take no space
    #[command(
        after_help = "Examples:\n  offshoot image import p0/golden@v1 golden.img\n  offshoot image import golden@v2 golden.qcow2 --format qcow2"
    )]
    Import(ImageImportArguments),
    /// Write a volume, snapshot or version into a file
    #[command(after_help = "Example:\n  offshoot image export p0/golden@v1 golden.qcow2 --format qcow2")]
    Export(ImageExportArguments),
    /// List image versions
    #[command(after_help = "Example:\n  offshoot image ls -o json")]
    Ls(ListArguments),
    /// Remove image versions
    #[command(after_help = "Example:\n  offshoot image rm golden@v1")]
    Rm(ManyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ImageImportArguments {
    /// IMAGE@VERSION
    pub(crate) version: String,
    /// A disk image; a raw one may be a block device
    pub(crate) file: PathBuf,
    /// What the file is; it is never guessed
    #[arg(long, value_enum, default_value = "raw")]
    pub(crate) format: ImageFormat,
    /// The file beneath a qcow2 image, and the one beneath that: all of a chain, in this order
    #[arg(long, value_name = "FILE")]
    pub(crate) backing: Vec<PathBuf>,
    /// The largest disk to take from a file that is not raw; 1T where it is not given
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) size_max: Option<Size>,
    /// Store only what differs from this version; by default from the newest of the same image
    #[arg(long, value_name = "IMAGE@VERSION", conflicts_with = "no_base")]
    pub(crate) base: Option<String>,
    /// Store everything
    #[arg(long)]
    pub(crate) no_base: bool,
    /// Take the file as raw even if it starts like another format
    #[arg(long)]
    pub(crate) force_raw: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct ImageExportArguments {
    /// VOLUME, VOLUME@SNAPSHOT or IMAGE@VERSION
    #[arg(add = ArgValueCandidates::new(complete::names))]
    pub(crate) name: String,
    /// The file to make
    pub(crate) file: PathBuf,
    /// What to make: raw or qcow2
    #[arg(long, value_enum, default_value = "raw", hide_possible_values = true)]
    pub(crate) format: ImageFormat,
    /// Put it in the place of a file that is there, once it is whole
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// Make empty volumes
    #[command(after_help = "Example:\n  offshoot volume create p0/data-{1..3} --size 100G -L env=lab")]
    Create(VolumeCreateArguments),
    /// List volumes, clones among them
    #[command(after_help = "Example:\n  offshoot volume ls --sort -owned")]
    Ls(ListArguments),
    /// Change the size of a volume; making it smaller drops its end
    #[command(after_help = "Example:\n  offshoot volume resize desk-01 --size 80G")]
    Resize(VolumeResizeArguments),
    /// Remove volumes
    #[command(after_help = "Example:\n  offshoot volume rm desk-01 --recursive")]
    Rm(RemoveArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CloneVerb {
    /// Make volumes from an image version or a snapshot, all or none
    #[command(
        after_help = "Examples:\n  offshoot clone create p0/golden@v1 'desk-{01..25}' --size 200G -L env=lab\n  offshoot clone create p0/debian@v1 'ci-{1..8}' --seed user-data.yaml"
    )]
    Create(CloneArguments),
    /// List clones
    #[command(after_help = "Example:\n  offshoot clone ls -l env=lab")]
    Ls(ListArguments),
    /// Remove clones
    #[command(after_help = "Example:\n  offshoot clone rm 'desk-{01..25}' --yes")]
    Rm(RemoveArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapVerb {
    /// Take snapshots, all at one instant
    #[command(after_help = "Example:\n  offshoot snap create 'desk-{01..25}@before-update'")]
    Create(SnapshotArguments),
    /// List snapshots
    #[command(after_help = "Example:\n  offshoot snap ls 'desk-01@*'")]
    Ls(ListArguments),
    /// Return a volume to one of its snapshots; what it held since is dropped
    #[command(after_help = "Example:\n  offshoot snap rollback desk-01@before-update")]
    Rollback(RollbackArguments),
    /// Remove snapshots
    #[command(after_help = "Example:\n  offshoot snap rm desk-01@before-update")]
    Rm(ManyArguments),
}

#[derive(Debug, Args)]
pub(crate) struct LabelArguments {
    #[arg(required = true, add = ArgValueCandidates::new(complete::names))]
    pub(crate) names: Vec<String>,
    /// Set a label
    #[arg(long, value_name = "KEY=VALUE", value_parser = labels::parse_new)]
    pub(crate) set: Vec<(String, String)>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    pub(crate) unset: Vec<String>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeCreateArguments {
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) size: Size,
    /// A label of the new volumes
    #[arg(short = 'L', long = "label", value_name = "KEY=VALUE", value_parser = labels::parse_new)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeResizeArguments {
    pub(crate) name: String,
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) size: Size,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct CloneArguments {
    /// IMAGE@VERSION or VOLUME@SNAPSHOT
    #[arg(add = ArgValueCandidates::new(complete::points))]
    pub(crate) source: String,
    /// The new volumes: desk-01, 'desk-{01..25}', '{lab,office}-pc'
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// The size of the clones, if not the source's
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) size: Option<Size>,
    /// A label of the new volumes
    #[arg(short = 'L', long = "label", value_name = "KEY=VALUE", value_parser = labels::parse_new)]
    pub(crate) labels: Vec<(String, String)>,
    /// Make a disk NAME-seed for each, which tells cloud-init its name, that it is a new machine, and this user data
    #[arg(long, value_name = "USER-DATA")]
    pub(crate) seed: Option<PathBuf>,
    /// A network configuration of cloud-init for all of them
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub(crate) seed_network: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArguments {
    /// VOLUME@SNAPSHOT, 'desk-{01..25}@before'
    #[arg(required = true, add = ArgValueCandidates::new(complete::names))]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    /// VOLUME@SNAPSHOT
    #[arg(add = ArgValueCandidates::new(complete::points))]
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    #[arg(required = true, add = ArgValueCandidates::new(complete::names))]
    pub(crate) names: Vec<String>,
    /// Remove the snapshots of a volume with it
    #[arg(short, long)]
    pub(crate) recursive: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct ManyArguments {
    #[arg(required = true, add = ArgValueCandidates::new(complete::names))]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}
