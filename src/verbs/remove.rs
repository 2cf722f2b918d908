//! `offshoot rm`, and `rm` of images, volumes, clones and snapshots: says what goes and what that gives back before it asks.

use super::{consent, names};
use crate::arguments::Consent;
use crate::failure::{Code, Failure};
use crate::output::{Style, say, tell};
use crate::pool_choice::PoolChoice;
use crate::reach::unexpected;
use crate::wire::{Answer, Ask, EntryView, KindView, RemoveOrder, RemovedView};
use serde_json::json;

const WHAT: &str = "nothing was removed";

#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    /// What the names must be, if that matters.
    pub(super) kind: Option<KindView>,
    pub(super) recursive: bool,
    pub(super) consent: Consent,
}

pub(super) fn run(
    pool: &PoolChoice,
    mut patterns: Vec<String>,
    order: Order,
    style: Style,
) -> Result<(), Failure> {
    let pool = pool.of(&mut patterns)?;
    pool.with(order.consent.demand(), |reach| {
        let entries = reach.entries()?;
        let names = names::select(&patterns, &entries, WHAT)?;
        require_kind(&entries, &names, order.kind)?;
        let word = match names.as_slice() {
            [one] => one.clone(),
            many => many.len().to_string(),
        };
        let ask = Ask::Remove(RemoveOrder { names, recursive: order.recursive });
        if !consent::ask(reach, &ask, order.consent, &word, style)? {
            return Ok(());
        }
        match reach.ask(ask)? {
            Answer::Removed(removed) => report(&removed, style),
            other => Err(unexpected(&other)),
        }
    })
}

fn require_kind(entries: &[EntryView], names: &[String], kind: Option<KindView>) -> Result<(), Failure> {
    let Some(kind) = kind else { return Ok(()) };
    for name in names {
        // What is missing is told by whoever looks for it next.
        let found = entries.iter().find(|entry| entry.name == *name);
        if let Some(entry) = found.filter(|entry| entry.kind != kind) {
            let why = format!("{name} is a {}, not a {}", entry.kind.word(), kind.word());
            return Err(Failure::new(Code::Usage, WHAT, why, format!("offshoot rm {name}")));
        }
    }
    Ok(())
}

fn report(removed: &RemovedView, style: Style) -> Result<(), Failure> {
    let total = removed.names.len() + removed.failures.len();
    let Some(first) = removed.failures.first() else {
        let sentence =
            format!("removed {total}; their space is free soon: offshoot pool settle waits for it");
        return tell(style, "Removed", &json!({ "names": removed.names }), &sentence);
    };
    if total == 1 {
        return Err(first.clone());
    }
    removed.failures.iter().for_each(|failure| say(&format!("{}: {}", failure.what, failure.why)));
    let code = if removed.names.is_empty() { first.code } else { Code::Partly };
    let what = format!("{} of {total} were not removed", removed.failures.len());
    Err(Failure::new(code, what, first.why.clone(), first.next.clone()))
}
