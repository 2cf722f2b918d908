//! A node in memory: decoded, shared by reference count, and with at most one home on a device.
//!
//! A node with a home is never changed again (T3), except for swapping a link in memory for the pointer to the same
//! node. A node without one belongs to the layer its tag names and is changed in place while only one tree links to it.

use crate::leaf::Leaf;
use crate::pointer::Pointer;
use crate::search::count_up_to;
use crate::units::{BlockAddress, Tag};
use std::sync::{Arc, OnceLock};

/// A link to a child, or to the root.
#[derive(Debug)]
pub(crate) enum Link<L> {
    Stored(Pointer),
    Memory(Arc<Node<L>>),
}

impl<L> Clone for Link<L> {
    fn clone(&self) -> Self {
        match self {
            Link::Stored(pointer) => Link::Stored(*pointer),
            Link::Memory(node) => Link::Memory(node.clone()),
        }
    }
}

impl<L: Leaf> Link<L> {
    pub(crate) fn tag(&self) -> Tag {
        match self {
            Link::Stored(pointer) => pointer.tag,
            Link::Memory(node) => node.tag,
        }
    }

    pub(crate) fn level(&self) -> u8 {
        match self {
            Link::Stored(pointer) => pointer.level,
            Link::Memory(node) => node.level(),
        }
    }

    /// First key of the subtree.
    pub(crate) fn low(&self) -> u64 {
        match self {
            Link::Stored(pointer) => pointer.low,
            Link::Memory(node) => node.low(),
        }
    }

    pub(crate) fn address(&self) -> Option<BlockAddress> {
        match self {
            Link::Stored(pointer) => Some(pointer.address),
            Link::Memory(node) => node.address(),
        }
    }

    /// What names the node to whoever frees its block; `None` while it has none.
    pub(crate) fn pointer(&self) -> Option<Pointer> {
        match self {
            Link::Stored(pointer) => Some(*pointer),
            Link::Memory(node) => node.named(),
        }
    }

    /// Whether both lead to the very same node.
    pub(crate) fn is_same(&self, other: &Link<L>) -> bool {
        if let (Some(left), Some(right)) = (self.address(), other.address()) {
            return left == right;
        }
        matches!((self, other), (Link::Memory(left), Link::Memory(right)) if Arc::ptr_eq(left, right))
    }
}

/// Where a node lives on a device: an address first, the whole pointer once its page is made.
#[derive(Debug, Default)]
struct Home {
    address: OnceLock<BlockAddress>,
    pointer: OnceLock<Pointer>,
}

/// Tells one node in memory from all others, as long as somebody holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIdentity(usize);

#[derive(Debug, Clone)]
pub(crate) enum Body<L> {
    Leaf(L),
    Inner(Inner<L>),
}

/// Links, and beside each the first key of its subtree (T2).
#[derive(Debug)]
pub(crate) struct Inner<L> {
    pub(crate) level: u8,
    pub(crate) lows: Vec<u64>,
    pub(crate) links: Vec<Link<L>>,
}

impl<L> Clone for Inner<L> {
    fn clone(&self) -> Self {
        Self { level: self.level, lows: self.lows.clone(), links: self.links.clone() }
    }
}

impl<L: Leaf> Inner<L> {
    pub(crate) fn of(level: u8, links: Vec<Link<L>>) -> Self {
        let lows = links.iter().map(Link::low).collect();
        Self { level, lows, links }
    }

    /// Index of the child that covers `key`; the first one covers everything below it too.
    pub(crate) fn child_of(&self, key: u64) -> usize {
        count_up_to(&self.lows, key).saturating_sub(1)
    }

    /// First key behind the child's subtree, as far as this node knows.
    pub(crate) fn bound_of(&self, child: usize, own_bound: u64) -> u64 {
        self.lows.get(child + 1).copied().unwrap_or(own_bound)
    }
}

/// A tree node, shared between forks, caches and the checkpoint that writes it.
#[derive(Debug)]
pub struct Node<L> {
    pub(crate) tag: Tag,
    pub(crate) body: Body<L>,
    home: Home,
}

impl<L: Leaf> Node<L> {
    /// A node no device knows yet.
    pub(crate) fn new(tag: Tag, body: Body<L>) -> Self {
        Self { tag, body, home: Home::default() }
    }

    /// The node that `pointer` names.
    pub(crate) fn at_home(body: Body<L>, pointer: Pointer) -> Self {
        let home = Home { address: OnceLock::from(pointer.address), pointer: OnceLock::from(pointer) };
        Self { tag: pointer.tag, body, home }
    }

    /// The same stored node once more, so that two threads do not count references in one place; `None` while its page
    /// has not been made.
    #[must_use]
    pub fn duplicate(&self) -> Option<Self> {
        let pointer = *self.home.pointer.get()?;
        Some(Self::at_home(self.body.clone(), pointer))
    }

    /// Which node it is.
    #[must_use]
    pub fn identity(node: &Arc<Self>) -> NodeIdentity {
        NodeIdentity(Arc::as_ptr(node).addr())
    }

    /// Who allocated, or will allocate, the node's block.
    #[must_use]
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// Distance from the leaves.
    #[must_use]
    pub fn level(&self) -> u8 {
        match &self.body {
            Body::Leaf(_) => 0,
            Body::Inner(inner) => inner.level,
        }
    }

    /// First key of the node's subtree.
    #[must_use]
    pub fn low(&self) -> u64 {
        match &self.body {
            Body::Leaf(leaf) => leaf.low(),
            Body::Inner(inner) => inner.lows[0],
        }
    }

    /// Number of entries or links.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.body {
            Body::Leaf(leaf) => leaf.count(),
            Body::Inner(inner) => inner.links.len(),
        }
    }

    /// The entries, if the node is a leaf.
    #[must_use]
    pub fn leaf(&self) -> Option<&L> {
        match &self.body {
            Body::Leaf(leaf) => Some(leaf),
            Body::Inner(_) => None,
        }
    }

    /// The block given to the node, written or not.
    #[must_use]
    pub fn address(&self) -> Option<BlockAddress> {
        self.home.address.get().copied()
    }

    /// The pointer to the node, once its page has been made.
    #[must_use]
    pub fn pointer(&self) -> Option<Pointer> {
        self.home.pointer.get().copied()
    }

    pub(crate) fn has_home(&self) -> bool {
        self.home.address.get().is_some()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.home.pointer.get().is_some()
    }

    /// Gives the node its block.
    pub(crate) fn settle_at(&self, address: BlockAddress) {
        assert!(address.can_hold(1), "a node lives in a block of a device");
        let first = self.home.address.set(address).is_ok();
        assert!(first, "a node gets one block in its life");
    }

    /// The page has been made. Two forks may find that out at the same time, and agree.
    pub(crate) fn complete(&self, pointer: Pointer) -> Pointer {
        *self.home.pointer.get_or_init(|| pointer)
    }

    /// The complete pointer, or one without a checksum while the page is not made.
    pub(crate) fn named(&self) -> Option<Pointer> {
        self.pointer().or_else(|| {
            let address = self.address()?;
            Some(Pointer { address, tag: self.tag, checksum: 0, low: self.low(), level: self.level() })
        })
    }
}
