//! Any changes of any forks of a tree of blocks, written, settled and evicted in between: it maps what a plain map maps,
//! and reports exactly the blocks that it stops mapping (T9).
#![no_main]

#[path = "../../cow-tree/tests/disk/mod.rs"]
mod disk;

use arbitrary::Arbitrary;
use cow_tree::units::{BlockAddress, LogicalBlock, Tag};
use cow_tree::{Dropped, ExtentLeaf, Found, Limits, Mapping, Tree, Walk};
use disk::Disk;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

const STEPS_MAX: usize = 256;
const TREES_MAX: usize = 6;
const LINE: u32 = 1;
/// Where blocks lie that are written at their identity place, and so often continue each other.
const IDENTITY: u64 = 1 << 20;
const ELSEWHERE: u64 = 1 << 24;
const NODES: u64 = 1 << 30;

#[derive(Debug, Arbitrary)]
enum Step {
    Insert { tree: u8, start: u8, length: u8, apart: bool, checksummed: bool },
    Remove { tree: u8, start: u8, length: u16 },
    Fork { tree: u8 },
    Drop { tree: u8 },
    Write { tree: u8, settled: bool },
    Evict,
    Look { tree: u8, at: u8 },
}

#[derive(Debug)]
struct Twin {
    tree: Tree<ExtentLeaf>,
    /// Logical to physical blocks.
    map: BTreeMap<u64, u64>,
    tag: Tag,
}

#[derive(Debug)]
struct World {
    disk: Disk<ExtentLeaf>,
    twins: Vec<Twin>,
    next_sequence: u32,
    next_block: u64,
    next_node: u64,
}

impl World {
    fn new(leaf: u8, inner: u8) -> Self {
        let limits = Limits::new(2 + usize::from(leaf % 7), 2 + usize::from(inner % 7));
        let tag = Tag { line: LINE, sequence: 1 };
        let twins = vec![Twin { tree: Tree::empty_with(limits), map: BTreeMap::new(), tag }];
        Self { disk: Disk::new(), twins, next_sequence: 2, next_block: ELSEWHERE, next_node: NODES }
    }

    fn chosen(&self, tree: u8) -> usize {
        usize::from(tree) % self.twins.len()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Insert { tree, start, length, apart, checksummed } => {
                let length = u32::from(length % 16) + 1;
                let address = if apart { self.fresh(length.into()) } else { IDENTITY + u64::from(start) };
                let tag = self.twins[self.chosen(tree)].tag;
                let (start, address) = (LogicalBlock(start.into()), BlockAddress(address));
                self.insert(self.chosen(tree), Mapping { start, length, address, tag, checksummed });
            }
            Step::Remove { tree, start, length } => {
                self.remove(self.chosen(tree), start.into(), u64::from(start) + u64::from(length));
            }
            Step::Fork { tree } => self.fork(self.chosen(tree)),
            Step::Drop { tree } if self.twins.len() > 1 => drop(self.twins.swap_remove(self.chosen(tree))),
            Step::Drop { .. } => {}
            Step::Write { tree, settled } => self.write(self.chosen(tree), settled),
            Step::Evict => self.disk.evict_all(),
            Step::Look { tree, at } => self.look(self.chosen(tree), at.into()),
        }
    }

    fn fresh(&mut self, length: u64) -> u64 {
        let block = self.next_block;
        self.next_block += length + 1;
        block
    }

    fn insert(&mut self, index: usize, mapping: Mapping) {
        let twin = &mut self.twins[index];
        let mut dropped = Vec::new();
        self.disk.ask(|| twin.tree.insert(&self.disk, mapping, twin.tag, &mut dropped));
        let mut replaced = BTreeMap::new();
        for block in 0..u64::from(mapping.length) {
            let (key, address) = (mapping.start.0 + block, mapping.address.0 + block);
            let old = twin.map.insert(key, address).filter(|old| *old != address);
            replaced.extend(old.map(|old| (key, old)));
        }
        assert_eq!(data_of(&dropped), replaced, "what is not mapped any more");
    }

    fn remove(&mut self, index: usize, start: u64, end: u64) {
        let twin = &mut self.twins[index];
        let mut dropped = Vec::new();
        let range = LogicalBlock(start)..LogicalBlock(end);
        self.disk.ask(|| twin.tree.remove(&self.disk, range.clone(), twin.tag, &mut dropped));
        let mut behind = twin.map.split_off(&start);
        let mut kept = behind.split_off(&end);
        twin.map.append(&mut kept);
        assert_eq!(data_of(&dropped), behind, "what is not mapped any more");
    }

    /// Both go on under tags of their own, as layers do.
    fn fork(&mut self, index: usize) {
        if self.twins.len() == TREES_MAX {
            return;
        }
        let mut next = || {
            self.next_sequence += 1;
            Tag { line: LINE, sequence: self.next_sequence }
        };
        let (mine, tag) = (next(), next());
        let twin = &mut self.twins[index];
        twin.tag = mine;
        let fork = Twin { tree: twin.tree.fork(), map: twin.map.clone(), tag };
        assert!(fork.tree.is_same(&twin.tree));
        self.twins.push(fork);
    }

    fn write(&mut self, index: usize, settled: bool) {
        let (wanted, before) = (self.twins[index].tree.unassigned(), self.next_node);
        let tree = &mut self.twins[index].tree;
        let assigned = tree.assign(&mut |_| {
            self.next_node += 1;
            BlockAddress(self.next_node)
        });
        assert_eq!((u64::try_from(assigned), wanted), (Ok(self.next_node - before), assigned));
        let root = self.disk.encode(tree);
        assert_eq!(root, tree.root_pointer());
        if settled {
            self.disk.settle(tree);
        }
    }

    fn look(&self, index: usize, at: u64) {
        let Twin { tree, map, .. } = &self.twins[index];
        let found = self.disk.ask(|| tree.lookup(&self.disk, LogicalBlock(at)));
        match (found, map.get(&at)) {
            (Found::Mapped(mapping), Some(address)) => {
                assert_eq!(mapping.address_of(LogicalBlock(at)).0, *address);
            }
            (Found::Hole { start, end }, None) => {
                let before = map.range(..at).next_back().map_or(0, |(key, _)| key + 1);
                let after = map.range(at..).next().map_or(u64::MAX, |(key, _)| *key);
                assert_eq!((start.0, end.0), (before, after));
            }
            (found, expected) => panic!("{found:?} where the map says {expected:?}"),
        }
    }

    fn compare(&self) {
        for twin in &self.twins {
            let faults = self.disk.ask(|| twin.tree.check(&self.disk));
            assert!(faults.is_empty(), "{faults:?}");
            assert_eq!(map_of(&self.disk, &twin.tree), twin.map);
        }
    }
}

fn data_of(dropped: &[Dropped]) -> BTreeMap<u64, u64> {
    let mut blocks = BTreeMap::new();
    for item in dropped {
        if let Dropped::Data(mapping) = item {
            add(&mut blocks, mapping);
        }
    }
    blocks
}

fn add(blocks: &mut BTreeMap<u64, u64>, mapping: &Mapping) {
    for block in 0..u64::from(mapping.length) {
        let twice = blocks.insert(mapping.start.0 + block, mapping.address.0 + block);
        assert_eq!(twice, None, "a block is said once");
    }
}

fn map_of(disk: &Disk<ExtentLeaf>, tree: &Tree<ExtentLeaf>) -> BTreeMap<u64, u64> {
    let (mut walk, mut blocks) = (Walk::new(tree), BTreeMap::new());
    while let Some(visited) = disk.ask(|| walk.enter(disk)) {
        visited.node.leaf().into_iter().flat_map(ExtentLeaf::mappings).for_each(|it| add(&mut blocks, &it));
    }
    blocks
}

fuzz_target!(|script: (u8, u8, Vec<Step>)| {
    let (leaf, inner, steps) = script;
    let mut world = World::new(leaf, inner);
    steps.iter().take(STEPS_MAX).for_each(|step| world.take(step));
    world.compare();
});
