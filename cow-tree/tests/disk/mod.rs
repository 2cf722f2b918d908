//! A device of pages for tests: what was encoded can be read again, what was freed cannot.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use cow_tree::units::{BlockAddress, Generation, PoolId};
use cow_tree::{Leaf, Missing, Node, Nodes, Pointer, Tree};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) const POOL: PoolId = PoolId([7; 16]);

type Resident<L> = HashMap<BlockAddress, (u32, Arc<Node<L>>)>;

#[derive(Debug)]
pub(crate) struct Disk<L> {
    pub(crate) pages: RefCell<HashMap<BlockAddress, Box<[u8; 4096]>>>,
    cache: RefCell<Resident<L>>,
    pub(crate) generation: Cell<u64>,
    pub(crate) reads: Cell<usize>,
}

impl<L: Leaf> Disk<L> {
    pub(crate) fn new() -> Self {
        Self {
            pages: RefCell::default(),
            cache: RefCell::default(),
            generation: Cell::new(1),
            reads: Cell::new(0),
        }
    }

    /// Reads the missing node.
    pub(crate) fn fetch(&self, missing: Missing) {
        let pages = self.pages.borrow();
        let page =
            pages.get(&missing.0.address).unwrap_or_else(|| panic!("read of a freed node: {missing:?}"));
        let node = Node::decode(&page[..], &missing.0, POOL).expect("the page was encoded");
        self.reads.set(self.reads.get() + 1);
        self.cache.borrow_mut().insert(missing.0.address, (missing.0.checksum, Arc::new(node)));
    }

    /// Repeats a question until every node it needs is resident.
    pub(crate) fn ask<T>(&self, mut question: impl FnMut() -> Result<T, Missing>) -> T {
        for _ in 0..10_000 {
            match question() {
                Ok(answer) => return answer,
                Err(missing) => self.fetch(missing),
            }
        }
        panic!("what is missing never arrives")
    }

    pub(crate) fn evict_all(&self) {
        self.cache.borrow_mut().clear();
    }

    pub(crate) fn free(&self, address: BlockAddress) {
        self.pages.borrow_mut().remove(&address);
        self.cache.borrow_mut().remove(&address);
    }

    pub(crate) fn encode(&self, tree: &Tree<L>) -> Option<Pointer> {
        let mut pages = self.pages.borrow_mut();
        self.generation.set(self.generation.get() + 1);
        tree.encode(POOL, Generation(self.generation.get()), &mut |address, page| {
            pages.insert(address, Box::new(*page));
        })
    }

    pub(crate) fn settle(&self, tree: &mut Tree<L>) {
        tree.settle(&mut |pointer, node| {
            self.cache.borrow_mut().insert(pointer.address, (pointer.checksum, node));
        });
    }
}

impl<L: Leaf> Nodes<L> for Disk<L> {
    fn get(&self, pointer: &Pointer) -> Option<Arc<Node<L>>> {
        let cache = self.cache.borrow();
        let (checksum, node) = cache.get(&pointer.address)?;
        (*checksum == pointer.checksum).then(|| node.clone())
    }
}
