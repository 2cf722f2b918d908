//! Where two trees differ. Both are walked together, and a node that both contain is skipped with all below it.

use crate::descend::{Held, NO_BOUND};
use crate::extent_leaf::ExtentLeaf;
use crate::node::{Body, Link, Node};
use crate::pointer::{Mapping, Missing};
use crate::tree::{Nodes, Tree};
use crate::units::LogicalBlock;
use std::sync::Arc;

/// A range that the two trees map differently, and what each maps there; `None` is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    pub start: LogicalBlock,
    pub end: LogicalBlock,
    pub left: Option<Mapping>,
    pub right: Option<Mapping>,
}

/// One step of a diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiffStep {
    /// The next difference; the diff goes on at its end.
    Differs(Difference),
    /// The budget is used up, or a node behind is not resident; both trees agree up to here, where the diff goes on.
    Same { until: LogicalBlock },
    /// Both trees agree on everything behind.
    End,
}

impl Tree<ExtentLeaf> {
    /// The next range at or behind `from` that the trees map to different blocks, or not both at all. Looks at about
    /// `visits_max` nodes before it gives up for now.
    ///
    /// # Errors
    /// [`Missing`] when a node of either tree at `from` is not resident.
    pub fn diff(
        left: &Tree<ExtentLeaf>,
        right: &Tree<ExtentLeaf>,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        from: LogicalBlock,
        visits_max: usize,
    ) -> Result<DiffStep, Missing> {
        let mut at = from.0;
        let mut visits = 0;
        while at < NO_BOUND {
            let pair = match pair_at(left, right, nodes, at) {
                // What was looked at need not be looked at again.
                Err(Missing(_)) if at > from.0 => return Ok(DiffStep::Same { until: LogicalBlock(at) }),
                pair => pair?,
            };
            visits += pair.visits;
            if let Some(difference) = pair.first_difference(at) {
                return Ok(DiffStep::Differs(difference));
            }
            at = pair.bound();
            if at != NO_BOUND && visits >= visits_max {
                return Ok(DiffStep::Same { until: LogicalBlock(at) });
            }
        }
        Ok(DiffStep::End)
    }
}

/// A leaf of one tree, if that tree has any.
type Found = Option<Arc<Node<ExtentLeaf>>>;

/// One tree's way down to a key: where it stands, and what lies behind.
#[derive(Debug, Clone)]
struct Side {
    link: Option<Link<ExtentLeaf>>,
    bound: u64,
}

impl Side {
    fn level(&self) -> Option<u8> {
        self.link.as_ref().map(Link::level)
    }

    fn node(&self, nodes: &(impl Nodes<ExtentLeaf> + ?Sized)) -> Result<Found, Missing> {
        match &self.link {
            None => Ok(None),
            Some(Link::Memory(node)) => Ok(Some(node.clone())),
            Some(Link::Stored(pointer)) => nodes.get(pointer).map(Some).ok_or(Missing(*pointer)),
        }
    }

    fn down(&mut self, nodes: &(impl Nodes<ExtentLeaf> + ?Sized), key: u64) -> Result<(), Missing> {
        let Some(link) = &self.link else { return Ok(()) };
        let held = Held::of(link, nodes)?;
        let Body::Inner(inner) = &held.body else { return Ok(()) };
        let child = inner.child_of(key);
        let below = Side { link: Some(inner.links[child].clone()), bound: inner.bound_of(child, self.bound) };
        drop(held);
        *self = below;
        Ok(())
    }
}

/// The two leaves at a key, or nothing to compare because both trees share a node above it.
struct Pair {
    leaves: Option<(Found, Found)>,
    bounds: (u64, u64),
    visits: usize,
}

fn pair_at(
    left: &Tree<ExtentLeaf>,
    right: &Tree<ExtentLeaf>,
    nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
    key: u64,
) -> Result<Pair, Missing> {
    let mut a = Side { link: left.root.clone(), bound: NO_BOUND };
    let mut b = Side { link: right.root.clone(), bound: NO_BOUND };
    let mut visits = 0;
    loop {
        visits += 1;
        let shared = match (&a.link, &b.link) {
            (None, None) => true,
            (Some(left), Some(right)) => left.is_same(right),
            _ => false,
        };
        if shared {
            return Ok(Pair { leaves: None, bounds: (a.bound, b.bound), visits });
        }
        let (above, below) = (a.level(), b.level());
        if above.unwrap_or(0) == 0 && below.unwrap_or(0) == 0 {
            let leaves = Some((a.node(nodes)?, b.node(nodes)?));
            return Ok(Pair { leaves, bounds: (a.bound, b.bound), visits });
        }
        if above >= below {
            a.down(nodes, key)?;
        }
        if below >= above {
            b.down(nodes, key)?;
        }
    }
}

impl Pair {
    fn bound(&self) -> u64 {
        self.bounds.0.min(self.bounds.1)
    }

    fn first_difference(&self, from: u64) -> Option<Difference> {
        let (left, right) = self.leaves.as_ref()?;
        let (left, right) =
            (left.as_ref().and_then(|node| node.leaf()), right.as_ref().and_then(|node| node.leaf()));
        let mut at = LogicalBlock(from);
        while at.0 < self.bound() {
            let ((left, left_end), (right, right_end)) = (piece(left, at), piece(right, at));
            let end = left_end.min(right_end).min(LogicalBlock(self.bound()));
            let same =
                left.map(|mapping| mapping.address_of(at)) == right.map(|mapping| mapping.address_of(at));
            if !same {
                let part = |mapping: Option<Mapping>| mapping.and_then(|mapping| mapping.within(at, end));
                return Some(Difference { start: at, end, left: part(left), right: part(right) });
            }
            at = end;
        }
        None
    }
}

/// What a leaf says about `at`, and up to where.
fn piece(leaf: Option<&ExtentLeaf>, at: LogicalBlock) -> (Option<Mapping>, LogicalBlock) {
    let Some(leaf) = leaf else { return (None, LogicalBlock(NO_BOUND)) };
    let after = leaf.after(at.0);
    match after.checked_sub(1).map(|index| leaf.mapping(index)) {
        Some(mapping) if at < mapping.end() => (Some(mapping), mapping.end()),
        _ => (None, leaf.get(after).map_or(LogicalBlock(NO_BOUND), |next| next.start)),
    }
}
