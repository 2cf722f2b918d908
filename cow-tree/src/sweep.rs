//! The sweep of a layer that is absorbed or freed: which of its blocks nobody reaches any more (ownership rule 9).
//!
//! Pre-order over the dying tree in key order. A node that is foreign, or contained in the tree it is absorbed into, is
//! skipped whole. An entered leaf gives up the data that the other tree does not map at that very key; entered nodes
//! are freed on the way out. The cursor is one key: a node that starts below it and has not ended was entered before.

use crate::descend::{Held, NO_BOUND};
use crate::extent_leaf::ExtentLeaf;
use crate::lookup::Found;
use crate::node::{Body, Link};
use crate::pointer::{Mapping, Missing, Pointer};
use crate::tree::{Nodes, Tree};
use crate::units::{LogicalBlock, Tag};

/// What one step of a sweep found, and where the next one goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepStep {
    /// Data of the dying layer that is free now.
    pub data: Vec<Mapping>,
    /// Nodes of the dying layer that are free now. Nodes without a block are not among them.
    pub nodes: Vec<Pointer>,
    /// Everything of the dying tree below this key has been swept; `None` when all of it has.
    pub cursor: Option<u64>,
}

impl Tree<ExtentLeaf> {
    /// Enters or skips one node of the dying tree `x`. `against` is the tree of the layer that absorbs it, `None` when
    /// the layer is freed. The first step has cursor 0.
    ///
    /// `x` must not get blocks for its nodes between two steps: nodes below the cursor are never looked at again, so
    /// a block they get later is nobody's. Let a checkpoint give all of them blocks before the first step.
    ///
    /// # Errors
    /// [`Missing`] when a node of either tree is not resident; the step is simply repeated.
    ///
    /// # Panics
    /// If the cursor is not one that a step returned.
    pub fn sweep(
        x: &Tree<ExtentLeaf>,
        against: Option<&Tree<ExtentLeaf>>,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        cursor: u64,
        owned_by_x: &dyn Fn(Tag) -> bool,
    ) -> Result<SweepStep, Missing> {
        let mut step = SweepStep { data: Vec::new(), nodes: Vec::new(), cursor: None };
        let Some(root) = &x.root else { return Ok(step) };
        let mut path: Vec<(Option<Pointer>, u64)> = Vec::new();
        let mut bound = NO_BOUND;
        let mut place = Place::of(root);
        let mut held = None;
        loop {
            let entered = place.low < cursor;
            if !entered && (!owned_by_x(place.tag) || contained_in_any(against, &place, nodes)?) {
                break;
            }
            let node = match held.take() {
                None => Held::of(root, nodes)?,
                Some((parent, child)) => Held::child(parent, child, nodes)?,
            };
            path.push((place.link.pointer(), bound));
            match &node.body {
                Body::Leaf(leaf) => {
                    assert!(!entered, "a sweep goes on where it stopped");
                    for mapping in leaf.mappings().filter(|mapping| owned_by_x(mapping.tag)) {
                        unmapped_by(against.as_slice(), nodes, &mapping, &mut step.data)?;
                    }
                    break;
                }
                Body::Inner(inner) => {
                    let child = inner.child_of(cursor);
                    bound = inner.bound_of(child, bound);
                    place = Place::of(&inner.links[child]);
                    held = Some((node, child));
                }
            }
        }
        // Nodes end with this step when nothing of theirs lies behind its bound.
        step.nodes =
            path.into_iter().rev().filter(|(_, end)| *end <= bound).filter_map(|(node, _)| node).collect();
        step.cursor = (bound != NO_BOUND).then_some(bound);
        Ok(step)
    }
}

impl Tree<ExtentLeaf> {
    /// The parts of `mapping` that the tree does not map at that key to that block.
    ///
    /// # Errors
    /// [`Missing`] when a node is not resident.
    pub fn lacks(
        &self,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        mapping: &Mapping,
    ) -> Result<Vec<Mapping>, Missing> {
        let mut lacking = Vec::new();
        unmapped_by(&[self], nodes, mapping, &mut lacking)?;
        Ok(lacking)
    }
}

/// What the parent knows of a node.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) link: Link<ExtentLeaf>,
    pub(crate) tag: Tag,
    pub(crate) low: u64,
}

impl Place {
    pub(crate) fn of(link: &Link<ExtentLeaf>) -> Self {
        Self { tag: link.tag(), low: link.low(), link: link.clone() }
    }
}

/// Whether one of the trees contains the very node: one way down to its first key.
pub(crate) fn contained_in_any<'t>(
    trees: impl IntoIterator<Item = &'t Tree<ExtentLeaf>>,
    place: &Place,
    nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
) -> Result<bool, Missing> {
    for tree in trees {
        if contains(tree, place, nodes)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains(
    tree: &Tree<ExtentLeaf>,
    place: &Place,
    nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
) -> Result<bool, Missing> {
    let Some(root) = &tree.root else { return Ok(false) };
    let level = place.link.level();
    if root.is_same(&place.link) {
        return Ok(true);
    }
    if root.level() <= level {
        return Ok(false);
    }
    let mut node = Held::of(root, nodes)?;
    loop {
        let Body::Inner(inner) = &node.body else { return Ok(false) };
        let child = inner.child_of(place.low);
        let link = &inner.links[child];
        if link.is_same(&place.link) {
            return Ok(true);
        }
        if link.level() <= level {
            return Ok(false);
        }
        node = node.child(child, nodes)?;
    }
}

/// Adds the parts of `mapping` that none of the trees maps at that key to that block.
pub(crate) fn unmapped_by(
    trees: &[&Tree<ExtentLeaf>],
    nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
    mapping: &Mapping,
    free: &mut Vec<Mapping>,
) -> Result<(), Missing> {
    let mut at = mapping.start;
    let mut free_from = mapping.start;
    while at < mapping.end() {
        let (used, end) = use_of(trees, nodes, mapping, at)?;
        if used {
            free.extend(mapping.within(free_from, at));
            free_from = end;
        }
        at = end;
    }
    free.extend(mapping.within(free_from, mapping.end()));
    Ok(())
}

/// Whether one of the trees maps `at` as `mapping` does, and up to where the answer is the same.
fn use_of(
    trees: &[&Tree<ExtentLeaf>],
    nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
    mapping: &Mapping,
    at: LogicalBlock,
) -> Result<(bool, LogicalBlock), Missing> {
    let mut unused_to = mapping.end();
    for tree in trees {
        match tree.lookup(nodes, at)? {
            Found::Mapped(other) if other.address_of(at) == mapping.address_of(at) => {
                return Ok((true, other.end().min(mapping.end())));
            }
            Found::Mapped(other) => unused_to = unused_to.min(other.end()),
            Found::Hole { end, .. } => unused_to = unused_to.min(end),
        }
    }
    Ok((false, unused_to))
}
