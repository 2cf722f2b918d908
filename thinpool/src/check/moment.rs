//! One moment of a pool, with everything a check compares.

use crate::body::ExtentTree;
use crate::catalog::Catalog;
use crate::core::Core;
use crate::groups::{Counts, GroupKind, Groups, Run};
use crate::ids::LayerId;
use crate::meta::RecordTree;
use crate::ownership::Interval;
use cow_tree::units::BlockAddress;
use cow_tree::{Leaf, Node, NodeIdentity};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Blocks of one kind of group: set in the bitmaps, and said by the counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) held: u64,
    pub(super) counted: u64,
}

#[derive(Debug)]
pub(super) struct Moment {
    /// In order of id.
    pub(super) layers: Vec<LayerMoment>,
    pub(super) allocated: Vec<Run>,
    pub(super) data: Tally,
    pub(super) metadata: Tally,
    pub(super) catalog: RecordTree,
    pub(super) table: RecordTree,
    /// What the catalog says against itself.
    pub(super) contradictions: Vec<String>,
    /// Nodes without a block: one that a checkpoint has given to them since is not of this moment.
    homeless: BTreeSet<NodeIdentity>,
    by_id: BTreeMap<LayerId, usize>,
}

#[derive(Debug)]
pub(super) struct LayerMoment {
    pub(super) id: LayerId,
    /// As an operator knows it.
    pub(super) name: String,
    pub(super) tree: ExtentTree,
    pub(super) intervals: Vec<Interval>,
    pub(super) incoming: Vec<IncomingMoment>,
    pub(super) deps: Vec<LayerId>,
    pub(super) owned: u64,
    /// The cursor of a layer that is being freed.
    pub(super) freeing: Option<u64>,
}

#[derive(Debug)]
pub(super) struct IncomingMoment {
    pub(super) tree: ExtentTree,
    pub(super) intervals: Vec<Interval>,
    pub(super) cursor: Option<u64>,
}

impl Moment {
    pub(super) fn take(core: &Core) -> Self {
        let _gate = core.gate.write().expect("no thread panics inside the gate");
        let meta = core.meta.lock();
        let catalog = core.catalog.lock();
        let groups = core.groups.lock();
        let layers: Vec<LayerMoment> = catalog.layers().map(|(id, _)| layer(&catalog, id)).collect();
        let allocated: Vec<Run> =
            groups.indices().filter_map(|index| groups.allocated_runs(index)).flatten().collect();
        let counts = groups.counts();
        let mut homeless = BTreeSet::new();
        layers.iter().for_each(|layer| layer.homeless(&mut homeless));
        meta.catalog.homeless(&mut homeless);
        meta.groups.homeless(&mut homeless);
        Self {
            homeless,
            by_id: layers.iter().enumerate().map(|(index, layer)| (layer.id, index)).collect(),
            data: tally(&groups, &counts, &allocated, GroupKind::Data),
            metadata: tally(&groups, &counts, &allocated, GroupKind::Metadata),
            catalog: meta.catalog.fork(),
            table: meta.groups.fork(),
            contradictions: catalog.check_loaded().err().into_iter().collect(),
            layers,
            allocated,
        }
    }

    /// The block a node had at this moment.
    pub(super) fn address_of<L: Leaf>(&self, node: &Arc<Node<L>>) -> Option<BlockAddress> {
        node.address().filter(|_| !self.homeless.contains(&Node::identity(node)))
    }

    /// Trees of a layer's direct dependencies.
    pub(super) fn trees_of<'a>(&'a self, layers: &'a [LayerId]) -> impl Iterator<Item = &'a ExtentTree> {
        layers.iter().filter_map(|id| self.by_id.get(id)).map(|index| &self.layers[*index].tree)
    }
}

impl LayerMoment {
    fn homeless(&self, seen: &mut BTreeSet<NodeIdentity>) {
        let incoming = self.incoming.iter().map(|incoming| &incoming.tree);
        std::iter::once(&self.tree).chain(incoming).for_each(|tree| tree.homeless(seen));
    }
}

fn layer(catalog: &Catalog, id: LayerId) -> LayerMoment {
    let layer = catalog.layer(id);
    let entry = layer.entry.and_then(|entry| catalog.try_entry(entry));
    layer.read(|body| LayerMoment {
        id,
        name: entry.map_or_else(|| format!("unnamed layer {}", id.0), |entry| entry.name.to_string()),
        tree: body.tree.fork(),
        intervals: body.ownership.intervals.clone(),
        incoming: body
            .ownership
            .incoming
            .iter()
            .filter_map(|mark| {
                let tree = body.incoming.get(&mark.layer)?.fork();
                Some(IncomingMoment { tree, intervals: mark.intervals.clone(), cursor: mark.cursor })
            })
            .collect(),
        deps: layer.deps.iter().copied().collect(),
        owned: body.owned,
        freeing: layer.freeing,
    })
}

fn tally(groups: &Groups, counts: &Counts, allocated: &[Run], kind: GroupKind) -> Tally {
    let of_kind = allocated.iter().filter(|run| groups.is_data(run.address) == (kind == GroupKind::Data));
    Tally { held: of_kind.map(|run| run.length.0).sum(), counted: counts.of(kind).allocated.0 }
}
