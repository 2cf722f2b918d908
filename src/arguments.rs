//! What can be typed.

use crate::image_format::ImageFormat;
use crate::output::Format;
use crate::size::Size;
use blockstore::Engine;
use clap::{Args, Parser, Subcommand, ValueEnum};
use nbd_server::Grant;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Thin pools, golden images and linked clones for virtual machines.
///
/// Names are VOLUME, VOLUME@SNAPSHOT and IMAGE@VERSION; 'desk-{01..25}' stands for 25 of them.
/// Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 conflict or busy, 5 capacity, 6 needs --yes,
/// 7 daemon unreachable, 8 partly done; of pool check: 0 clean, 2 errors, 3 leaked blocks only.
#[derive(Debug, Parser)]
#[command(name = "offshoot", version, max_term_width = 100, verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The pool: a file or a block device
    #[arg(long, global = true, value_name = "PATH", env = "OFFSHOOT_POOL")]
    pub(crate) pool: Option<PathBuf>,
    /// Which way the pool's bytes take, where no daemon holds the pool
    #[arg(long, global = true, value_enum, default_value = "auto", env = "OFFSHOOT_IO")]
    pub(crate) io: IoEngine,
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
    /// Exact bytes instead of KiB, MiB, GiB
    #[arg(long, global = true)]
    pub(crate) bytes: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IoEngine {
    /// io_uring, unless the kernel forbids it or it gains nothing
    Auto,
    /// io_uring or an error
    Uring,
    /// A system call for each operation
    Inline,
    /// A memory map; only for files on tmpfs and DAX
    Mapped,
}

impl From<IoEngine> for Engine {
    fn from(engine: IoEngine) -> Self {
        match engine {
            IoEngine::Auto => Engine::Auto,
            IoEngine::Uring => Engine::Uring,
            IoEngine::Inline => Engine::Inline,
            IoEngine::Mapped => Engine::Mapped,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make, check and grow pools
    #[command(subcommand)]
    Pool(PoolVerb),
    /// Golden images: import, list, remove
    #[command(subcommand)]
    Image(ImageVerb),
    /// Volumes that are not clones: create, resize, remove
    #[command(subcommand)]
    Volume(VolumeVerb),
    /// Make volumes from an image version or a snapshot; no data is copied
    Clone(CloneArguments),
    /// Take snapshots, all at one instant
    Snapshot(SnapshotArguments),
    /// Return a volume to one of its snapshots; what it held since is dropped
    Rollback(RollbackArguments),
    /// Remove volumes, snapshots or image versions
    Rm(RemoveArguments),
    /// List volumes, snapshots and image versions
    Ls,
    /// Where the space is
    Df,
    /// Serve a volume, snapshot or version to a virtual machine; prints the socket
    Export(ExportArguments),
    /// End an export; its virtual machine is disconnected
    Unexport { name: String },
    /// List exports: who is connected, and what each has done since it began
    Exports,
    /// Serve the pool to guests, and to other offshoot commands, until SIGTERM
    Serve(ServeArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolVerb {
    /// Make a pool in a new sparse file, or on a block device
    Create(PoolCreateArguments),
    /// Figures and alerts; exit code 5 when an alert is critical
    Status(PoolStatusArguments),
    /// Compare all metadata with each other; exit code 0 clean, 2 errors, 3 leaked blocks only
    Check(PoolCheckArguments),
    /// Give a pool more space
    Grow(PoolGrowArguments),
    /// Wait until the space of what was removed is free
    Settle(PoolPathArguments),
    /// Give back what removed names keep for their clones and no clone uses any more
    Thin(PoolPathArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PoolCreateArguments {
    /// The new file, or a block device that holds no pool
    pub(crate) path: PathBuf,
    /// Size of the file, such as 800G; a block device is used whole
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) size: Option<Size>,
    /// What the pool is called; by default like its file
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PoolStatusArguments {
    /// The pool, instead of --pool
    pub(crate) path: Option<PathBuf>,
    /// Percent used that raises a warning
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) warn: u8,
    /// Percent used that raises a critical alert
    #[arg(long, value_name = "PERCENT", default_value_t = 95, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) critical: u8,
    /// Most that may be promised, as a multiple of the capacity; above it the alert is critical
    #[arg(long, value_name = "RATIO", default_value_t = 8.0, value_parser = ratio)]
    pub(crate) overcommit_max: f64,
}

#[derive(Debug, Args)]
pub(crate) struct PoolCheckArguments {
    /// The pool, instead of --pool
    pub(crate) path: Option<PathBuf>,
    /// Open the pool even when the writes acknowledged since it was last open are gone
    #[arg(long)]
    pub(crate) accept_lost_writes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolGrowArguments {
    /// The pool, instead of --pool
    pub(crate) path: Option<PathBuf>,
    /// The new size of the file; a block device is used whole
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) size: Option<Size>,
}

#[derive(Debug, Args)]
pub(crate) struct PoolPathArguments {
    /// The pool, instead of --pool
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Make an image version from a file; holes and zeros take no space
    Import(ImageImportArguments),
    /// Write a volume, snapshot or version into a file
    Export(ImageExportArguments),
    /// List image versions
    Ls,
    /// Remove image versions
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
}

#[derive(Debug, Args)]
pub(crate) struct ImageExportArguments {
    /// VOLUME, VOLUME@SNAPSHOT or IMAGE@VERSION
    pub(crate) name: String,
    /// The file to make
    pub(crate) file: PathBuf,
    /// What to make: raw or qcow2
    #[arg(long, value_enum, default_value = "raw", hide_possible_values = true)]
    pub(crate) format: ImageFormat,
    /// Put it in the place of a file that is there, once it is whole
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// Make an empty volume
    Create(VolumeCreateArguments),
    /// Change the size of a volume; making it smaller drops its end
    Resize(VolumeResizeArguments),
    /// Remove volumes
    Rm(RemoveArguments),
}

#[derive(Debug, Args)]
pub(crate) struct VolumeCreateArguments {
    pub(crate) names: Vec<String>,
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) size: Size,
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
    pub(crate) source: String,
    /// The new volumes: desk-01, 'desk-{01..25}', '{lab,office}-pc'
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// The size of the clones, if not the source's
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) size: Option<Size>,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArguments {
    /// VOLUME@SNAPSHOT, 'desk-{01..25}@before'
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    /// VOLUME@SNAPSHOT
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArguments {
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    /// Remove the snapshots of a volume with it
    #[arg(short, long)]
    pub(crate) recursive: bool,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct ManyArguments {
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// VOLUME, VOLUME@SNAPSHOT or IMAGE@VERSION
    pub(crate) name: String,
    /// Over vhost-user-blk, to QEMU and other monitors; over NBD every name is served anyway
    #[arg(long, required = true)]
    pub(crate) vhost: bool,
    /// The socket; by default in the run directory
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Permission bits of the socket
    #[arg(long, value_name = "OCTAL", default_value = "600", value_parser = octal)]
    pub(crate) socket_mode: u32,
    /// Serve a volume that the guest cannot change
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Queues the guest may use, 1 to 16
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    pub(crate) queues: u16,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The NBD socket; by default in the run directory
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Permission bits of the NBD socket
    #[arg(long, value_name = "OCTAL", default_value = "600", value_parser = octal)]
    pub(crate) socket_mode: u32,
    /// Serve NBD here as well; beyond loopback addresses only with --tls
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) tcp: Option<SocketAddr>,
    /// Offer TLS 1.3 with the ca-cert.pem, server-cert.pem, server-key.pem and, if there, ca-crl.pem of a directory
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) tls: Option<PathBuf>,
    /// Talk over TLS only, on every socket
    #[arg(long, requires = "tls")]
    pub(crate) tls_required: bool,
    /// Certificates of NAME get these exports, `*` standing for any characters; others none, and TCP needs TLS. By default all
    /// get all
    #[arg(long, value_name = "NAME=EXPORT,...", requires = "tls")]
    pub(crate) tls_allow: Vec<Grant>,
    /// What clients get who name no export
    #[arg(long, value_name = "NAME")]
    pub(crate) default_export: Option<String>,
    /// Open the pool even when the writes acknowledged since it was last open are gone
    #[arg(long)]
    pub(crate) accept_lost_writes: bool,
}

/// Leave to destroy something without being asked.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Consent {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio.is_finite() && ratio > 0.0 => Ok(ratio),
        _ => Err("a ratio is a number above 0, such as 4 or 2.5".to_owned()),
    }
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("a mode is three octal digits, such as 660".to_owned()),
    }
}
