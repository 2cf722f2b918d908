//! `offshoot snap create VOLUME@SNAPSHOT...`: all at one instant, or none.

use super::consent;
use super::names::{self, Point};
use crate::arguments::SnapshotArguments;
use crate::clock;
use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::reach::Reach;
use crate::wire::{Ask, SnapshotOrder};
use serde_json::json;

const WHAT: &str = "no snapshot was taken";

pub(super) fn run(pool: &PoolChoice, mut snapshot: SnapshotArguments, style: Style) -> Result<(), Failure> {
    let pool = pool.of(&mut snapshot.names)?;
    let is_pattern = snapshot.names.iter().any(|name| name.contains('*'));
    // What can be refused without the pool is refused without touching it.
    let plain = if is_pattern { None } else { Some(names::expand(&snapshot.names, WHAT)?) };
    names::require_point(plain.as_deref().unwrap_or_default(), Point::Required, WHAT)?;
    pool.with(snapshot.consent.demand(), |reach| {
        let names = plain.map_or_else(|| of_volumes(reach, &snapshot.names), Ok)?;
        let count = names.len();
        let order = Ask::Snapshot(SnapshotOrder { names: names.clone() });
        if consent::is_dry(reach, &order, snapshot.consent, style)? {
            return Ok(());
        }
        let start = clock::now();
        reach.ask(order)?;
        let noun = if count == 1 { "snapshot" } else { "snapshots" };
        let first = names.first().map_or("", String::as_str);
        let seconds = start.elapsed().as_secs_f64();
        let sentence = format!("{count} {noun} in {seconds:.3} s; undo with: offshoot snap rollback {first}");
        tell(style, "SnapshotsTaken", &json!({ "names": names }), &sentence)
    })
}

/// `'desk-*@before'` is a snapshot of each of those volumes.
fn of_volumes(reach: &mut Reach, patterns: &[String]) -> Result<Vec<String>, Failure> {
    let entries = reach.entries()?;
    let mut all = Vec::new();
    for pattern in patterns {
        let (volume, point) = pattern.split_once('@').ok_or_else(|| {
            let next = format!("'{pattern}@before'");
            Failure::new(Code::Usage, WHAT, format!("{pattern} names no snapshot"), next)
        })?;
        let volumes = names::select(&[volume.to_owned()], &entries, WHAT)?;
        all.extend(
            volumes.into_iter().filter(|name| !name.contains('@')).map(|name| format!("{name}@{point}")),
        );
    }
    names::expand(&all, WHAT)
}
