//! `offshoot ls`, and `ls` of images, volumes, clones and snapshots.

use super::names;
use crate::arguments::{ListArguments, View};
use crate::clock::rfc3339;
use crate::failure::Failure;
use crate::list::{Column, Shown, column, extra, print_list};
use crate::pool_choice::PoolChoice;
use crate::reach::LOOK;
use crate::wire::{EntryView, KindView};
use serde::Serialize;

const COLUMNS: [Column; 10] = [
    column("name", "NAME", Shown::Text),
    column("kind", "KIND", Shown::Text),
    column("size", ">SIZE", Shown::Size),
    column("owned", ">OWNED", Shown::Size),
    column("gives_back", ">GIVES BACK", Shown::Size),
    column("origin", "FROM", Shown::Text),
    column("attached", "IN USE", Shown::Flag),
    column("created", "CREATED", Shown::Text),
    extra("labels", "LABELS", Shown::Text),
    extra("pool", "POOL", Shown::Text),
];

#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    entry: &'a EntryView,
    created: String,
    pool: &'a str,
}

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Only {
    All,
    Kind(KindView),
    Clones,
}

impl Only {
    fn takes(self, entry: &EntryView) -> bool {
        match self {
            Only::All => true,
            Only::Kind(kind) => entry.kind == kind,
            Only::Clones => entry.kind == KindView::Volume && entry.origin.is_some(),
        }
    }
}

pub(super) fn run(
    pool: &PoolChoice,
    mut list: ListArguments,
    only: Only,
    view: &View,
) -> Result<(), Failure> {
    let what = "nothing was listed";
    let pool = pool.of(&mut list.names)?;
    // A pool with its '/' and nothing behind it is all that is in it.
    list.names.retain(|name| !name.is_empty());
    let (mut entries, name) = pool.with(LOOK, |reach| Ok((reach.entries()?, reach.status()?.pool)))?;
    entries.retain(|entry| only.takes(entry));
    if !list.names.is_empty() {
        let mut wanted = names::select(&list.names, &entries, what)?;
        wanted.sort();
        if let Some(missing) = wanted.iter().find(|name| !entries.iter().any(|entry| entry.name == **name)) {
            return Err(crate::explain::engine(what, &thinpool::Error::NotFound(missing.clone())));
        }
        entries.retain(|entry| wanted.binary_search(&entry.name).is_ok());
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let item = |entry| Item { entry, created: rfc3339(entry.created_unix), pool: &name };
    let items: Vec<Item<'_>> = entries.iter().map(item).collect();
    print_list("EntryList", &COLUMNS, &items, view)
}
