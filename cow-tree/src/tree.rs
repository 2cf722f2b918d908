//! The tree itself: a root link and its limits. A fork is a copy of the root link.

use crate::leaf::Leaf;
use crate::limits::Limits;
use crate::node::{Link, Node};
use crate::pointer::Pointer;
use std::sync::Arc;

/// Clean nodes that are resident. The tree asks once per node and step; it never waits.
pub trait Nodes<L> {
    /// The node `pointer` names, if it is in memory. The answer must be the node with that address *and* checksum.
    fn get(&self, pointer: &Pointer) -> Option<Arc<Node<L>>>;
}

impl<L, N: Nodes<L> + ?Sized> Nodes<L> for &N {
    fn get(&self, pointer: &Pointer) -> Option<Arc<Node<L>>> {
        (**self).get(pointer)
    }
}

/// A copy-on-write B+tree of extents or records. An empty tree has no root (T7).
#[derive(Debug)]
pub struct Tree<L> {
    pub(crate) root: Option<Link<L>>,
    pub(crate) limits: Limits,
    pub(crate) created: u64,
}

impl<L: Leaf> Tree<L> {
    /// A tree that maps nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::empty_with(Limits::default())
    }

    /// An empty tree of another fan-out.
    #[must_use]
    pub fn empty_with(limits: Limits) -> Self {
        Self::stored_with(None, limits)
    }

    /// The tree below a root node on the device.
    #[must_use]
    pub fn stored(root: Option<Pointer>) -> Self {
        Self::stored_with(root, Limits::default())
    }

    /// A stored tree that goes on with another fan-out.
    #[must_use]
    pub fn stored_with(root: Option<Pointer>, limits: Limits) -> Self {
        Self { root: root.map(Link::Stored), limits, created: 0 }
    }

    /// The same tree a second time. Both may change from here on, and neither sees the other's changes. O(1).
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { root: self.root.clone(), limits: self.limits, created: 0 }
    }

    /// Whether nothing is in the tree.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Whether every node of the tree is on the device and linked by pointer.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        !matches!(self.root, Some(Link::Memory(_)))
    }

    /// Levels from the root to the leaves: 0 for an empty tree, 1 for a single leaf.
    #[must_use]
    pub fn height(&self) -> usize {
        self.root.as_ref().map_or(0, |root| usize::from(root.level()) + 1)
    }

    /// How many nodes without a home this tree has made since it was made itself; only ever grows.
    #[must_use]
    pub fn created(&self) -> u64 {
        self.created
    }

    /// Whether both trees have the very same root node, and so the same content.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.root, &other.root) {
            (None, None) => true,
            (Some(left), Some(right)) => left.is_same(right),
            _ => false,
        }
    }
}

/// A frozen tree is encoded by another thread than the one that changes the live tree.
const _: () = {
    const fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<Tree<crate::ExtentLeaf>>();
    crosses_threads::<Tree<crate::RecordLeaf>>();
};
