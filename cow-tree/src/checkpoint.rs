//! How a tree reaches the device: blocks for its new nodes, pages, and links to pages instead of memory.
//!
//! `assign` happens at one moment; `encode` may happen later, on a fork, while the live tree moves on: a node with a
//! block is never changed again. `settle` comes last, when the pages are on the device. Everything below a node with
//! a block has one (T4), everything below a node with a page has one (T5): both walks stop there.

use crate::leaf::Leaf;
use crate::node::{Body, Inner, Link, Node, NodeIdentity};
use crate::page::Page;
use crate::pointer::Pointer;
use crate::tree::Tree;
use crate::units::{BLOCK_BYTES, BlockAddress, Generation, PoolId, Tag};
use std::collections::BTreeSet;
use std::sync::Arc;

type Taker<'a, L> = &'a mut dyn FnMut(Pointer, Arc<Node<L>>);

impl<L: Leaf> Tree<L> {
    /// Gives a block to every node that has none, children first, and says how many got one.
    pub fn assign(&self, allocate: &mut dyn FnMut(Tag) -> BlockAddress) -> usize {
        self.root.as_ref().map_or(0, |root| assign(root, allocate))
    }

    /// How many blocks [`assign`](Self::assign) would take. Trees that share new nodes count them once each: see
    /// [`unassigned_of`](Self::unassigned_of).
    #[must_use]
    pub fn unassigned(&self) -> usize {
        Self::unassigned_of([self])
    }

    /// How many blocks it takes to assign all these trees one after another. A node several of them share is
    /// counted once.
    #[must_use]
    pub fn unassigned_of<'a>(trees: impl IntoIterator<Item = &'a Self>) -> usize
    where
        L: 'a,
    {
        let mut seen = BTreeSet::new();
        trees.into_iter().for_each(|tree| tree.homeless(&mut seen));
        seen.len()
    }

    /// Adds the nodes that have no block at this moment. One that a fork keeps can get one later.
    pub fn homeless(&self, seen: &mut BTreeSet<NodeIdentity>) {
        if let Some(root) = &self.root {
            collect(root, seen);
        }
    }

    /// Makes the pages of all nodes that have a block but no page yet, children before parents, and hands them out.
    /// The root's pointer, or `None` for an empty tree.
    ///
    /// # Panics
    /// If a node has no block.
    pub fn encode(
        &self,
        pool: PoolId,
        generation: Generation,
        out: &mut dyn FnMut(BlockAddress, &[u8; BLOCK_BYTES]),
    ) -> Option<Pointer> {
        let whole = self.encode_some(pool, generation, usize::MAX, out);
        assert!(whole, "there are fewer nodes than that");
        self.root_pointer()
    }

    /// The same for at most `pages_max` pages; tells whether all are made now. Otherwise it goes on when it is called again.
    ///
    /// # Panics
    /// If a node has no block.
    pub fn encode_some(
        &self,
        pool: PoolId,
        generation: Generation,
        pages_max: usize,
        out: &mut dyn FnMut(BlockAddress, &[u8; BLOCK_BYTES]),
    ) -> bool {
        let mut press = Press { pool, generation, page: [0; BLOCK_BYTES], left: pages_max, out };
        self.root.as_ref().is_none_or(|root| press.link(root))
    }

    /// The pointer to the root of a tree whose pages have been made.
    ///
    /// # Panics
    /// If the root's page has not been made.
    #[must_use]
    pub fn root_pointer(&self) -> Option<Pointer> {
        self.root.as_ref().map(|root| match root {
            Link::Stored(pointer) => *pointer,
            Link::Memory(node) => node.pointer().expect("the tree was encoded"),
        })
    }

    /// Replaces links to nodes in memory whose pages have been made by pointers, and hands those nodes over.
    ///
    /// New nodes shared with a fork are left for the settle after the checkpoint that gives them a block.
    pub fn settle(&mut self, cache: &mut dyn FnMut(Pointer, Arc<Node<L>>)) {
        if let Some(root) = &mut self.root {
            settle(root, cache);
        }
    }
}

fn assign<L: Leaf>(link: &Link<L>, allocate: &mut dyn FnMut(Tag) -> BlockAddress) -> usize {
    let Link::Memory(node) = link else { return 0 };
    if node.has_home() {
        return 0;
    }
    let below: usize = match &node.body {
        Body::Leaf(_) => 0,
        Body::Inner(inner) => inner.links.iter().map(|link| assign(link, allocate)).sum(),
    };
    node.settle_at(allocate(node.tag()));
    below + 1
}

fn collect<L: Leaf>(link: &Link<L>, seen: &mut BTreeSet<NodeIdentity>) {
    let Link::Memory(node) = link else { return };
    if !node.has_home()
        && seen.insert(Node::identity(node))
        && let Body::Inner(inner) = &node.body
    {
        inner.links.iter().for_each(|link| collect(link, seen));
    }
}

/// Makes pages, one after another, in one buffer.
struct Press<'a> {
    pool: PoolId,
    generation: Generation,
    page: Page,
    /// Pages that may still be made.
    left: usize,
    out: &'a mut dyn FnMut(BlockAddress, &Page),
}

impl Press<'_> {
    /// Tells whether the page of what is linked, and so of everything below it, is made.
    fn link<L: Leaf>(&mut self, link: &Link<L>) -> bool {
        let Link::Memory(node) = link else { return true };
        if node.pointer().is_some() {
            return true;
        }
        if let Body::Inner(inner) = &node.body
            && !inner.links.iter().all(|child| self.link(child))
        {
            return false;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let address = node.address().expect("every node got a block before pages are made");
        let pointer = node.encode(address, self.pool, self.generation, &mut self.page);
        (self.out)(address, &self.page);
        node.complete(pointer);
        true
    }
}

fn settle<L: Leaf>(link: &mut Link<L>, cache: Taker<'_, L>) {
    let Link::Memory(node) = link else { return };
    if let Some(node) = Arc::get_mut(node) {
        if let Body::Inner(inner) = &mut node.body {
            inner.links.iter_mut().for_each(|link| settle(link, cache));
        }
    } else if let Some(copy) = without_memory(node, cache) {
        *node = copy;
    }
    if let Some(pointer) = node.pointer() {
        cache(pointer, node.clone());
        *link = Link::Stored(pointer);
    }
}

/// A complete node that somebody else links to as well cannot be changed: the same node again, with pointers only.
fn without_memory<L: Leaf>(node: &Node<L>, cache: Taker<'_, L>) -> Option<Arc<Node<L>>> {
    let (Some(pointer), Body::Inner(inner)) = (node.pointer(), &node.body) else { return None };
    if inner.links.iter().all(|link| matches!(link, Link::Stored(_))) {
        return None;
    }
    let mut links = inner.links.clone();
    links.iter_mut().for_each(|link| settle(link, cache));
    let inner = Inner { level: inner.level, lows: inner.lows.clone(), links };
    Some(Arc::new(Node::at_home(Body::Inner(inner), pointer)))
}
