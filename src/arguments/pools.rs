//! What can be typed after `offshoot pool`.

use super::Consent;
use crate::complete;
use crate::size::Size;
use crate::wire::{OnFull, PoolOrder};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum PoolVerb {
    /// Make a pool in new sparse files, or on block devices
    #[command(
        after_help = "Examples:\n  offshoot pool create /srv/p0.pool --size 800G --warn 80 --critical 90\n  offshoot pool create /srv/a.pool /mnt/b.pool --size 800G --name p0"
    )]
    Create(PoolCreateArguments),
    /// List the pools known here
    #[command(after_help = "Example:\n  offshoot pool ls")]
    Ls,
    /// Let a name stand for a pool that exists
    #[command(after_help = "Example:\n  offshoot pool register /srv/p0.pool")]
    Register(PoolRegisterArguments),
    /// Let a name stand for no pool any more; the pool itself stays as it is
    #[command(after_help = "Example:\n  offshoot pool forget p0")]
    Forget(PoolForgetArguments),
    /// Figures and alerts, by the pool's thresholds or those given; exit code 5 when an alert is critical
    #[command(after_help = "Example:\n  offshoot pool status p0 --warn 80 --critical 90")]
    Status(PoolStatusArguments),
    /// Change when alerts are raised, and what a full pool does to writes; kept with the pool
    #[command(
        after_help = "Examples:\n  offshoot pool set p0 --warn 80 --critical 90 --overcommit-max 4\n  offshoot pool set p0 --on-full hold=60s"
    )]
    Set(PoolSetArguments),
    /// Compare all metadata with each other; exit code 0 clean, 2 errors, 3 leaked blocks only
    #[command(after_help = "Example:\n  offshoot pool check p0")]
    Check(PoolCheckArguments),
    /// Give a pool more space
    #[command(
        after_help = "Example:\n  offshoot pool grow p0 --size 1T\n  offshoot pool grow p0 --add /mnt/b.pool --size 800G"
    )]
    Grow(PoolGrowArguments),
    /// Wait until the space of what was removed is free
    #[command(after_help = "Example:\n  offshoot pool settle p0")]
    Settle(PoolSettleArguments),
    /// Give back what removed names keep for their clones and no clone uses any more
    #[command(after_help = "Example:\n  offshoot pool thin p0")]
    Thin(PoolSettleArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PoolCreateArguments {
    /// The new file, or a block device that holds no pool; of several the first is what names the pool
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Size of each file, such as 800G; a block device is used whole
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) size: Option<Size>,
    /// What the pool is called; by default like its file
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) policy: PolicyArguments,
}

/// What a pool does when it is short of space.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct PolicyArguments {
    #[command(flatten)]
    pub(crate) thresholds: ThresholdArguments,
    /// What becomes of a guest's write that finds the pool full: hold=60s waits so long for space, error fails it at once,
    /// as in a new pool
    #[arg(long, value_name = "hold=TIME|error")]
    pub(crate) on_full: Option<OnFull>,
}

impl From<PolicyArguments> for PoolOrder {
    fn from(typed: PolicyArguments) -> Self {
        Self { on_full: typed.on_full, ..typed.thresholds.into() }
    }
}

/// When a pool is short of space.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct ThresholdArguments {
    /// Percent used that raises a warning; 85 in a new pool
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) warn: Option<u8>,
    /// Percent used that raises a critical alert; 95 in a new pool
    #[arg(long, visible_alias = "crit", value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) critical: Option<u8>,
    /// Most that may be promised, as a multiple of the capacity; above it the alert is critical; 8 in a new pool
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub(crate) overcommit_max: Option<f64>,
}

impl From<ThresholdArguments> for PoolOrder {
    fn from(typed: ThresholdArguments) -> Self {
        let ThresholdArguments { warn, critical, overcommit_max } = typed;
        Self { warn_percent: warn, critical_percent: critical, overcommit_max, on_full: None }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PoolSetArguments {
    /// The pool, instead of --pool
    #[arg(value_name = "POOL", add = ArgValueCandidates::new(complete::pools))]
    pub(crate) path: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) policy: PolicyArguments,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct PoolRegisterArguments {
    /// The pool's file or block device
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PoolForgetArguments {
    /// The pool's name
    #[arg(add = ArgValueCandidates::new(complete::pools))]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct PoolStatusArguments {
    /// The pool, instead of --pool
    #[arg(value_name = "POOL", add = ArgValueCandidates::new(complete::pools))]
    pub(crate) path: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) thresholds: ThresholdArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PoolCheckArguments {
    /// The pool, instead of --pool
    #[arg(value_name = "POOL", add = ArgValueCandidates::new(complete::pools))]
    pub(crate) path: Option<PathBuf>,
    /// Open the pool even when the writes acknowledged since it was last open are gone
    #[arg(long)]
    pub(crate) accept_lost_writes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PoolGrowArguments {
    /// The pool, instead of --pool
    #[arg(value_name = "POOL", add = ArgValueCandidates::new(complete::pools))]
    pub(crate) path: Option<PathBuf>,
    /// The new size of the file, of several the last; a block device is used whole
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) size: Option<Size>,
    /// Add this new file of the size, or this block device, while no daemon serves the pool
    #[arg(long, value_name = "PATH")]
    pub(crate) add: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct PoolSettleArguments {
    /// The pool, instead of --pool
    #[arg(value_name = "POOL", add = ArgValueCandidates::new(complete::pools))]
    pub(crate) path: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) consent: Consent,
}

#[derive(Debug, Args)]
pub(crate) struct PoolPathArguments {
    /// The pool, instead of --pool
    #[arg(value_name = "POOL", add = ArgValueCandidates::new(complete::pools))]
    pub(crate) path: Option<PathBuf>,
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio.is_finite() && ratio > 0.0 => Ok(ratio),
        _ => Err("a ratio is a number above 0, such as 4 or 2.5".to_owned()),
    }
}
