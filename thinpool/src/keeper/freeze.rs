//! Freezing: one moment of the pool, with an address for every node that is not on the device yet.
//!
//! Inside the publish gate, so that trees, counts, bitmaps and the journal position all speak of the same moment.
//! Writing nodes takes blocks, which changes bitmaps, which changes the group table, whose nodes take blocks: this is
//! driven to a fixpoint before anything is written. Nothing is irreversible before the last step that can fail.

use crate::body::ExtentTree;
use crate::catalog::stored::{self, Value};
use crate::core::Core;
use crate::geometry::GroupIndex;
use crate::groups::{FrozenGroup, Groups, NoRun, Run};
use crate::ids::{EntryId, LayerId, Sequence};
use crate::journal::Position;
use crate::meta::{MetaTrees, POOL_TAG};
use cow_tree::units::BlockAddress;
use cow_tree::{Dropped, Missing};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// One layer of a frozen pool: the trees its catalog value will point to, its own first.
#[derive(Debug)]
pub(crate) struct FrozenLayer {
    pub(crate) id: LayerId,
    pub(crate) key: u64,
    pub(crate) trees: Vec<ExtentTree>,
}

/// A moment of the pool.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) layers: Vec<FrozenLayer>,
    pub(crate) groups: Vec<FrozenGroup>,
    /// Every record up to it is in the trees.
    pub(crate) last: Sequence,
    /// The first batch that may hold a later record.
    pub(crate) journal: Position,
    /// Nodes the new trees no longer point to.
    pub(crate) released: Vec<BlockAddress>,
    pub(crate) next_layer: u64,
    pub(crate) next_line: u32,
}

/// Why the pool could not be frozen; it is as it was.
#[derive(Debug)]
pub(crate) enum Thaw {
    Missing(Missing),
    Load(GroupIndex),
    Activate(GroupIndex),
    Full,
}

impl From<Missing> for Thaw {
    fn from(missing: Missing) -> Self {
        Thaw::Missing(missing)
    }
}

/// Freezes the pool, or says what must be brought first.
pub(crate) fn freeze(core: &Core) -> Result<Frozen, Thaw> {
    let _gate = core.gate.write().expect("no thread panics inside the gate");
    let mut meta = core.meta.lock();
    let mut catalog = core.catalog.lock();
    let mut dropped = Vec::new();
    let outcome = put_values(core, &mut catalog, &mut meta, &mut dropped);
    // What the puts replaced is gone from the trees even if something else stops the freeze.
    free_meta_nodes(core, &mut meta, &mut core.groups.lock(), dropped);
    let layers = outcome?;
    let mut groups = core.groups.lock();
    if let Some(group) = groups.dirty_unloaded() {
        return Err(Thaw::Load(group));
    }
    let addresses = reserve_everything(core, &mut meta, &mut groups, &layers)?;
    hand_out(&mut meta, &layers, addresses);
    let frozen_groups = groups.freeze();
    catalog.changed = Default::default();
    for layer in &layers {
        if catalog.try_layer(layer.id).is_some() {
            catalog.peek_mut(layer.id).write(|body| body.dirty = false);
        }
    }
    core.dirty_layers.lock().clear();
    core.node_credits.store(core.credits_max, Ordering::SeqCst);
    Ok(Frozen {
        layers,
        groups: frozen_groups,
        last: core.staging.last(),
        journal: core.ring.lock().next_position(),
        released: std::mem::take(&mut *core.freed_nodes.lock()),
        next_layer: catalog.next_layer,
        next_line: catalog.next_line,
    })
}

/// Puts every changed entry and layer into the catalog tree, roots still blank.
fn put_values(
    core: &Core,
    catalog: &mut crate::catalog::Catalog,
    meta: &mut MetaTrees,
    dropped: &mut Vec<Dropped>,
) -> Result<Vec<FrozenLayer>, Thaw> {
    let mut changed: BTreeSet<LayerId> = catalog.changed.layers.clone();
    changed.extend(core.dirty_layers.lock().iter().copied());
    let mut frozen = Vec::with_capacity(changed.len());
    for id in changed {
        let key = stored::layer_key(id);
        match catalog.try_layer(id) {
            None => meta.put_catalog(stored::key_range(key), std::iter::empty(), dropped)?,
            Some(layer) => {
                let (value, trees) = layer.read(|body| stored::layer_value(id, layer, body));
                put(meta, &value, dropped)?;
                frozen.push(FrozenLayer { id, key, trees });
            }
        }
    }
    let entries: Vec<_> = catalog.changed.entries.iter().copied().collect();
    for id in entries {
        match catalog.try_entry(id) {
            _ if id == EntryId::POOL => put(meta, &stored::pool_value(catalog.properties()), dropped)?,
            None => {
                meta.put_catalog(stored::key_range(stored::entry_key(id)), std::iter::empty(), dropped)?
            }
            Some(entry) => put(meta, &stored::entry_value(id, entry), dropped)?,
        }
    }
    Ok(frozen)
}

fn put(meta: &mut MetaTrees, value: &Value, dropped: &mut Vec<Dropped>) -> Result<(), Missing> {
    meta.put_catalog(stored::key_range(value.first_key), value.pieces(), dropped)
}

/// Blocks of replaced catalog and group table nodes are free after the next superblock.
fn free_meta_nodes(core: &Core, meta: &mut MetaTrees, groups: &mut Groups, dropped: Vec<Dropped>) {
    let mut freed = core.freed_nodes.lock();
    for item in dropped {
        if let Dropped::Node(pointer) = item {
            meta.nodes.forget(pointer.address);
            groups.free(Run::single(pointer.address));
            freed.push(pointer.address);
        }
    }
}

/// Takes a block for every node without one, until writing the group table needs no further block.
fn reserve_everything(
    core: &Core,
    meta: &mut MetaTrees,
    groups: &mut Groups,
    layers: &[FrozenLayer],
) -> Result<Vec<BlockAddress>, Thaw> {
    let of_layers = ExtentTree::unassigned_of(layers.iter().flat_map(|layer| &layer.trees));
    let mut taken: Vec<Run> = Vec::new();
    let mut dropped = Vec::new();
    let outcome = fixpoint(meta, groups, of_layers, &mut taken, &mut dropped);
    // Nodes of the group table that were replaced on the way.
    free_meta_nodes(core, meta, groups, dropped);
    match outcome {
        Ok(()) => {
            taken.iter().for_each(|run| groups.commit(*run));
            Ok(taken.iter().flat_map(Run::blocks).collect())
        }
        Err(thaw) => {
            taken.into_iter().for_each(|run| groups.unreserve(run));
            Err(thaw)
        }
    }
}

fn fixpoint(
    meta: &mut MetaTrees,
    groups: &mut Groups,
    of_layers: usize,
    taken: &mut Vec<Run>,
    dropped: &mut Vec<Dropped>,
) -> Result<(), Thaw> {
    loop {
        let mut dirty: BTreeSet<GroupIndex> = groups.dirty_groups().into_iter().collect();
        dirty.extend(taken.iter().map(|run| groups.group_of(run.address)));
        for item in dropped.iter() {
            if let Dropped::Node(pointer) = item {
                dirty.insert(groups.group_of(pointer.address));
            }
        }
        if let Some(group) = dirty.iter().find(|group| groups.slot_to_load(**group).is_some()) {
            return Err(Thaw::Load(*group));
        }
        for group in dirty {
            // Its entry is a placeholder from here on, even if this freeze does not come to its end.
            groups.touch(group);
            let key = u64::from(group.0);
            meta.groups.put(&meta.nodes, key, &groups.placeholder(group).encode(), POOL_TAG, dropped)?;
        }
        let wanted = of_layers + meta.catalog.unassigned() + meta.groups.unassigned();
        let have: usize = taken.iter().map(|run| run.blocks().count()).sum();
        if have == wanted {
            return Ok(());
        }
        assert!(have < wanted, "a node that was counted does not go away inside the gate");
        taken.extend(groups.reserve_nodes(wanted - have).map_err(|stop| match stop {
            NoRun::NeedsLoad(group) => Thaw::Load(group),
            NoRun::NeedsAllocation(group) => Thaw::Activate(group),
            NoRun::Full { .. } => Thaw::Full,
        })?);
    }
}

/// Gives every node its block.
fn hand_out(meta: &mut MetaTrees, layers: &[FrozenLayer], addresses: Vec<BlockAddress>) {
    let mut next = addresses.into_iter();
    let mut allocate = |_tag| next.next().expect("as many blocks were taken as there are nodes");
    for tree in layers.iter().flat_map(|layer| &layer.trees) {
        tree.assign(&mut allocate);
    }
    meta.catalog.assign(&mut allocate);
    meta.groups.assign(&mut allocate);
    assert!(next.next().is_none(), "as many nodes were placed as blocks were taken");
}
