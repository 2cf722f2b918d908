//! `offshoot snapshot VOLUME@SNAPSHOT...`: all at one instant, or none.

use super::names::{self, Point};
use crate::arguments::SnapshotArguments;
use crate::clock;
use crate::failure::Failure;
use crate::output::{Style, tell};
use crate::reach::{CHANGE, PoolChoice};
use crate::wire::Ask;
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, snapshot: &SnapshotArguments, style: Style) -> Result<(), Failure> {
    let what = "no snapshot was taken";
    let names = names::expand(&snapshot.names, what)?;
    names::require_point(&names, Point::Required, what)?;
    let count = names.len();
    pool.with(CHANGE, |reach| {
        let start = clock::now();
        reach.ask(Ask::Snapshot { names: names.clone() })?;
        let noun = if count == 1 { "snapshot" } else { "snapshots" };
        let sentence = format!("{count} {noun} in {:.3} s", start.elapsed().as_secs_f64());
        tell(style, "SnapshotsTaken", &json!({ "names": names }), &sentence)
    })
}
