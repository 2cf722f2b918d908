//! Walks over all nodes of a tree, in key order, parents first. A walk that misses a node stays where it is.
//!
//! `check` sees every node and entry this way. The walk compares each node with what its parent says and each entry
//! with its neighbours, and reports what does not fit; it can leave out subtrees that another walk has seen.

use crate::descend::NO_BOUND;
use crate::extent_leaf::ExtentLeaf;
use crate::leaf::Leaf;
use crate::node::{Body, Link, Node};
use crate::pointer::{Missing, Pointer};
use crate::record_leaf::RecordLeaf;
use crate::sweep::{Place, contained_in_any};
use crate::tree::{Nodes, Tree};
use crate::units::Tag;
use std::sync::Arc;
use thiserror::Error;

/// A rule of the tree's structure that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    #[error("a node holds nothing")]
    Empty,
    #[error("a node starts at key {found} where its parent says {expected}")]
    Low { expected: u64, found: u64 },
    #[error("a node has level {found} where its parent says {expected}")]
    Level { expected: u8, found: u8 },
    #[error("entry {0} is not behind the one before it, or overlaps it")]
    Order(usize),
    #[error("entry {index} reaches to key {end}, beyond its node's end {bound}")]
    Beyond { index: usize, end: u64, bound: u64 },
    #[error("the link to child {0} names another first key than the child has")]
    Separator(usize),
    #[error("a node with a block has a child without one")]
    Homeless,
}

/// What is known of a node before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// `None` while the node has no block.
    pub pointer: Option<Pointer>,
    pub tag: Tag,
    pub level: u8,
    /// First key of the subtree.
    pub low: u64,
    /// First key that cannot be in the subtree.
    pub bound: u64,
}

/// A node of the walk and what is wrong with it.
#[derive(Debug)]
pub struct Visited<L> {
    pub place: Ahead,
    pub node: Arc<Node<L>>,
    pub faults: Vec<Fault>,
}

/// A walk that can be stopped at any node. It holds the tree as it was when the walk began.
#[derive(Debug)]
pub struct Walk<L> {
    ahead: Vec<(Link<L>, Ahead)>,
}

/// What the walk asks of a leaf's entries.
pub trait Entries {
    /// First key, and first key behind it, of entry `index`.
    fn span(&self, index: usize) -> (u64, u64);
}

impl Entries for ExtentLeaf {
    fn span(&self, index: usize) -> (u64, u64) {
        let mapping = self.mapping(index);
        (mapping.start.0, mapping.end().0)
    }
}

impl Entries for RecordLeaf {
    fn span(&self, index: usize) -> (u64, u64) {
        let key = self.records()[index].key;
        (key, key.saturating_add(1))
    }
}

impl<L: Leaf + Entries> Walk<L> {
    /// Begins at the root.
    #[must_use]
    pub fn new(tree: &Tree<L>) -> Self {
        Self {
            ahead: tree.root.iter().map(|root| (root.clone(), ahead(root, root.low(), NO_BOUND))).collect(),
        }
    }

    /// The node that comes next.
    #[must_use]
    pub fn peek(&self) -> Option<Ahead> {
        self.ahead.last().map(|(_, place)| *place)
    }

    /// The nodes known to come, the next one first: what can be read at the same time.
    pub fn ahead(&self) -> impl Iterator<Item = Ahead> + '_ {
        self.ahead.iter().rev().map(|(_, place)| *place)
    }

    /// Leaves the next node and everything below it out.
    pub fn skip(&mut self) {
        self.ahead.pop();
    }

    /// Enters the next node.
    ///
    /// # Errors
    /// [`Missing`] when it is not resident; the walk has not moved.
    pub fn enter(&mut self, nodes: &(impl Nodes<L> + ?Sized)) -> Result<Option<Visited<L>>, Missing> {
        let Some((link, place)) = self.ahead.last() else { return Ok(None) };
        let node = match link {
            Link::Memory(node) => node.clone(),
            Link::Stored(pointer) => nodes.get(pointer).ok_or(Missing(*pointer))?,
        };
        let place = *place;
        let faults = faults_of(&node, &place);
        self.ahead.pop();
        if let Body::Inner(inner) = &node.body {
            for (index, link) in inner.links.iter().enumerate().rev() {
                let bound = inner.bound_of(index, place.bound);
                self.ahead.push((link.clone(), ahead(link, inner.lows[index], bound)));
            }
        }
        Ok(Some(Visited { place, node, faults }))
    }
}

impl Walk<ExtentLeaf> {
    /// Whether the tree contains the very node that comes next, and so everything below it.
    ///
    /// # Errors
    /// [`Missing`] when a node of the tree is not resident.
    pub fn next_is_in(
        &self,
        tree: &Tree<ExtentLeaf>,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
    ) -> Result<bool, Missing> {
        match self.ahead.last() {
            Some((link, _)) => contained_in_any([tree], &Place::of(link), nodes),
            None => Ok(false),
        }
    }
}

impl<L: Leaf + Entries> Tree<L> {
    /// Everything that is wrong with the structure of the whole tree.
    ///
    /// # Errors
    /// [`Missing`] when a node is not resident.
    pub fn check(&self, nodes: &(impl Nodes<L> + ?Sized)) -> Result<Vec<Fault>, Missing> {
        let mut walk = Walk::new(self);
        let mut faults = Vec::new();
        while let Some(visited) = walk.enter(nodes)? {
            faults.extend(visited.faults);
        }
        Ok(faults)
    }
}

fn ahead<L: Leaf>(link: &Link<L>, low: u64, bound: u64) -> Ahead {
    Ahead { pointer: link.pointer(), tag: link.tag(), level: link.level(), low, bound }
}

fn faults_of<L: Leaf + Entries>(node: &Node<L>, place: &Ahead) -> Vec<Fault> {
    if node.count() == 0 {
        return vec![Fault::Empty];
    }
    let mut faults = Vec::new();
    if node.low() != place.low {
        faults.push(Fault::Low { expected: place.low, found: node.low() });
    }
    if node.level() != place.level {
        faults.push(Fault::Level { expected: place.level, found: node.level() });
    }
    let mut free_from = node.low();
    for index in 0..node.count() {
        let (start, end) = match &node.body {
            Body::Leaf(leaf) => leaf.span(index),
            Body::Inner(inner) => (inner.lows[index], inner.lows[index].saturating_add(1)),
        };
        if start < free_from || start >= end {
            faults.push(Fault::Order(index));
        }
        if end > place.bound {
            faults.push(Fault::Beyond { index, end, bound: place.bound });
        }
        free_from = end;
    }
    if let Body::Inner(inner) = &node.body {
        faults.extend(link_faults(node, inner));
    }
    faults
}

fn link_faults<L: Leaf>(node: &Node<L>, inner: &crate::node::Inner<L>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, (link, low)) in inner.links.iter().zip(&inner.lows).enumerate() {
        if link.low() != *low {
            faults.push(Fault::Separator(index));
        }
        if link.level() + 1 != inner.level {
            faults.push(Fault::Level { expected: inner.level - 1, found: link.level() });
        }
        if node.has_home() && link.address().is_none() {
            faults.push(Fault::Homeless);
        }
    }
    faults
}
