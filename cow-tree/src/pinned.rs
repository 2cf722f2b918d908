//! Resident nodes that stay resident. A change must not find that a node it looked at a moment ago was evicted
//! (T8), so everything is looked at through one of these, and what it has seen it holds.

use crate::node::Node;
use crate::pointer::Pointer;
use crate::tree::Nodes;
use crate::units::BlockAddress;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

type Held<L> = BTreeMap<BlockAddress, (u32, Arc<Node<L>>)>;

/// A view of `N` that keeps every node it has handed out. Nodes linked in memory need no pin, so a change of dirty
/// nodes allocates nothing here. Callers that prepare several changes and then make them share one of these.
pub struct Pinned<'a, L, N: ?Sized> {
    nodes: &'a N,
    held: RefCell<Held<L>>,
}

impl<'a, L, N: Nodes<L> + ?Sized> Pinned<'a, L, N> {
    /// Nothing is pinned yet.
    #[must_use]
    pub fn new(nodes: &'a N) -> Self {
        Self { nodes, held: RefCell::new(BTreeMap::new()) }
    }
}

impl<L, N: Nodes<L> + ?Sized> Nodes<L> for Pinned<'_, L, N> {
    fn get(&self, pointer: &Pointer) -> Option<Arc<Node<L>>> {
        let mut held = self.held.borrow_mut();
        if let Some((checksum, node)) = held.get(&pointer.address)
            && *checksum == pointer.checksum
        {
            return Some(node.clone());
        }
        let node = self.nodes.get(pointer)?;
        held.insert(pointer.address, (pointer.checksum, node.clone()));
        Some(node)
    }
}

impl<L, N: ?Sized> fmt::Debug for Pinned<'_, L, N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pinned").field("nodes", &self.held.borrow().len()).finish()
    }
}
