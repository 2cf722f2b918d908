//! `offshoot rm`, `image rm`, `volume rm`: says what goes and what that gives back before it asks.

use super::names;
use crate::arguments::Consent;
use crate::confirm::confirm;
use crate::failure::{Code, Failure};
use crate::output::{Style, say, tell};
use crate::reach::{CHANGE, PoolChoice, Reach};
use crate::wire::{Ask, EntryView, KindView};
use serde_json::json;

const WHAT: &str = "nothing was removed";

#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// What the names must be, if that matters.
    pub(super) kind: Option<KindView>,
    pub(super) recursive: bool,
    pub(super) consent: Consent,
}

pub(super) fn run(pool: &PoolChoice, patterns: &[String], order: Order, style: Style) -> Result<(), Failure> {
    let names = names::expand(patterns, WHAT)?;
    pool.with(CHANGE, |reach| {
        let entries = reach.entries()?;
        let doomed = find(&entries, &names, order.kind)?;
        let word = match doomed.as_slice() {
            [one] => one.name.clone(),
            many => many.len().to_string(),
        };
        confirm(order.consent.yes, &damage(&entries, &doomed, order, style), &word)?;
        remove_all(reach, &names, order, style)
    })
}

fn find<'a>(
    entries: &'a [EntryView],
    names: &[String],
    kind: Option<KindView>,
) -> Result<Vec<&'a EntryView>, Failure> {
    let find = |name: &String| {
        let entry = entries.iter().find(|entry| entry.name == *name).ok_or_else(|| {
            Failure::new(Code::NotFound, WHAT, format!("{name} does not exist"), "offshoot ls")
        })?;
        match kind {
            Some(kind) if kind != entry.kind => {
                let why = format!("{name} is a {}, not a {}", entry.kind.word(), kind.word());
                Err(Failure::new(Code::Usage, WHAT, why, format!("offshoot rm {name}")))
            }
            _ => Ok(entry),
        }
    };
    names.iter().map(find).collect()
}

fn damage(entries: &[EntryView], doomed: &[&EntryView], order: Order, style: Style) -> String {
    let subject = match doomed {
        [one] => format!("this removes the {} {}", one.kind.word(), one.name),
        many => format!("this removes {} names", many.len()),
    };
    let gives_back: Option<u64> = doomed.iter().map(|entry| entry.gives_back).sum();
    let space = gives_back.map_or(String::new(), |bytes| format!(" and gives back {}", style.size(bytes)));
    let is_of = |entry: &&EntryView| {
        let volume = entry.name.split('@').next().unwrap_or_default();
        entry.kind == KindView::Snapshot && doomed.iter().any(|doomed| doomed.name == volume)
    };
    match entries.iter().filter(is_of).count() {
        snapshots if order.recursive && snapshots > 0 => format!("{subject} with {snapshots} snapshots"),
        _ => format!("{subject}{space}"),
    }
}

/// Goes on after a failure: each name is its own command.
fn remove_all(reach: &mut Reach, names: &[String], order: Order, style: Style) -> Result<(), Failure> {
    let total = names.len();
    let mut failures: Vec<Failure> = Vec::new();
    for name in names {
        match reach.ask(Ask::Remove { name: name.clone(), recursive: order.recursive }) {
            Ok(_) => {}
            Err(failure) if failure.code == Code::Unreachable => return Err(failure),
            Err(failure) => failures.push(failure),
        }
    }
    let removed = total - failures.len();
    let Some(first) = failures.first() else {
        return tell(style, "Removed", &json!({ "names": names }), &format!("removed {removed}"));
    };
    if total == 1 {
        return Err(first.clone());
    }
    failures.iter().for_each(|failure| say(&format!("{}: {}", failure.what, failure.why)));
    let code = if removed > 0 { Code::Partly } else { first.code };
    let what = format!("{} of {total} were not removed", failures.len());
    Err(Failure::new(code, what, first.why.clone(), first.next.clone()))
}
