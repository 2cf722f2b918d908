//! `offshoot ls` and `offshoot image ls`.

use crate::clock::rfc3339;
use crate::failure::Failure;
use crate::output::{Format, Style, Table, print, print_json};
use crate::reach::{LOOK, PoolChoice};
use crate::wire::{EntryView, KindView};
use serde::Serialize;

#[derive(Serialize)]
struct Listing<'a> {
    items: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    #[serde(flatten)]
    entry: &'a EntryView,
    created: String,
}

pub(super) fn run(pool: &PoolChoice, only: Option<KindView>, style: Style) -> Result<(), Failure> {
    let mut entries = pool.with(LOOK, |reach| reach.entries())?;
    entries.retain(|entry| only.is_none_or(|kind| kind == entry.kind));
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    match style.format {
        Format::Json => {
            let item = |entry| Item { entry, created: rfc3339(entry.created_unix) };
            print_json("EntryList", &Listing { items: entries.iter().map(item).collect() })
        }
        Format::Table => print(&table(&entries, style).render()),
    }
}

fn table(entries: &[EntryView], style: Style) -> Table {
    let mut table =
        Table::new(&["NAME", "KIND", ">SIZE", ">OWNED", ">GIVES BACK", "FROM", "IN USE", "CREATED"]);
    for entry in entries {
        table.row(vec![
            entry.name.clone(),
            entry.kind.word().to_owned(),
            style.size(entry.size),
            style.size(entry.owned),
            entry.gives_back.map_or("-".to_owned(), |bytes| style.size(bytes)),
            entry.origin.clone().unwrap_or("-".to_owned()),
            if entry.attached { "yes" } else { "-" }.to_owned(),
            rfc3339(entry.created_unix),
        ]);
    }
    table
}
