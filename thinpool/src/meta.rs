//! The two trees the pool keeps about itself: the catalog and the group table.
//!
//! Both are small, so all their clean nodes stay resident; a missing one is read once. They belong to the pool, not
//! to a layer: their nodes carry the tag of line 0, and whatever a change replaces is freed.

use crate::error::Error;
use crate::keeper::io::KeeperIo;
use blockstore::{Buffer, Operation};
use cow_tree::units::{BLOCK_BYTES, BlockAddress, PoolId, Tag};
use cow_tree::{Dropped, Limits, Missing, Node, Nodes, Pointer, RecordLeaf, Tree};
use std::collections::HashMap;
use std::sync::Arc;

/// The owner of catalog and group table nodes.
pub(crate) const POOL_TAG: Tag = Tag { line: 0, sequence: 0 };

pub(crate) type RecordTree = Tree<RecordLeaf>;

/// Resident clean nodes of both trees.
#[derive(Debug, Default)]
pub(crate) struct RecordNodes {
    nodes: HashMap<BlockAddress, (u32, Arc<Node<RecordLeaf>>)>,
}

impl RecordNodes {
    pub(crate) fn put(&mut self, pointer: &Pointer, node: Arc<Node<RecordLeaf>>) {
        self.nodes.insert(pointer.address, (pointer.checksum, node));
    }

    pub(crate) fn forget(&mut self, address: BlockAddress) {
        self.nodes.remove(&address);
    }

    /// Reads a missing node and keeps it.
    pub(crate) async fn read(io: &KeeperIo, id: PoolId, missing: Missing) -> Result<Fetched, Error> {
        let pointer = missing.0;
        let page = io.read(pointer.address, 1, "reading a node of the catalog").await?;
        let node = Node::decode(&page, &pointer, id)?;
        Ok(Fetched { pointer, node: Arc::new(node) })
    }

    /// Reads several missing nodes at the same time and keeps them.
    pub(crate) async fn read_all(
        &mut self,
        io: &KeeperIo,
        id: PoolId,
        pointers: &[Pointer],
    ) -> Result<(), Error> {
        let read = |pointer: &Pointer| {
            let buffer = Buffer::zeroed(BLOCK_BYTES);
            (*pointer, io.start(Operation::Read { offset: pointer.address.byte_offset(), buffer }))
        };
        let reads: Vec<_> = pointers.iter().filter(|pointer| self.get(pointer).is_none()).map(read).collect();
        for (pointer, token) in reads {
            let page = io.finish(token).await.map_err(Error::io("reading a node of the catalog"))?;
            let node = Node::decode(&page.expect("a read gives its buffer back"), &pointer, id)?;
            self.put(&pointer, Arc::new(node));
        }
        Ok(())
    }

    pub(crate) fn keep(&mut self, fetched: Fetched) {
        self.put(&fetched.pointer, fetched.node);
    }
}

/// A node just read.
#[derive(Debug)]
pub(crate) struct Fetched {
    pointer: Pointer,
    node: Arc<Node<RecordLeaf>>,
}

impl Nodes<RecordLeaf> for RecordNodes {
    fn get(&self, pointer: &Pointer) -> Option<Arc<Node<RecordLeaf>>> {
        let (checksum, node) = self.nodes.get(&pointer.address)?;
        (*checksum == pointer.checksum).then(|| node.clone())
    }
}

/// Catalog and group table.
#[derive(Debug)]
pub(crate) struct MetaTrees {
    pub(crate) catalog: RecordTree,
    pub(crate) groups: RecordTree,
    pub(crate) nodes: RecordNodes,
    /// Between a freeze and its pages: records are amended in place, so nobody may fork the trees.
    pub(crate) amending: bool,
}

impl MetaTrees {
    pub(crate) fn new(catalog: Option<Pointer>, groups: Option<Pointer>, limits: Limits) -> Self {
        Self {
            catalog: Tree::stored_with(catalog, limits),
            groups: Tree::stored_with(groups, limits),
            nodes: RecordNodes::default(),
            amending: false,
        }
    }

    /// Replaces everything in `keys` by the pieces. Doing it again changes nothing.
    pub(crate) fn put_catalog<'a>(
        &mut self,
        keys: std::ops::Range<u64>,
        pieces: impl Iterator<Item = (u64, &'a [u8])>,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), Missing> {
        let mut next = keys.start;
        for (key, bytes) in pieces {
            self.catalog.put(&self.nodes, key, bytes, POOL_TAG, dropped)?;
            next = key + 1;
        }
        while let Some((key, _)) = self.catalog.next(&self.nodes, next)? {
            if key >= keys.end {
                break;
            }
            self.catalog.remove(&self.nodes, key, POOL_TAG, dropped)?;
            next = key + 1;
        }
        Ok(())
    }
}
