//! Thinning a layer that waits: nobody can read it any more, but several layers depend on it (ownership rule 14).
//!
//! Its own nodes that no dependent contains are rewritten without the data that no dependent maps, and never merged
//! with a neighbour, which may be shared.

use crate::descend::{Held, NO_BOUND};
use crate::edit::{Change, Merging};
use crate::extent_leaf::ExtentLeaf;
use crate::node::Body;
use crate::pinned::Pinned;
use crate::pointer::{Dropped, Mapping, Missing};
use crate::sweep::{Place, contained_in_any, unmapped_by};
use crate::tree::{Nodes, Tree};
use crate::units::Tag;

/// Whose tree is thinned.
#[derive(Clone, Copy)]
pub struct Thinning<'a> {
    /// Trees of *all* direct dependents.
    pub dependents: &'a [&'a Tree<ExtentLeaf>],
    /// Tag of the waiting layer, for the nodes that are written anew.
    pub writer: Tag,
    /// Whether the waiting layer owns what bears a tag.
    pub is_own: &'a dyn Fn(Tag) -> bool,
}

impl std::fmt::Debug for Thinning<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dependents = self.dependents.len();
        formatter
            .debug_struct("Thinning")
            .field("dependents", &dependents)
            .field("writer", &self.writer)
            .finish()
    }
}

impl Tree<ExtentLeaf> {
    /// Thins one leaf, or skips one subtree, from the key `cursor` on; the next cursor, or `None` at the end. What
    /// the tree drops is the layer's own, reached by nobody, and free once the record of the step is durable.
    ///
    /// # Errors
    /// [`Missing`] when a node is not resident; then nothing has changed.
    pub fn thin(
        &mut self,
        thinning: &Thinning<'_>,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        cursor: u64,
        dropped: &mut Vec<Dropped>,
    ) -> Result<Option<u64>, Missing> {
        let nodes = Pinned::new(nodes);
        let mut dead = Vec::new();
        let bound = self.unused_at(thinning, &nodes, cursor, &mut dead)?;
        for mapping in dead {
            let range = mapping.start.0..mapping.end().0;
            let change = Change { range, writer: thinning.writer, merging: Merging::Never };
            self.change(&nodes, &change, None, dropped)?;
        }
        Ok((bound != NO_BOUND).then_some(bound))
    }

    /// Own data that no dependent maps, in the leaf at `cursor`, if the way there is the layer's alone. First key
    /// behind that leaf, or behind the subtree that is not.
    fn unused_at(
        &self,
        thinning: &Thinning<'_>,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        cursor: u64,
        dead: &mut Vec<Mapping>,
    ) -> Result<u64, Missing> {
        let mut bound = NO_BOUND;
        let Some(root) = &self.root else { return Ok(bound) };
        let trees = thinning.dependents;
        let alone = |place: &Place| -> Result<bool, Missing> {
            Ok((thinning.is_own)(place.tag) && !contained_in_any(trees.iter().copied(), place, nodes)?)
        };
        if !alone(&Place::of(root))? {
            return Ok(bound);
        }
        let mut node = Held::of(root, nodes)?;
        loop {
            match &node.body {
                Body::Leaf(leaf) => {
                    for mapping in leaf.mappings().filter(|mapping| (thinning.is_own)(mapping.tag)) {
                        unmapped_by(trees, nodes, &mapping, dead)?;
                    }
                    return Ok(bound);
                }
                Body::Inner(inner) => {
                    let child = inner.child_of(cursor);
                    bound = inner.bound_of(child, bound);
                    if !alone(&Place::of(&inner.links[child]))? {
                        return Ok(bound);
                    }
                    node = node.child(child, nodes)?;
                }
            }
        }
    }
}
