//! Thinning a layer that waits for several dependents (rule 14): what none of them maps goes.
//!
//! The rewritten tree is made beside the old one and takes its place when the record is staged. A dependent that goes on
//! writing meanwhile only lets go of more, so a look at an older moment of it never frees too much; replay, which looks
//! at the very record, may free more than the first run did, and then a later record of this layer finds less.

use super::Catalog;
use crate::body::{ExtentTree, Freed};
use crate::ids::LayerId;
use crate::mutants::{self, Mutant};
use crate::ownership::owns;
use cow_tree::units::Tag;
use cow_tree::{ExtentLeaf, Missing, Nodes, Thinning};

/// A part of a waiting layer, thinned beside it.
#[derive(Debug)]
pub(crate) struct Thinned {
    tree: ExtentTree,
    dropped: Vec<cow_tree::Dropped>,
    /// Where the next part begins; `None` at the end.
    pub(crate) upto: Option<u64>,
}

impl Catalog {
    /// Layers that may be thinned: no name, no reader, several dependents, nothing incoming.
    pub(crate) fn thinnable(&self) -> Vec<LayerId> {
        let may = |id: &LayerId| {
            let layer = self.layer(*id);
            layer.pins == 0 && !layer.is_sweeping() && self.dependents(*id).nth(1).is_some()
        };
        self.unnamed().filter(may).collect()
    }

    /// Thins the leaf or skips the subtree at `from`, beside the layer.
    ///
    /// # Errors
    /// When a node is not resident.
    pub(crate) fn thin_beside(
        &self,
        id: LayerId,
        from: u64,
        nodes: &impl Nodes<ExtentLeaf>,
    ) -> Result<Thinned, Missing> {
        let trees: Vec<ExtentTree> = self
            .dependents(id)
            .map(|dependent| self.layer(dependent).read(|body| body.tree.fork()))
            .collect();
        let dependents: Vec<&ExtentTree> = trees.iter().collect();
        self.layer(id).read(|body| {
            let is_own = |tag: Tag| owns(&body.ownership.intervals, tag);
            let thinning = Thinning { dependents: &dependents, writer: body.ownership.tag, is_own: &is_own };
            let (mut tree, mut dropped) = (body.tree.fork(), Vec::new());
            let upto = tree.thin(&thinning, nodes, from, &mut dropped)?;
            Ok(Thinned { tree, dropped, upto })
        })
    }

    /// The thinned part takes its place.
    pub(crate) fn take_thinned(&mut self, id: LayerId, thinned: Thinned) -> Freed {
        self.layer_mut(id).write(|body| {
            if !mutants::active(Mutant::PruneNoRewrite) {
                body.tree = thinned.tree;
            }
            body.dirty = true;
            body.let_go(thinned.dropped)
        })
    }
}
