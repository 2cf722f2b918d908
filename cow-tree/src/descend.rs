//! Read-only ways down the tree. Nodes linked in memory are borrowed, resident ones are held for the step.

use crate::leaf::Leaf;
use crate::node::{Body, Link, Node};
use crate::pointer::Missing;
use crate::tree::{Nodes, Tree};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Stands for "no next key": no entry starts here, because every entry ends within 64 bits.
pub(crate) const NO_BOUND: u64 = u64::MAX;

/// A node one may look at.
#[derive(Debug)]
pub(crate) enum Held<'a, L> {
    Borrowed(&'a Node<L>),
    Shared(Arc<Node<L>>),
}

impl<L> Deref for Held<'_, L> {
    type Target = Node<L>;

    fn deref(&self) -> &Node<L> {
        match self {
            Held::Borrowed(node) => node,
            Held::Shared(node) => node,
        }
    }
}

impl<'a, L: Leaf> Held<'a, L> {
    pub(crate) fn of(link: &'a Link<L>, nodes: &(impl Nodes<L> + ?Sized)) -> Result<Self, Missing> {
        match link {
            Link::Memory(node) => Ok(Held::Borrowed(node)),
            Link::Stored(pointer) => nodes.get(pointer).map(Held::Shared).ok_or(Missing(*pointer)),
        }
    }

    /// The child of an inner node, in place of it.
    pub(crate) fn child(self, index: usize, nodes: &(impl Nodes<L> + ?Sized)) -> Result<Self, Missing> {
        match self {
            Held::Borrowed(node) => Self::of(link_of(node, index), nodes),
            Held::Shared(node) => match link_of(&node, index) {
                Link::Memory(child) => Ok(Held::Shared(child.clone())),
                Link::Stored(pointer) => nodes.get(pointer).map(Held::Shared).ok_or(Missing(*pointer)),
            },
        }
    }
}

fn link_of<L: Leaf>(node: &Node<L>, index: usize) -> &Link<L> {
    match &node.body {
        Body::Inner(inner) => &inner.links[index],
        Body::Leaf(_) => unreachable!("a leaf has no children"),
    }
}

/// The leaf that covers a key.
#[derive(Debug)]
pub(crate) struct Spot<'a, L> {
    pub(crate) node: Held<'a, L>,
    /// First key behind the leaf, and exactly the first key of the next leaf (T2); [`NO_BOUND`] at the last.
    pub(crate) bound: u64,
    /// Nodes looked at on the way, the leaf included.
    pub(crate) visits: usize,
}

impl<L: Leaf> Spot<'_, L> {
    pub(crate) fn leaf(&self) -> &L {
        self.node.leaf().expect("a way down ends at a leaf")
    }
}

/// What a change of a range will meet.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Nodes on the ways down, all of them resident.
    pub(crate) visits: usize,
    /// Whether anything is mapped in the range.
    pub(crate) touched: bool,
}

impl<L: Leaf> Tree<L> {
    pub(crate) fn spot(
        &self,
        nodes: &(impl Nodes<L> + ?Sized),
        key: u64,
    ) -> Result<Option<Spot<'_, L>>, Missing> {
        let Some(root) = &self.root else { return Ok(None) };
        let mut spot = Spot { node: Held::of(root, nodes)?, bound: NO_BOUND, visits: 1 };
        while let Body::Inner(inner) = &spot.node.body {
            let child = inner.child_of(key);
            let bound = inner.bound_of(child, spot.bound);
            spot = Spot { node: spot.node.child(child, nodes)?, bound, visits: spot.visits + 1 };
        }
        Ok(Some(spot))
    }

    /// Looks at every node a change of `range` must read.
    pub(crate) fn survey(
        &self,
        nodes: &(impl Nodes<L> + ?Sized),
        range: &Range<u64>,
    ) -> Result<Survey, Missing> {
        let mut survey = Survey::default();
        if let Some(root) = &self.root
            && !range.is_empty()
        {
            survey_link(root, nodes, range, &mut survey)?;
        }
        Ok(survey)
    }
}

fn survey_link<L: Leaf>(
    link: &Link<L>,
    nodes: &(impl Nodes<L> + ?Sized),
    range: &Range<u64>,
    survey: &mut Survey,
) -> Result<(), Missing> {
    let node = Held::of(link, nodes)?;
    survey.visits += 1;
    match &node.body {
        Body::Leaf(leaf) => survey.touched |= leaf.touches(range),
        Body::Inner(inner) => {
            for child in inner.child_of(range.start)..=inner.child_of(range.end - 1) {
                survey_link(&inner.links[child], nodes, range, survey)?;
            }
        }
    }
    Ok(())
}

/// Whether anything of the subtree lies in `range`, of which nothing lies before the subtree's own keys.
pub(crate) fn touches<L: Leaf>(
    link: &Link<L>,
    nodes: &(impl Nodes<L> + ?Sized),
    range: &Range<u64>,
) -> Result<bool, Missing> {
    let node = Held::of(link, nodes)?;
    match &node.body {
        Body::Leaf(leaf) => Ok(leaf.touches(range)),
        Body::Inner(inner) => {
            let first = inner.child_of(range.start);
            let next_inside = inner.lows.get(first + 1).is_some_and(|low| *low < range.end);
            Ok(next_inside || touches(&inner.links[first], nodes, range)?)
        }
    }
}
