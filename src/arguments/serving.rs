//! What can be typed of exports, jobs and the daemon.

use super::{Consent, ListArguments, ManyArguments};
use crate::complete;
use crate::speed::{Bandwidth, Limit, NamedLimits, Requests};
use crate::spin::Spin;
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use nbd_server::Grant;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::str::FromStr as _;

#[derive(Debug, Subcommand)]
pub(crate) enum ExportVerb {
    /// Serve volumes, snapshots or versions to virtual machines over vhost-user-blk; prints the sockets
    #[command(after_help = "Example:\n  offshoot export start 'p0/desk-*'")]
    Start(ExportArguments),
    /// Change the limits of speed of exports, while they are used
    #[command(
        after_help = "Examples:\n  offshoot export set desk-01 --iops 500 --bandwidth 20M\n  offshoot export set 'desk-*' --iops none"
    )]
    Set(ExportSetArguments),
    /// End exports; their virtual machines are disconnected
    #[command(after_help = "Example:\n  offshoot export stop desk-01")]
    Stop(ManyArguments),
    /// List exports: who is connected, and what each has done since it began
    #[command(after_help = "Example:\n  offshoot export ls --watch")]
    Ls(ListArguments),
    /// What to tell a monitor to use an export
    #[command(after_help = "Example:\n  offshoot export show desk-01 --for libvirt")]
    Show(ShowArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobVerb {
    /// List jobs that run, and those that ended lately
    #[command(after_help = "Example:\n  offshoot job ls --watch")]
    Ls,
    /// Watch a job until it ends
    #[command(after_help = "Example:\n  offshoot job follow j-0a1b2c3d")]
    Follow(JobArguments),
    /// Cancel a job
    #[command(after_help = "Example:\n  offshoot job cancel j-0a1b2c3d")]
    Cancel(JobArguments),
}

#[derive(Debug, Args)]
pub(crate) struct JobArguments {
    /// The job's identifier
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// What is exported
    #[arg(add = ArgValueCandidates::new(complete::names))]
    pub(crate) name: String,
    /// Whom to tell
    #[arg(long = "for", value_enum, value_name = "MONITOR", default_value = "qemu")]
    pub(crate) monitor: Monitor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Monitor {
    Qemu,
    Libvirt,
    CloudHypervisor,
    Firecracker,
    Crosvm,
    Nbd,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// VOLUME, VOLUME@SNAPSHOT or IMAGE@VERSION; over NBD every name is served anyway
    #[arg(required = true, add = ArgValueCandidates::new(complete::names))]
    pub(crate) names: Vec<String>,
    /// The socket of a single export; by default in the run directory
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Permission bits of the socket
    #[arg(long, value_name = "OCTAL", default_value = "600", value_parser = octal)]
    pub(crate) socket_mode: u32,
    /// Whose the socket is, by names or numbers, such as libvirt-qemu:kvm or :kvm; by default the daemon's own
    #[arg(long, value_name = "[USER][:GROUP]", requires = "socket")]
    pub(crate) socket_owner: Option<String>,
    /// Serve a volume that the guest cannot change
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Queues the guest may use, 1 to 16
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    pub(crate) queues: u16,
    /// Requests in a second, at most; by default without end
    #[arg(long, value_name = "COUNT")]
    pub(crate) iops: Option<NonZeroU64>,
    /// Bytes read and written in a second, at most, such as 100M; by default without end
    #[arg(long, value_name = "SIZE")]
    pub(crate) bandwidth: Option<Bandwidth>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct ExportSetArguments {
    #[arg(required = true, add = ArgValueCandidates::new(complete::names))]
    pub(crate) names: Vec<String>,
    /// Requests in a second, at most
    #[arg(long, value_name = "COUNT|none", value_parser = Limit::<Requests>::from_str, required_unless_present = "bandwidth")]
    pub(crate) iops: Option<Limit<Requests>>,
    /// Bytes read and written in a second, at most, such as 100M
    #[arg(long, value_name = "SIZE|none", value_parser = Limit::<Bandwidth>::from_str)]
    pub(crate) bandwidth: Option<Limit<Bandwidth>>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The pools, instead of --pool; by default those of the configuration file
    #[arg(value_name = "POOL", add = ArgValueCandidates::new(complete::pools))]
    pub(crate) pools: Vec<PathBuf>,
    /// The configuration file; by default /etc/offshoot/offshoot.toml, if it is there
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
    /// The socket for other commands and programs; by default api.sock in the run directory
    #[arg(long, value_name = "PATH")]
    pub(crate) api_socket: Option<PathBuf>,
    /// Permission bits of that socket
    #[arg(long, value_name = "OCTAL", value_parser = octal)]
    pub(crate) api_mode: Option<u32>,
    /// The NBD socket; by default in the run directory
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Permission bits of the NBD socket; 600 where they are not given
    #[arg(long, value_name = "OCTAL", value_parser = octal)]
    pub(crate) socket_mode: Option<u32>,
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
    /// Requests, and bytes read and written, of an export in a second, at most, over NBD
    #[arg(long, value_name = "NAME=iops:COUNT,bps:SIZE")]
    pub(crate) limit: Vec<NamedLimits>,
    /// How long a worker of any of the pools looks for a virtual machine's next request before it sleeps, 0 to 10ms, and for a disk's
    /// answer about when it is due. By default 50us; more is faster on a disk and takes more of the processor
    #[arg(long, value_name = "TIME")]
    pub(crate) spin: Option<Spin>,
    /// Open the pool even when the writes acknowledged since it was last open are gone
    #[arg(long)]
    pub(crate) accept_lost_writes: bool,
}

pub(crate) fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("a mode is three octal digits, such as 660".to_owned()),
    }
}
