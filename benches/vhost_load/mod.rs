//! The program behind `benches/vhost_load.rs`, in a module of its own so that a test can be that program, too.

mod contents;
mod failure;
mod generator;
mod histogram;
mod measure;
pub(crate) mod state;
mod verify;
#[path = "../../tests/vhost_client/mod.rs"]
pub(crate) mod vhost_client;

use clap::Parser;
use failure::Failure;
use generator::Load;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, Parser)]
#[command(name = "vhost-load", about = "Loads or verifies the disk behind a vhost-user-blk socket")]
struct Options {
    #[arg(long)]
    socket: PathBuf,
    /// Measure this load
    #[arg(long, value_enum, required_unless_present = "verify", conflicts_with = "verify")]
    rw: Option<Load>,
    /// Verify, with what is known of the disk in this file; the first run makes it
    #[arg(long, value_name = "STATE")]
    verify: Option<PathBuf>,
    #[arg(long, default_value_t = 32)]
    depth: usize,
    /// Bytes of a request
    #[arg(long, default_value_t = 4096, value_parser = block_bytes)]
    block: usize,
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: Duration,
    /// Bytes of the disk to use; by default all
    #[arg(long)]
    size: Option<u64>,
    /// Sleep between completions
    #[arg(long)]
    event: bool,
    /// The back end's process, whose use of the CPU is measured
    #[arg(long)]
    pid: Option<u32>,
    /// Seconds a back end may be silent; verifying, also how long it may be gone
    #[arg(long, default_value = "30", value_parser = seconds)]
    patience: Duration,
    /// Chooses what a new state writes; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
}

impl Options {
    /// Requests' worth of the disk that is used.
    fn blocks(&self, capacity: u64) -> Result<u64, String> {
        let block = u64::try_from(self.block).expect("a usize");
        match self.size.unwrap_or(u64::MAX).min(capacity) / block {
            0 => Err(format!("a disk of {capacity} bytes has no block of {block}")),
            blocks => Ok(blocks),
        }
    }
}

/// Requests are whole sectors.
fn block_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    if bytes == 0 || bytes % 512 != 0 { Err("not a multiple of 512".to_owned()) } else { Ok(bytes) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// How the program ends: with 0, with 1 after a mismatch, with 2 after any other failure.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => error.exit(),
    };
    let ended = match (&options.verify, options.rw) {
        (Some(state), _) => verify::run(&options, state),
        (None, load) => measure::run(&options, load.expect("one of both is given")),
    };
    match ended {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("vhost-load: {failure}");
            if matches!(failure, Failure::Mismatch { .. }) { 1 } else { 2 }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a load generator measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// A generator of numbers without a pattern that matters here; its state is never zero.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(contents::mixed(seed) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
