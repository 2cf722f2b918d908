//! `offshoot snapshot VOLUME@SNAPSHOT...`: all at one instant, or none.

use super::names::{self, Point};
use crate::arguments::SnapshotArguments;
use crate::clock;
use crate::failure::Failure;
use crate::output::say;
use crate::reach::{CHANGE, PoolChoice};
use crate::wire::Ask;

pub(super) fn run(pool: &PoolChoice, snapshot: &SnapshotArguments) -> Result<(), Failure> {
    let what = "no snapshot was taken";
    let names = names::expand(&snapshot.names, what)?;
    names::require_point(&names, Point::Required, what)?;
    let count = names.len();
    pool.with(CHANGE, |reach| {
        let start = clock::now();
        reach.ask(Ask::Snapshot { names })?;
        let noun = if count == 1 { "snapshot" } else { "snapshots" };
        say(&format!("{count} {noun} in {:.3} s", start.elapsed().as_secs_f64()));
        Ok(())
    })
}
