//! What a change would do, without doing it: for `--dry-run`, and for the question before something is destroyed. Names are
//! looked up as the change itself would, so that what is missing or taken is found here too.

use crate::doors::Doors;
use crate::doors::owner_of;
use crate::explain;
use crate::failure::{Code, Failure};
use crate::handler::{Held, describe, parse_name, parse_names, thresholds};
use crate::seed::{self, Seeds};
use crate::size::{GRAIN_BYTES, Iec};
use crate::speed::words as speed_words;
use crate::wire::{Ask, CloneOrder, KindView, PlanView, RemoveOrder};
use std::collections::{BTreeMap, BTreeSet};
use thinpool::{Entry, EntryKind, Name};

pub(crate) fn plan(held: &Held, ask: &Ask) -> Result<PlanView, Failure> {
    let what = describe(ask);
    let view = Survey { entries: by_name(held), what: &what };
    match ask {
        Ask::CreateVolumes(order) => {
            view.vacant(&order.names)?;
            let provisions = order.size.saturating_mul(count(order.names.len()));
            let summary = format!("creates {} of {}", number(&order.names, "volume"), Iec(order.size));
            Ok(PlanView { provisions, ..PlanView::quiet(summary, &order.names) })
        }
        Ask::Clone(order) => view.cloning(order),
        Ask::Snapshot(order) => {
            view.vacant(&order.names)?;
            let mut volumes = BTreeSet::new();
            for name in parse_names(&order.names, &what)? {
                view.existing(name.base())?;
                if !volumes.insert(name.base().to_owned()) {
                    let twice = thinpool::Error::Invalid(format!("{} is named twice", name.base()));
                    return Err(explain::engine(what.as_str(), &twice));
                }
            }
            Ok(PlanView::quiet(format!("takes {}", number(&order.names, "snapshot")), &order.names))
        }
        Ask::Rollback(order) => {
            view.existing(&order.to)?;
            let volume = parse_name(&order.to, &what)?.base().to_owned();
            let live = view.existing(&volume)?;
            let summary = format!("{volume} drops the {} it wrote since {}", Iec(live.owned), order.to);
            Ok(PlanView { destroys: true, frees: Some(live.owned), ..PlanView::quiet(summary, &[volume]) })
        }
        Ask::Resize(order) => {
            let found = view.existing(&order.name)?;
            let names = [order.name.clone()];
            if order.size < found.size {
                let summary = format!("{} loses its last {}", order.name, Iec(found.size - order.size));
                return Ok(PlanView { destroys: true, frees: None, ..PlanView::quiet(summary, &names) });
            }
            let summary = format!("{} grows from {} to {}", order.name, Iec(found.size), Iec(order.size));
            Ok(PlanView { provisions: order.size - found.size, ..PlanView::quiet(summary, &names) })
        }
        Ask::Remove(order) => view.removal(held, order),
        Ask::Label(order) => {
            order.names.iter().try_for_each(|name| view.existing(name).map(drop))?;
            let labels = order.labels.len();
            Ok(PlanView::quiet(
                format!("changes {labels} labels of {}", number(&order.names, "name")),
                &order.names,
            ))
        }
        Ask::Export(order) => {
            view.existing(&order.name)?;
            owner_of(order, &what)?;
            let whose = order.owner.as_ref().map_or_else(String::new, |owner| format!(" to {owner}"));
            Ok(PlanView::quiet(
                format!("exports {} over vhost-user-blk{whose}", order.name),
                std::slice::from_ref(&order.name),
            ))
        }
        Ask::SetExport { name, change } => {
            let order = held.doors(what.clone())?.noted(name, change)?.with(change);
            let words = speed_words(order.iops, order.bytes_per_second);
            Ok(PlanView::quiet(format!("{name} is exported with {words}"), std::slice::from_ref(name)))
        }
        Ask::Unexport { name } => {
            view.existing(name)?;
            let stops_exports = exported(held, |other| other == name);
            let summary = format!("ends the export of {name}");
            Ok(PlanView { stops_exports, ..PlanView::quiet(summary, std::slice::from_ref(name)) })
        }
        Ask::Import(order) => {
            view.vacant(std::slice::from_ref(&order.version))?;
            let summary = format!("imports {} as {}", order.file.display(), order.version);
            Ok(PlanView::quiet(summary, std::slice::from_ref(&order.version)))
        }
        Ask::ExportImage(order) => {
            view.existing(&order.name)?;
            let summary = format!("writes {} to {} as {}", order.name, order.file.display(), order.format);
            Ok(PlanView::quiet(summary, std::slice::from_ref(&order.name)))
        }
        Ask::Grow(order) => {
            Ok(PlanView::quiet(format!("makes the pool's device {} long", Iec(order.size)), &[]))
        }
        Ask::SetPool(order) => {
            let words = order.words(&thresholds(&held.pool, order, &what)?);
            Ok(PlanView::quiet(format!("from now on: {words}"), &[]))
        }
        Ask::Thin => {
            Ok(PlanView::quiet("gives back what removed names keep and no clone uses".to_owned(), &[]))
        }
        Ask::Settle => Ok(PlanView::quiet("waits until what was removed is free".to_owned(), &[])),
        Ask::Check | Ask::Entries | Ask::Status | Ask::Exports => {
            Ok(PlanView::quiet("changes nothing".to_owned(), &[]))
        }
    }
}

/// The same for new clones alone.
pub(crate) fn cloning(held: &Held, order: &CloneOrder, what: &str) -> Result<PlanView, Failure> {
    Survey { entries: by_name(held), what }.cloning(order)
}

struct Survey<'a> {
    entries: BTreeMap<String, Entry>,
    what: &'a str,
}

impl Survey<'_> {
    fn existing(&self, name: &str) -> Result<&Entry, Failure> {
        parse_name(name, self.what)?;
        let missing = || explain::engine(self.what, &thinpool::Error::NotFound(name.to_owned()));
        self.entries.get(name).ok_or_else(missing)
    }

    fn vacant(&self, names: &[String]) -> Result<(), Failure> {
        let names = parse_names(names, self.what)?;
        let mut seen = BTreeSet::new();
        for name in names.iter().map(Name::to_string) {
            if self.entries.contains_key(&name) {
                return Err(explain::engine(self.what, &thinpool::Error::Exists(name)));
            }
            if let Some(twice) = seen.replace(name) {
                let twice = thinpool::Error::Invalid(format!("{twice} is named twice"));
                return Err(explain::engine(self.what, &twice));
            }
        }
        Ok(())
    }

    fn cloning(&self, order: &CloneOrder) -> Result<PlanView, Failure> {
        let source = self.existing(&order.source)?;
        if source.kind == EntryKind::Volume {
            let why = format!("{} is a volume; clones are made from a snapshot or a version", order.source);
            let next = format!("offshoot snap create {}@base", order.source);
            return Err(Failure::new(Code::Usage, self.what, why, next));
        }
        let size = order.size.unwrap_or(source.size);
        if size < source.size || !size.is_multiple_of(GRAIN_BYTES) {
            let why =
                format!("a clone of {} has {} bytes at least, and whole blocks", source.name, source.size);
            return Err(explain::engine(self.what, &thinpool::Error::Invalid(why)));
        }
        let clones = parse_names(&order.names, self.what)?;
        let seeds = order.seed.as_ref().map(|seed| Seeds::check(seed, &clones, self.what)).transpose()?;
        let seeds = seeds.map(|seeds| seeds.names()).unwrap_or_default();
        let names = [order.names.as_slice(), &seeds].concat();
        self.vacant(&names)?;
        let mut summary =
            format!("clones {} of {} from {}", number(&order.names, "volume"), Iec(size), order.source);
        match seeds.as_slice() {
            [] => {}
            [one] => summary.push_str(&format!(", with its seed {one}")),
            [first, .., last] => summary.push_str(&format!(", with their seeds {first} to {last}")),
        }
        let provisions = size.saturating_mul(count(order.names.len()));
        let provisions = provisions.saturating_add(seed::BYTES.saturating_mul(count(seeds.len())));
        Ok(PlanView { provisions, ..PlanView::quiet(summary, &names) })
    }

    fn removal(&self, held: &Held, order: &RemoveOrder) -> Result<PlanView, Failure> {
        let doomed: Vec<&Entry> =
            order.names.iter().map(|name| self.existing(name)).collect::<Result<_, _>>()?;
        let mut gone: BTreeSet<String> = order.names.iter().cloned().collect();
        // A seed takes its snapshots with it, whatever was said.
        let mut seeds: Vec<Entry> =
            doomed.iter().filter_map(|entry| seed::of(&held.pool, &entry.name)).collect();
        let mut volumes: BTreeSet<String> = seeds.iter().map(|seed| seed.name.to_string()).collect();
        if order.recursive {
            volumes.extend(gone.iter().filter(|name| !name.contains('@')).cloned());
        }
        seeds.retain(|seed| !gone.contains(&seed.name.to_string()));
        let with_seeds: Vec<String> = seeds.iter().map(|seed| seed.name.to_string()).collect();
        let is_snapshot_of_one = |entry: &&Entry| {
            entry.kind == EntryKind::Snapshot
                && volumes.contains(entry.name.base())
                && !gone.contains(&entry.name.to_string())
        };
        let with: Vec<String> =
            self.entries.values().filter(is_snapshot_of_one).map(|entry| entry.name.to_string()).collect();
        let mut subject = match doomed.as_slice() {
            [one] => format!("this removes the {} {}", KindView::from(one.kind).word(), one.name),
            many => format!("this removes {} names", many.len()),
        };
        match with_seeds.as_slice() {
            [] => {}
            [one] => subject.push_str(&format!(" with its seed {one}")),
            many => subject.push_str(&format!(" with {} seeds", many.len())),
        }
        let snapshots = with.len();
        gone.extend(with);
        gone.extend(with_seeds.iter().cloned());
        let all = doomed.into_iter().chain(&seeds);
        let frees: Option<u64> = if snapshots > 0 { None } else { all.map(|entry| entry.gives_back).sum() };
        let stops_exports = exported(held, |name| gone.contains(name));
        let made_from = |entry: &&Entry| {
            !gone.contains(&entry.name.to_string())
                && entry.origin.as_ref().is_some_and(|origin| gone.contains(origin))
        };
        let clones: Vec<String> =
            self.entries.values().filter(made_from).map(|entry| entry.name.to_string()).collect();
        let mut summary = match (snapshots, frees) {
            (0, Some(bytes)) => format!("{subject} and gives back {}", Iec(bytes)),
            (0, None) => subject,
            (snapshots, _) => format!("{subject} with {snapshots} snapshots"),
        };
        if !clones.is_empty() {
            summary.push_str(&format!("; {} made from it stay", number(&clones, "clone")));
        }
        Ok(PlanView {
            destroys: true,
            frees,
            stops_exports,
            clones,
            ..PlanView::quiet(summary, &[order.names.as_slice(), &with_seeds].concat())
        })
    }
}

fn by_name(held: &Held) -> BTreeMap<String, Entry> {
    held.pool.entries().into_iter().map(|entry| (entry.name.to_string(), entry)).collect()
}

fn exported(held: &Held, is_hit: impl Fn(&String) -> bool) -> Vec<String> {
    let exports = held.doors.as_deref().map(Doors::exports).unwrap_or_default();
    exports.into_iter().map(|export| export.name).filter(is_hit).collect()
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// "1 clone", "25 clones".
fn number(items: &[String], noun: &str) -> String {
    match items.len() {
        1 => format!("1 {noun}"),
        many => format!("{many} {noun}s"),
    }
}
