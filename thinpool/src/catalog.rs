//! Names, layers, and which layer depends on which: the pool's directory, held in memory and written at checkpoints.
//!
//! Every change of it is one record, applied by [`apply`] at run time and at replay alike.
//!
//! Invariants:
//! * C1 A layer has at most one name; a live (unsealed) layer has exactly one, that of its volume.
//! * C2 Only sealed layers are depended on.
//! * C3 `dependents` is the inverse of all `deps`.
//! * C4 `changed` names everything that differs from the last frozen checkpoint, except what bodies say themselves.

pub(crate) mod apply;
pub(crate) mod figures;
pub(crate) mod layer;
mod lineage;
pub(crate) mod resize;
pub(crate) mod stored;
pub(crate) mod sweep;
pub(crate) mod thin;

use crate::command::EntryKind;
use crate::ids::{EntryId, LayerId};
use crate::name::Name;
use cow_tree::units::Tag;
use layer::Layer;
pub(crate) use lineage::Lineage;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A name and what it stands for.
#[derive(Debug, Clone)]
pub(crate) struct CatalogEntry {
    pub(crate) name: Name,
    pub(crate) kind: EntryKind,
    pub(crate) layer: LayerId,
    /// Bytes the guest sees.
    pub(crate) size: u64,
    pub(crate) origin: Option<String>,
    pub(crate) created_unix: u64,
    pub(crate) properties: BTreeMap<String, String>,
}

/// What differs from the last frozen checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    pub(crate) entries: BTreeSet<EntryId>,
    pub(crate) layers: BTreeSet<LayerId>,
}

#[derive(Debug, Default)]
pub(crate) struct Catalog {
    entries: BTreeMap<EntryId, CatalogEntry>,
    by_name: HashMap<String, EntryId>,
    /// Snapshots and versions by what stands before their '@', oldest first.
    points: HashMap<String, BTreeSet<EntryId>>,
    layers: BTreeMap<LayerId, Layer>,
    dependents: HashMap<LayerId, BTreeSet<LayerId>>,
    /// Of the pool itself.
    properties: BTreeMap<String, String>,
    /// Layers without a name: what reclaim looks at.
    unnamed: BTreeSet<LayerId>,
    /// Layers with an incoming layer or being freed: what sweeps look at.
    sweeping: BTreeSet<LayerId>,
    pub(crate) changed: Changed,
    /// Counts changes: who decides something from the catalog need not decide it again before the next one.
    revision: u64,
    pub(crate) next_entry: u64,
    pub(crate) next_layer: u64,
    pub(crate) next_line: u32,
}

impl Catalog {
    pub(crate) fn new() -> Self {
        Self { next_entry: 1, next_layer: 1, next_line: 1, ..Self::default() }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Something changed that no record is about: a reader came or went.
    pub(crate) fn touch(&mut self) {
        self.revision += 1;
    }

    pub(crate) fn find(&self, name: &str) -> Option<(EntryId, &CatalogEntry)> {
        let id = *self.by_name.get(name)?;
        Some((id, self.entry(id)))
    }

    pub(crate) fn entry(&self, id: EntryId) -> &CatalogEntry {
        self.entries.get(&id).expect("ids in the name index and in records are of entries that exist")
    }

    pub(crate) fn try_entry(&self, id: EntryId) -> Option<&CatalogEntry> {
        self.entries.get(&id)
    }

    pub(crate) fn entry_mut(&mut self, id: EntryId) -> &mut CatalogEntry {
        self.touch();
        self.changed.entries.insert(id);
        self.entries.get_mut(&id).expect("ids in records are of entries that exist")
    }

    /// Of the pool itself.
    pub(crate) fn properties(&self) -> &BTreeMap<String, String> {
        &self.properties
    }

    /// Of a name, or of [`EntryId::POOL`].
    pub(crate) fn properties_mut(&mut self, id: EntryId) -> &mut BTreeMap<String, String> {
        if id != EntryId::POOL {
            return &mut self.entry_mut(id).properties;
        }
        self.touch();
        self.changed.entries.insert(id);
        &mut self.properties
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (EntryId, &CatalogEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    pub(crate) fn layer(&self, id: LayerId) -> &Layer {
        self.layers.get(&id).expect("layers that are named, depended on or recorded exist")
    }

    pub(crate) fn try_layer(&self, id: LayerId) -> Option<&Layer> {
        self.layers.get(&id)
    }

    pub(crate) fn layer_mut(&mut self, id: LayerId) -> &mut Layer {
        self.touch();
        self.changed.layers.insert(id);
        self.layers.get_mut(&id).expect("layers that are named, depended on or recorded exist")
    }

    /// For bookkeeping that is no change: what a checkpoint has just written.
    pub(crate) fn peek_mut(&mut self, id: LayerId) -> &mut Layer {
        self.layers.get_mut(&id).expect("the caller has just found the layer")
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = (LayerId, &Layer)> {
        self.layers.iter().map(|(id, layer)| (*id, layer))
    }

    pub(crate) fn dependents(&self, id: LayerId) -> impl Iterator<Item = LayerId> + '_ {
        self.dependents.get(&id).into_iter().flatten().copied()
    }

    pub(crate) fn unnamed(&self) -> impl Iterator<Item = LayerId> + '_ {
        self.unnamed.iter().copied()
    }

    pub(crate) fn sweeping(&self) -> impl Iterator<Item = LayerId> + '_ {
        self.sweeping.iter().copied()
    }

    /// Snapshots of a volume, or versions of an image, oldest first.
    pub(crate) fn points_of(&self, base: &str) -> Vec<EntryId> {
        self.points.get(base).into_iter().flatten().copied().collect()
    }

    fn index_name(&mut self, id: EntryId, name: &Name) {
        self.by_name.insert(name.to_string(), id);
        if name.point().is_some() {
            self.points.entry(name.base().to_owned()).or_default().insert(id);
        }
    }

    fn forget_name(&mut self, id: EntryId, name: &Name) {
        self.by_name.remove(&name.to_string());
        if let Some(points) = self.points.get_mut(name.base()) {
            points.remove(&id);
            if points.is_empty() {
                self.points.remove(name.base());
            }
        }
    }

    fn insert_entry(&mut self, id: EntryId, entry: CatalogEntry) {
        self.index_name(id, &entry.name);
        self.set_named(entry.layer, Some(id));
        self.entries.insert(id, entry);
        self.changed.entries.insert(id);
        self.next_entry = self.next_entry.max(id.0 + 1);
    }

    fn remove_entry(&mut self, id: EntryId) -> Option<CatalogEntry> {
        let entry = self.entries.remove(&id)?;
        self.forget_name(id, &entry.name);
        self.changed.entries.insert(id);
        if self.layers.get(&entry.layer).is_some_and(|layer| layer.entry == Some(id)) {
            self.set_named(entry.layer, None);
        }
        Some(entry)
    }

    fn rename_entry(&mut self, id: EntryId, name: Name) {
        let old = self.entry(id).name.clone();
        self.forget_name(id, &old);
        self.index_name(id, &name);
        self.entry_mut(id).name = name;
    }

    fn set_named(&mut self, layer: LayerId, entry: Option<EntryId>) {
        self.layer_mut(layer).entry = entry;
        if entry.is_some() {
            self.unnamed.remove(&layer)
        } else {
            self.unnamed.insert(layer)
        };
    }

    fn insert_layer(&mut self, id: LayerId, layer: Layer) {
        let tag = layer.first_tag();
        self.next_layer = self.next_layer.max(id.0 + 1);
        self.next_line = self.next_line.max(tag.line + 1);
        for dep in &layer.deps {
            self.dependents.entry(*dep).or_default().insert(id);
        }
        if layer.entry.is_none() {
            self.unnamed.insert(id);
        }
        self.layers.insert(id, layer);
        self.refresh_sweeping(id);
        self.touch();
        self.changed.layers.insert(id);
    }

    fn remove_layer(&mut self, id: LayerId) -> Option<Layer> {
        self.set_deps(id, BTreeSet::new());
        self.unnamed.remove(&id);
        self.sweeping.remove(&id);
        self.changed.layers.insert(id);
        self.layers.remove(&id)
    }

    fn set_deps(&mut self, id: LayerId, deps: BTreeSet<LayerId>) {
        let old = std::mem::replace(&mut self.layer_mut(id).deps, deps.clone());
        for dep in old {
            if let Some(set) = self.dependents.get_mut(&dep) {
                set.remove(&id);
                if set.is_empty() {
                    self.dependents.remove(&dep);
                }
            }
        }
        for dep in deps {
            self.dependents.entry(dep).or_default().insert(id);
        }
    }

    fn refresh_sweeping(&mut self, id: LayerId) {
        let active = self.layers.get(&id).is_some_and(Layer::is_sweeping);
        if active {
            self.sweeping.insert(id)
        } else {
            self.sweeping.remove(&id)
        };
    }

    /// C1 to C3, for a catalog that was just read.
    ///
    /// # Errors
    /// The first contradiction.
    pub(crate) fn check_loaded(&self) -> Result<(), String> {
        for (id, layer) in &self.layers {
            if let Some(dep) =
                layer.deps.iter().find(|dep| self.layers.get(dep).is_none_or(|dep| !dep.sealed))
            {
                return Err(format!(
                    "layer {} depends on layer {}, which is not there or still changes",
                    id.0, dep.0
                ));
            }
            let is_volume = layer.entry.and_then(|entry| self.entries.get(&entry)).map(|entry| entry.kind);
            if !layer.sealed && is_volume != Some(EntryKind::Volume) {
                return Err(format!("layer {} changes and is no volume's", id.0));
            }
            if layer.sealed && is_volume == Some(EntryKind::Volume) {
                return Err(format!("layer {} is a volume's and does not change", id.0));
            }
        }
        Ok(())
    }

    /// A tag no block bears: the first of a new line.
    pub(crate) fn tag_of_line(line: u32) -> Tag {
        Tag { line, sequence: 1 }
    }
}
