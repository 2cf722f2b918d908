//! Clean nodes of all layers' trees, shared by all channels, bounded by a number of nodes.
//!
//! A node is found by the address *and* the checksum its parent names, so an entry whose block was freed and written
//! again can never be mistaken for the new node: stale entries only take room until they are evicted. Each channel
//! keeps a small private map in front, and copies of its own of the nodes it uses most: two channels that take turns at
//! one reference count would be slower than one alone. So hot lookups share nothing.

use crate::body::ExtentTree;
use crate::mutants::{self, Mutant};
use cow_tree::units::BlockAddress;
use cow_tree::{ExtentLeaf, Node, Nodes, Pointer};
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

const SHARDS: usize = 16;
/// What one step of two walks looks at fits one shard, however badly its addresses fall.
const SHARD_NODES_MIN: usize = 32;
/// Nodes a channel keeps in its private map; as copies they take up to 3 MiB.
const PRIVATE_NODES_MAX: usize = 512;
/// Uses after which a copy has paid for itself.
const COPY_AFTER_USES: u32 = 16;

pub(crate) type ExtentNode = Node<ExtentLeaf>;
type Shard = HashMap<BlockAddress, (u32, Arc<ExtentNode>)>;

/// A node as one channel keeps it.
#[derive(Debug)]
struct Private {
    checksum: u32,
    node: Arc<ExtentNode>,
    uses: u32,
}

#[derive(Debug)]
pub(crate) struct NodeCache {
    shards: Vec<Mutex<Shard>>,
    shard_nodes_max: usize,
}

impl NodeCache {
    pub(crate) fn new(nodes_max: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            shard_nodes_max: (nodes_max / SHARDS).max(SHARD_NODES_MIN),
        }
    }

    fn shard(&self, address: BlockAddress) -> &Mutex<Shard> {
        let index = usize::try_from(address.0 % 16).expect("less than sixteen");
        &self.shards[index]
    }

    pub(crate) fn put(&self, pointer: &Pointer, node: Arc<ExtentNode>) {
        let mut shard = self.shard(pointer.address).lock();
        if shard.len() >= self.shard_nodes_max {
            evict(&mut shard);
        }
        shard.insert(pointer.address, (pointer.checksum, node));
    }
}

impl Nodes<ExtentLeaf> for NodeCache {
    fn get(&self, pointer: &Pointer) -> Option<Arc<ExtentNode>> {
        let shard = self.shard(pointer.address).lock();
        let (checksum, node) = shard.get(&pointer.address)?;
        (*checksum == pointer.checksum || mutants::active(Mutant::StaleCache)).then(|| node.clone())
    }
}

/// Drops an arbitrary eighth: hash order is as good as random, and costs nothing on a hit.
fn evict(shard: &mut Shard) {
    let doomed: Vec<BlockAddress> = shard.keys().copied().take((shard.len() / 8).max(1)).collect();
    doomed.iter().for_each(|address| drop(shard.remove(address)));
}

/// A channel's view of the cache.
#[derive(Debug)]
pub(crate) struct CachedNodes {
    shared: Arc<NodeCache>,
    private: RefCell<HashMap<BlockAddress, Private>>,
}

impl CachedNodes {
    pub(crate) fn new(shared: Arc<NodeCache>) -> Self {
        Self { shared, private: RefCell::new(HashMap::new()) }
    }

    pub(crate) fn put(&self, pointer: &Pointer, node: Arc<ExtentNode>) {
        self.shared.put(pointer, node.clone());
        self.remember(pointer, node);
    }

    fn remember(&self, pointer: &Pointer, node: Arc<ExtentNode>) {
        let mut private = self.private.borrow_mut();
        if private.len() >= PRIVATE_NODES_MAX {
            private.clear();
        }
        private.insert(pointer.address, Private { checksum: pointer.checksum, node, uses: 0 });
    }
}

impl Nodes<ExtentLeaf> for CachedNodes {
    fn get(&self, pointer: &Pointer) -> Option<Arc<ExtentNode>> {
        if let Some(private) = self.private.borrow_mut().get_mut(&pointer.address)
            && (private.checksum == pointer.checksum || mutants::active(Mutant::StaleCache))
        {
            return Some(private.used());
        }
        let node = self.shared.get(pointer)?;
        self.remember(pointer, node.clone());
        Some(node)
    }
}

impl Private {
    fn used(&mut self) -> Arc<ExtentNode> {
        self.uses = self.uses.saturating_add(1);
        if self.uses == COPY_AFTER_USES
            && let Some(copy) = self.node.duplicate()
        {
            self.node = Arc::new(copy);
        }
        self.node.clone()
    }
}

/// Hands the nodes a checkpoint has written to the cache and lets the tree point to their addresses.
pub(crate) fn settle(tree: &mut ExtentTree, cache: &NodeCache) {
    tree.settle(&mut |pointer, node| cache.put(&pointer, node));
}
