//! `offshoot tree`: what was made from what, with what each owns.

use crate::arguments::View;
use crate::failure::Failure;
use crate::output::{Format, Style, print, print_json, print_json_line};
use crate::pool_choice::PoolChoice;
use crate::reach::LOOK;
use crate::wire::{EntryView, KindView};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Siblings that are shown before the others are only counted.
const SHOWN_MAX: usize = 24;

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    kind: KindView,
    owned: u64,
    children: Vec<Node>,
}

pub(super) fn run(pool: &PoolChoice, view: &View) -> Result<(), Failure> {
    let (entries, name) = pool.with(LOOK, |reach| Ok((reach.entries()?, reach.status()?.pool)))?;
    let nodes = grow(&entries);
    let document = serde_json::json!({ "pool": name, "nodes": nodes });
    match view.output {
        Format::Json => print_json("Tree", &document),
        Format::Jsonl => print_json_line("Tree", &document),
        _ => {
            let style = Style { format: view.output, exact_bytes: view.bytes };
            print(&format!("{name}\n{}", draw(&nodes, "", style)))
        }
    }
}

/// A snapshot hangs from its volume, everything else from what it was made from. What it was made from may be gone.
fn grow(entries: &[EntryView]) -> Vec<Node> {
    let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let mut below: BTreeMap<Option<&str>, Vec<&EntryView>> = BTreeMap::new();
    for entry in entries {
        let own = entry.name.split('@').next().unwrap_or_default();
        let parent = match entry.kind {
            KindView::Snapshot => Some(own),
            KindView::Volume | KindView::Version => entry.origin.as_deref(),
        };
        below
            .entry(parent.filter(|parent| names.contains(parent) && *parent != entry.name))
            .or_default()
            .push(entry);
    }
    nodes(&below, None, entries.len())
}

/// `depth` ends what would have no end: a chain is no longer than there are names.
fn nodes(below: &BTreeMap<Option<&str>, Vec<&EntryView>>, parent: Option<&str>, depth: usize) -> Vec<Node> {
    let Some(depth) = depth.checked_sub(1) else { return Vec::new() };
    let mut children = below.get(&parent).cloned().unwrap_or_default();
    children.sort_by(|one, other| one.name.cmp(&other.name));
    let node = |entry: &EntryView| Node {
        name: entry.name.clone(),
        kind: entry.kind,
        owned: entry.owned,
        children: nodes(below, Some(&entry.name), depth),
    };
    children.into_iter().map(node).collect()
}

fn draw(nodes: &[Node], indent: &str, style: Style) -> String {
    let mut text = String::new();
    let hidden = nodes.len().saturating_sub(SHOWN_MAX);
    let shown = if hidden == 1 { nodes } else { &nodes[..nodes.len() - hidden] };
    let rest = nodes.len() - shown.len();
    for (place, node) in shown.iter().enumerate() {
        let is_last = place + 1 == shown.len() && rest == 0;
        let (branch, below) = if is_last { ("└ ", "  ") } else { ("├ ", "│ ") };
        let owned = style.size(node.owned);
        text.push_str(&format!("{indent}{branch}{}  {}  {owned}\n", node.name, node.kind.word()));
        text.push_str(&draw(&node.children, &format!("{indent}{below}"), style));
    }
    if rest > 0 {
        text.push_str(&format!("{indent}└ … {rest} more\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{draw, grow};
    use crate::output::{Format, Style};
    use crate::wire::{EntryView, KindView};
    use std::collections::BTreeMap;

    fn entry(name: &str, kind: KindView, origin: Option<&str>) -> EntryView {
        EntryView {
            name: name.to_owned(),
            kind,
            size: 0,
            origin: origin.map(str::to_owned),
            created_unix: 0,
            owned: 4096,
            gives_back: None,
            attached: false,
            labels: BTreeMap::new(),
            properties: BTreeMap::new(),
        }
    }

    #[test]
    fn clones_hang_from_what_they_were_made_from() {
        let entries = [
            entry("desk-02", KindView::Volume, Some("golden@v1")),
            entry("desk-01", KindView::Volume, Some("golden@v1")),
            entry("desk-01@a", KindView::Snapshot, None),
            entry("copy", KindView::Volume, Some("desk-01@a")),
            entry("golden@v1", KindView::Version, None),
            entry("orphan", KindView::Volume, Some("gone@v0")),
        ];
        let style = Style { format: Format::Table, exact_bytes: true };
        let drawn = draw(&grow(&entries), "", style);
        let expected = "├ golden@v1  version  4096\n\
                        │ ├ desk-01  volume  4096\n\
                        │ │ └ desk-01@a  snapshot  4096\n\
                        │ │   └ copy  volume  4096\n\
                        │ └ desk-02  volume  4096\n\
                        └ orphan  volume  4096\n";
        assert_eq!(drawn, expected);
    }

    #[test]
    fn many_siblings_are_counted() {
        let entries: Vec<EntryView> =
            (0..100).map(|number| entry(&format!("v{number:03}"), KindView::Volume, None)).collect();
        let style = Style { format: Format::Table, exact_bytes: true };
        let drawn = draw(&grow(&entries), "", style);
        assert_eq!(drawn.lines().count(), 25);
        assert!(drawn.ends_with("└ … 76 more\n"), "{drawn}");
    }
}
