//! What can be typed.

mod pools;
mod serving;
mod volumes;

use crate::complete;
use crate::labels::Selector;
use crate::local_pool::Demand;
use crate::output::Format;
use crate::reach::{CHANGE, LOOK};
use blockstore::Engine;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use std::path::PathBuf;

pub(crate) use pools::{
    PolicyArguments, PoolCreateArguments, PoolPathArguments, PoolSetArguments, PoolStatusArguments, PoolVerb,
};
pub(crate) use serving::{
    ExportArguments, ExportSetArguments, ExportVerb, JobVerb, Monitor, ServeArguments, ShowArguments, octal,
};
pub(crate) use volumes::{
    CloneArguments, CloneVerb, ImageExportArguments, ImageImportArguments, ImageVerb, LabelArguments,
    ListArguments, ManyArguments, RemoveArguments, RollbackArguments, SnapVerb, SnapshotArguments,
    VolumeCreateArguments, VolumeResizeArguments, VolumeVerb,
};

/// Thin pools, golden images and linked clones for virtual machines.
///
/// Names are VOLUME, VOLUME@SNAPSHOT and IMAGE@VERSION, with POOL/ before them where the pool is not given otherwise;
/// 'desk-{01..25}' stands for 25 of them, and 'desk-*' for all there are.
/// Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 conflict or busy, 5 capacity, 6 needs --yes,
/// 7 daemon unreachable, 8 partly done; of pool check: 0 clean, 2 errors, 3 leaked blocks only.
#[derive(Debug, Parser)]
#[command(name = "offshoot", version, max_term_width = 100, verbatim_doc_comment)]
#[command(
    after_help = "Begin with: offshoot quickstart\nSomething is wrong: offshoot doctor, offshoot explain CODE"
)]
pub(crate) struct Arguments {
    /// The pool: its name, its file or its block device (of several the first); by default the only one there is
    #[arg(long, global = true, value_name = "POOL", env = "OFFSHOOT_POOL", help_heading = "Global options")]
    #[arg(add = ArgValueCandidates::new(complete::pools))]
    pub(crate) pool: Option<PathBuf>,
    /// Another device of the pool that is not where it was; may be given several times
    #[arg(long = "device", global = true, value_name = "PATH", help_heading = "Global options")]
    pub(crate) devices: Vec<PathBuf>,
    /// The socket of a daemon, instead of looking for one that holds the pool
    #[arg(long, global = true, value_name = "PATH", env = "OFFSHOOT_API", help_heading = "Global options")]
    pub(crate) api: Option<PathBuf>,
    /// Which way the pool's bytes take, where no daemon holds the pool
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        env = "OFFSHOOT_IO",
        help_heading = "Global options"
    )]
    pub(crate) io: IoEngine,
    #[command(flatten)]
    pub(crate) view: View,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How data is printed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct View {
    /// How data is printed
    #[arg(short, long, global = true, value_enum, default_value = "table")]
    pub(crate) output: Format,
    /// Exact bytes instead of KiB, MiB, GiB
    #[arg(long, global = true)]
    pub(crate) bytes: bool,
    /// Columns of a list, by their names in JSON
    #[arg(long, global = true, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Sort a list by a column; '-' before it for the largest first
    #[arg(long, global = true, value_name = "COLUMN", allow_hyphen_values = true)]
    pub(crate) sort: Option<String>,
    /// No headings above a table or CSV
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// Only what has these labels: 'env=lab,!old'
    #[arg(short = 'l', long, global = true, value_name = "LABELS")]
    pub(crate) selector: Option<Selector>,
    /// Show it again every so many seconds
    #[arg(long, global = true, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", require_equals = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) watch: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// Make, find, check and grow pools
    #[command(subcommand)]
    Pool(PoolVerb),
    /// Golden images: import, list, remove
    #[command(subcommand)]
    Image(ImageVerb),
    /// Volumes that are not clones, and what all volumes have: create, resize, remove
    #[command(subcommand)]
    Volume(VolumeVerb),
    /// Volumes from an image version or a snapshot; no data is copied
    #[command(subcommand)]
    Clone(CloneVerb),
    /// Points in time of volumes
    #[command(subcommand)]
    Snap(SnapVerb),
    /// What is served to virtual machines
    #[command(subcommand)]
    Export(ExportVerb),
    /// Long work of a daemon
    #[command(subcommand)]
    Job(JobVerb),
    /// List volumes, snapshots and image versions
    #[command(
        after_help = "Examples:\n  offshoot ls\n  offshoot ls -l env=lab --sort -owned --columns name,owned,origin"
    )]
    Ls(ListArguments),
    /// What was made from what
    #[command(after_help = "Example:\n  offshoot tree p0")]
    Tree(PoolPathArguments),
    /// Where the space is
    #[command(after_help = "Example:\n  offshoot df p0 --bytes")]
    Df(PoolPathArguments),
    /// Remove volumes, snapshots or image versions
    #[command(
        after_help = "Examples:\n  offshoot rm 'desk-{01..25}' --dry-run\n  offshoot rm desk-01 --recursive --yes"
    )]
    Rm(RemoveArguments),
    /// Set and remove labels, which lists can select by
    #[command(after_help = "Example:\n  offshoot label 'desk-{01..25}' --set env=lab --unset old")]
    Label(LabelArguments),
    /// Who has changed what
    #[command(after_help = "Example:\n  offshoot history --limit 20")]
    History(HistoryArguments),
    /// Serve pools to guests, and to other offshoot commands, until SIGTERM
    #[command(
        after_help = "Examples:\n  offshoot serve p0 p1\n  offshoot serve --config /etc/offshoot/offshoot.toml\n  offshoot --pool p0 serve --tcp 127.0.0.1:10809"
    )]
    Serve(ServeArguments),
    /// Look for what would keep Offshoot from working here
    #[command(after_help = "Example:\n  offshoot doctor")]
    Doctor,
    /// A first pool, image and clones, to try everything with
    #[command(after_help = "Example:\n  offshoot quickstart")]
    Quickstart(QuickstartArguments),
    /// What an error code means, and what helps
    #[command(after_help = "Example:\n  offshoot explain OFFSHOOT0501")]
    Explain(ExplainArguments),
    /// The script that makes a shell complete commands and names
    #[command(after_help = "Example:\n  source <(offshoot completions bash)")]
    Completions(CompletionsArguments),
    /// Write the manual pages into a directory
    #[command(after_help = "Example:\n  offshoot man /usr/share/man/man1")]
    Man(ManArguments),
}

impl Verb {
    /// Whether it shows items, which can be chosen from, sorted and printed in several forms.
    pub(crate) fn is_list(&self) -> bool {
        matches!(
            self,
            Verb::Pool(PoolVerb::Ls)
                | Verb::Image(ImageVerb::Ls(_))
                | Verb::Volume(VolumeVerb::Ls(_))
                | Verb::Clone(CloneVerb::Ls(_))
                | Verb::Snap(SnapVerb::Ls(_))
                | Verb::Export(ExportVerb::Ls(_))
                | Verb::Job(JobVerb::Ls)
                | Verb::Ls(_)
                | Verb::Df(_)
                | Verb::History(_)
                | Verb::Doctor
                | Verb::Explain(_)
        )
    }

    /// Whether it only looks, so that it can be looked at again and again.
    pub(crate) fn is_look(&self) -> bool {
        let is_look = matches!(
            self,
            Verb::Tree(_) | Verb::Pool(PoolVerb::Status(_)) | Verb::Export(ExportVerb::Show(_))
        );
        is_look || self.is_list()
    }
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArguments {
    /// The newest so many
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub(crate) limit: usize,
    /// Of all pools
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct QuickstartArguments {
    /// Where the pool's file goes
    #[arg(default_value = ".")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// OFFSHOOT0501, 0501; all of them where none is given
    pub(crate) code: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    pub(crate) shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    pub(crate) directory: PathBuf,
}

/// How a change is to be made.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Consent {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Say what it would do, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Consent {
    /// A dry run opens a pool to look only.
    pub(crate) fn demand(self) -> Demand {
        if self.dry_run { LOOK } else { CHANGE }
    }
}
