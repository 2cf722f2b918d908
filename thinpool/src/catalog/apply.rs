//! Applying one record to the catalog: at run time by the keeper, at replay by recovery, the same way.
//!
//! Validation has happened before the record was made. A record that does not fit is damage, at replay; at run time
//! it is a bug, and the caller asserts.

use super::layer::{Layer, Place};
use super::{Catalog, CatalogEntry};
use crate::body::LayerBody;
use crate::command::EntryKind;
use crate::ids::{EntryId, LayerId, Sequence};
use crate::mutants::{self, Mutant};
use crate::name::Name;
use crate::ownership::IncomingMark;
use crate::record::{NewClone, NewEntry, NewSnapshot, Record};
use cow_tree::units::Tag;
use cow_tree::{Limits, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// A record that does not fit the catalog it meets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the record {record} does not fit the catalog: {why}")]
pub struct Misfit {
    record: String,
    why: String,
}

/// Applies every record that is about names and layers alone: not `Update`, `Resize`, `Grow`, `Sweep` and `Thin`.
pub(crate) fn apply(
    catalog: &mut Catalog,
    record: &Record,
    sequence: Sequence,
    limits: Limits,
) -> Result<(), Misfit> {
    let misfit = |why: &str| Misfit { record: format!("{record:?}"), why: why.to_owned() };
    fits(catalog, record).map_err(misfit)?;
    match record {
        Record::Create { entry, layer, line } => create(catalog, entry, *layer, *line, limits),
        Record::Clone { source, clones } => {
            clones.iter().for_each(|new| clone_one(catalog, LayerId(*source), new));
        }
        Record::Snapshot { items } => items.iter().for_each(|item| snapshot(catalog, item)),
        Record::Rollback { entry, source, layer, line } => {
            rollback(catalog, EntryId(*entry), LayerId(*source), LayerId(*layer), *line);
        }
        Record::Remove { entries } => entries.iter().for_each(|id| remove(catalog, EntryId(*id))),
        Record::Publish { entry, name } => publish(catalog, EntryId(*entry), parse(name).map_err(misfit)?),
        Record::Rename { entry, name } => {
            catalog.rename_entry(EntryId(*entry), parse(name).map_err(misfit)?);
        }
        Record::SetProperty { entry, key, value } => {
            let properties = catalog.properties_mut(EntryId(*entry));
            match value {
                Some(value) => drop(properties.insert(key.clone(), value.clone())),
                None => drop(properties.remove(key)),
            }
        }
        Record::BeginFree { layer } => begin_free(catalog, LayerId(*layer)),
        Record::BeginAbsorb { layer, into } => {
            begin_absorb(catalog, LayerId(*layer), LayerId(*into), sequence);
        }
        Record::EndAbsorb { layer, into } => end_absorb(catalog, LayerId(*layer), LayerId(*into)),
        Record::EndFree { layer } => drop(catalog.remove_layer(LayerId(*layer))),
        Record::Update { .. }
        | Record::Resize { .. }
        | Record::Grow { .. }
        | Record::Sweep { .. }
        | Record::Thin { .. } => {
            return Err(misfit("it is not a change of the catalog alone"));
        }
    }
    Ok(())
}

/// Whether everything the record names exists, and nothing it makes does.
fn fits(catalog: &Catalog, record: &Record) -> Result<(), &'static str> {
    match record {
        Record::Create { entry, layer, .. } => fits_new(catalog, entry, *layer),
        Record::Clone { source, clones } => {
            has_sealed(catalog, *source)?;
            clones.iter().try_for_each(|new| {
                parse(&new.origin)?;
                fits_new(catalog, &new.entry, new.layer)
            })
        }
        Record::Snapshot { items } => items.iter().try_for_each(|item| {
            has_volume(catalog, item.volume)?;
            fits_new(catalog, &item.entry, item.layer)
        }),
        Record::Rollback { entry, source, layer, .. } => {
            has_volume(catalog, *entry)?;
            has_sealed(catalog, *source)?;
            is_vacant(catalog, *layer)
        }
        Record::Remove { entries } => entries.iter().try_for_each(|id| has_entry(catalog, *id)),
        Record::SetProperty { entry, .. } if EntryId(*entry) == EntryId::POOL => Ok(()),
        Record::SetProperty { entry, .. } => has_entry(catalog, *entry),
        Record::Publish { entry, name } | Record::Rename { entry, name } => {
            has_entry(catalog, *entry)?;
            parse(name).map(drop)
        }
        Record::BeginFree { layer } | Record::EndFree { layer } => has_layer(catalog, *layer),
        Record::BeginAbsorb { layer, into } => {
            has_layer(catalog, *into)?;
            if layer == into { Err("a layer is not absorbed by itself") } else { has_sealed(catalog, *layer) }
        }
        Record::EndAbsorb { into, .. } => has_layer(catalog, *into),
        Record::Update { .. }
        | Record::Resize { .. }
        | Record::Grow { .. }
        | Record::Sweep { .. }
        | Record::Thin { .. } => Ok(()),
    }
}

fn fits_new(catalog: &Catalog, entry: &NewEntry, layer: u64) -> Result<(), &'static str> {
    parse(&entry.name)?;
    if catalog.try_entry(EntryId(entry.id)).is_some() || catalog.find(&entry.name).is_some() {
        return Err("it makes a name that is there already");
    }
    is_vacant(catalog, layer)
}

fn is_vacant(catalog: &Catalog, layer: u64) -> Result<(), &'static str> {
    match catalog.try_layer(LayerId(layer)) {
        None => Ok(()),
        Some(_) => Err("it makes a layer that is there already"),
    }
}

fn has_layer(catalog: &Catalog, layer: u64) -> Result<(), &'static str> {
    catalog.try_layer(LayerId(layer)).map(drop).ok_or("it names a layer that does not exist")
}

fn has_sealed(catalog: &Catalog, layer: u64) -> Result<(), &'static str> {
    let layer = catalog.try_layer(LayerId(layer)).ok_or("it names a layer that does not exist")?;
    if layer.sealed { Ok(()) } else { Err("it depends on a layer that still changes") }
}

fn has_entry(catalog: &Catalog, entry: u64) -> Result<(), &'static str> {
    catalog.try_entry(EntryId(entry)).map(drop).ok_or("it names an entry that does not exist")
}

fn has_volume(catalog: &Catalog, entry: u64) -> Result<(), &'static str> {
    match catalog.try_entry(EntryId(entry)) {
        Some(entry) if entry.kind == EntryKind::Volume => Ok(()),
        _ => Err("it names a volume that does not exist"),
    }
}

fn parse(name: &str) -> Result<Name, &'static str> {
    name.parse().map_err(|_| "its name is not legal")
}

fn new_entry(new: &NewEntry, kind: EntryKind, layer: LayerId, origin: Option<String>) -> CatalogEntry {
    CatalogEntry {
        name: new.name.parse().expect("names in records were parsed before they were recorded"),
        kind,
        layer,
        size: new.size,
        origin,
        created_unix: new.created_unix,
        properties: BTreeMap::new(),
    }
}

fn create(catalog: &mut Catalog, entry: &NewEntry, layer: u64, line: u32, limits: Limits) {
    let id = LayerId(layer);
    let body = LayerBody::new(id, Catalog::tag_of_line(line), Tree::empty_with(limits));
    catalog.insert_layer(id, Layer::new(body, false, BTreeSet::new()));
    catalog.insert_entry(EntryId(entry.id), new_entry(entry, EntryKind::Volume, id, None));
}

fn clone_one(catalog: &mut Catalog, source: LayerId, new: &NewClone) {
    let id = LayerId(new.layer);
    let tree = catalog.layer(source).read(|body| body.tree.fork());
    let body = LayerBody::new(id, Catalog::tag_of_line(new.line), tree);
    let borrows = !mutants::active(Mutant::NoBorrowEdge);
    let deps = borrows.then_some(source).into_iter().collect();
    catalog.insert_layer(id, Layer::new(body, false, deps));
    let origin = Some(new.origin.clone());
    catalog.insert_entry(EntryId(new.entry.id), new_entry(&new.entry, EntryKind::Volume, id, origin));
}

/// Seals the volume's layer under the new name; the volume goes on in a fork of it.
fn snapshot(catalog: &mut Catalog, item: &NewSnapshot) {
    let volume = EntryId(item.volume);
    let old = catalog.entry(volume).layer;
    let id = LayerId(item.layer);
    let (tree, tag) = catalog.layer(old).read(|body| (body.tree.fork(), body.ownership.tag));
    let next = Tag { line: tag.line, sequence: tag.sequence + 1 };
    continue_in(catalog, volume, id, LayerBody::new(id, next, tree), old);
    if mutants::active(Mutant::TransferSealedMid) {
        transfer_incoming(catalog, old, id);
    }
    let origin = Some(catalog.entry(volume).name.to_string());
    catalog.insert_entry(EntryId(item.entry.id), new_entry(&item.entry, EntryKind::Snapshot, old, origin));
}

fn rollback(catalog: &mut Catalog, volume: EntryId, source: LayerId, layer: LayerId, line: u32) {
    let (tree, sealed_tag) = catalog.layer(source).read(|body| (body.tree.fork(), body.ownership.tag));
    let unseals = mutants::active(Mutant::UnsealOnRollback);
    let tag = if unseals { sealed_tag } else { Catalog::tag_of_line(line) };
    let body = LayerBody::new(layer, tag, tree);
    continue_in(catalog, volume, layer, body, source);
}

/// The volume's present layer is sealed and loses its name; the volume goes on in `layer`, which depends on `on`.
/// Whoever has the volume open goes on with it (rule 3: a sealed layer is never unsealed).
fn continue_in(catalog: &mut Catalog, volume: EntryId, layer: LayerId, body: LayerBody, on: LayerId) {
    let old = catalog.entry(volume).layer;
    catalog.set_named(old, None);
    let old_layer = catalog.layer_mut(old);
    old_layer.sealed = true;
    let mut new = Layer::new(body, false, BTreeSet::from([on]));
    if let Place::Open(live) = &old_layer.place {
        let live = live.clone();
        let Place::Catalog(body) = std::mem::replace(&mut new.place, Place::Open(live.clone())) else {
            unreachable!("a new layer has its body in the catalog")
        };
        let sealed = std::mem::replace(&mut *live.write(), *body);
        old_layer.place = Place::Catalog(Box::new(sealed));
        old_layer.write(|body| body.dirty = true);
    }
    catalog.insert_layer(layer, new);
    catalog.set_named(layer, Some(volume));
    catalog.entry_mut(volume).layer = layer;
    catalog.refresh_sweeping(old);
}

fn transfer_incoming(catalog: &mut Catalog, from: LayerId, to: LayerId) {
    let (marks, trees) = catalog
        .layer_mut(from)
        .write(|body| (std::mem::take(&mut body.ownership.incoming), std::mem::take(&mut body.incoming)));
    catalog.layer_mut(to).write(|body| {
        body.ownership.incoming = marks;
        body.incoming = trees;
    });
    catalog.refresh_sweeping(from);
    catalog.refresh_sweeping(to);
}

fn remove(catalog: &mut Catalog, id: EntryId) {
    if let Some(entry) = catalog.remove_entry(id) {
        catalog.layer_mut(entry.layer).sealed = true;
    }
}

fn publish(catalog: &mut Catalog, id: EntryId, name: Name) {
    catalog.rename_entry(id, name);
    let entry = catalog.entry_mut(id);
    entry.kind = EntryKind::Version;
    let layer = entry.layer;
    catalog.layer_mut(layer).sealed = true;
}

fn begin_free(catalog: &mut Catalog, id: LayerId) {
    catalog.set_deps(id, BTreeSet::new());
    let layer = catalog.layer_mut(id);
    layer.sealed = true;
    layer.freeing = Some(0);
    catalog.refresh_sweeping(id);
}

/// Rule 7, one record.
fn begin_absorb(catalog: &mut Catalog, from: LayerId, into: LayerId, sequence: Sequence) {
    let deps = catalog.layer(from).deps.clone();
    let gone = catalog.remove_layer(from).expect("fits() found the layer");
    let body = take_body(gone);
    let mut inherited = catalog.layer(into).deps.clone();
    inherited.remove(&from);
    if !mutants::active(Mutant::NoInherit) {
        inherited.extend(deps.iter().copied());
    }
    let single = catalog.layer(into).deps.len() == 1 && deps.len() <= 1;
    catalog.set_deps(into, inherited);
    catalog.layer_mut(into).write(|absorber| absorb_body(absorber, body, from, sequence, single));
    catalog.refresh_sweeping(into);
}

fn absorb_body(into: &mut LayerBody, from: LayerBody, id: LayerId, begun: Sequence, single: bool) {
    into.owned += from.owned;
    into.dirty = true;
    into.dropped = match (into.dropped.take(), from.dropped) {
        (Some(mut mine), Some(theirs)) if single => {
            for (tag, count) in theirs {
                *mine.entry(tag).or_default() += count;
            }
            Some(mine)
        }
        _ => None,
    };
    let intervals = from.ownership.intervals;
    into.ownership.incoming.push(IncomingMark { layer: id, intervals, cursor: Some(0), begun });
    into.incoming.insert(id, from.tree);
    for mark in from.ownership.incoming {
        // Reached only when rule 6 is broken: a layer is absorbed while it absorbs.
        into.ownership.incoming.push(mark);
    }
    into.incoming.extend(from.incoming);
}

fn take_body(layer: Layer) -> LayerBody {
    match layer.place {
        Place::Catalog(body) => *body,
        Place::Open(live) => live.write().take(),
    }
}

fn end_absorb(catalog: &mut Catalog, layer: LayerId, into: LayerId) {
    catalog.layer_mut(into).write(|body| {
        body.ownership.adopt(layer);
        body.incoming.remove(&layer);
        body.dirty = true;
    });
    catalog.refresh_sweeping(into);
}
