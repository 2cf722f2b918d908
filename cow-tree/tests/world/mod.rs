//! Layers over real trees: the operations of the ownership model, its bookkeeping and its check.

use crate::disk::Disk;
use cow_tree::units::{BlockAddress, LogicalBlock, Tag};
use cow_tree::{DiffStep, Dropped, ExtentLeaf, Found, Limits, Mapping, Thinning, Tree, Walk};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) type LayerId = u32;
pub(crate) const KEYS: u64 = 48;

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write { pick: u8, start: u64, length: u32 },
    Trim { pick: u8, start: u64, length: u64 },
    Snapshot { pick: u8 },
    Clone { pick: u8 },
    Delete { pick: u8 },
    Reclaim { pick: u8 },
    Freeze,
    Encode,
    Evict,
    Thin { pick: u8 },
    Diff { pick: u8, other: u8 },
}

#[derive(Debug)]
pub(crate) struct Sweep {
    pub(crate) x: LayerId,
    pub(crate) tree: Tree<ExtentLeaf>,
    pub(crate) cursor: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) tree: Tree<ExtentLeaf>,
    pub(crate) sealed: bool,
    pub(crate) named: bool,
    pub(crate) deps: BTreeSet<LayerId>,
    pub(crate) incoming: Vec<Sweep>,
    pub(crate) freeing: Option<u64>,
    pub(crate) expected: BTreeMap<u64, u64>,
    pub(crate) thinned: bool,
}

pub(crate) struct World {
    pub(crate) disk: Disk<ExtentLeaf>,
    pub(crate) layers: BTreeMap<LayerId, Layer>,
    pub(crate) next_layer: LayerId,
    pub(crate) alias: BTreeMap<LayerId, LayerId>,
    /// Who allocated each block, data and nodes apart.
    pub(crate) data: BTreeMap<u64, LayerId>,
    pub(crate) nodes: BTreeMap<u64, LayerId>,
    pub(crate) next_node: u64,
    pub(crate) frozen: Vec<Tree<ExtentLeaf>>,
}

pub(crate) fn tag(layer: LayerId) -> Tag {
    Tag { line: layer, sequence: 1 }
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        let mut world = Self {
            disk: Disk::new(),
            layers: BTreeMap::new(),
            next_layer: 1,
            alias: BTreeMap::new(),
            data: BTreeMap::new(),
            nodes: BTreeMap::new(),
            next_node: 1 << 30,
            frozen: Vec::new(),
        };
        world.add(Tree::empty_with(limits), BTreeSet::new(), BTreeMap::new());
        world
    }

    pub(crate) fn add(
        &mut self,
        tree: Tree<ExtentLeaf>,
        deps: BTreeSet<LayerId>,
        expected: BTreeMap<u64, u64>,
    ) -> LayerId {
        let id = self.next_layer;
        self.next_layer += 1;
        let (incoming, freeing) = (Vec::new(), None);
        let layer =
            Layer { tree, sealed: false, named: true, deps, incoming, freeing, expected, thinned: false };
        self.layers.insert(id, layer);
        id
    }

    pub(crate) fn owner(&self, tag: Tag) -> LayerId {
        let mut id = tag.line;
        while let Some(next) = self.alias.get(&id) {
            id = *next;
        }
        id
    }

    pub(crate) fn pick(&self, pick: u8, filter: impl Fn(&Layer) -> bool) -> Option<LayerId> {
        let all: Vec<_> = self.layers.iter().filter(|(_, layer)| filter(layer)).map(|(id, _)| *id).collect();
        (!all.is_empty()).then(|| all[usize::from(pick) % all.len()])
    }

    pub(crate) fn dependents(&self, id: LayerId) -> Vec<LayerId> {
        self.layers.iter().filter(|(_, layer)| layer.deps.contains(&id)).map(|(id, _)| *id).collect()
    }

    /// A run at the identity place where that is free, so that extents join.
    pub(crate) fn allocate(&mut self, layer: LayerId, start: u64, length: u32) -> u64 {
        let mut base = 1000 + start;
        while (base..base + u64::from(length)).any(|block| self.data.contains_key(&block)) {
            base += 1000;
        }
        self.data.extend((base..base + u64::from(length)).map(|block| (block, layer)));
        base
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match *op {
            Op::Write { pick, start, length } => {
                if let Some(id) = self.pick(pick, |layer| !layer.sealed) {
                    self.write(id, start, length);
                }
            }
            Op::Trim { pick, start, length } => {
                if let Some(id) = self.pick(pick, |layer| !layer.sealed) {
                    let end = (start + length).min(KEYS + 30);
                    self.change(id, start..end, None);
                    let expected = &mut self.layers.get_mut(&id).expect("picked").expected;
                    expected.retain(|key, _| !(start..end).contains(key));
                }
            }
            Op::Snapshot { pick } => {
                if let Some(id) = self.pick(pick, |layer| !layer.sealed)
                    && self.layers.len() < 9
                {
                    self.follow(id);
                }
            }
            Op::Clone { pick } => {
                if let Some(id) = self.pick(pick, |layer| layer.sealed && layer.named)
                    && self.layers.len() < 9
                {
                    self.follow(id);
                }
            }
            Op::Delete { pick } => {
                let live = self.layers.values().filter(|layer| !layer.sealed).count();
                if let Some(id) = self.pick(pick, |layer| layer.named && (layer.sealed || live > 1)) {
                    let layer = self.layers.get_mut(&id).expect("picked");
                    (layer.named, layer.sealed) = (false, true);
                }
            }
            Op::Reclaim { pick } => self.reclaim(usize::from(pick)),
            Op::Freeze => self.freeze(),
            Op::Encode => self.write_frozen(),
            Op::Evict => self.disk.evict_all(),
            Op::Thin { pick } => self.thin(pick),
            Op::Diff { pick, other } => self.diff(pick, other),
        }
    }

    pub(crate) fn follow(&mut self, id: LayerId) {
        let layer = self.layers.get_mut(&id).expect("picked");
        layer.sealed = true;
        let (tree, expected) = (layer.tree.fork(), layer.expected.clone());
        self.add(tree, BTreeSet::from([id]), expected);
    }

    pub(crate) fn write(&mut self, id: LayerId, start: u64, length: u32) {
        let base = self.allocate(id, start, length);
        let mapping = Mapping {
            start: LogicalBlock(start),
            length,
            address: BlockAddress(base),
            tag: tag(id),
            checksummed: false,
        };
        self.change(id, start..start + u64::from(length), Some(mapping));
        let expected = &mut self.layers.get_mut(&id).expect("picked").expected;
        expected.extend((0..u64::from(length)).map(|index| (start + index, base + index)));
    }

    pub(crate) fn change(&mut self, id: LayerId, range: std::ops::Range<u64>, mapping: Option<Mapping>) {
        let mut dropped = Vec::new();
        let tree = &mut self.layers.get_mut(&id).expect("picked").tree;
        let range = LogicalBlock(range.start)..LogicalBlock(range.end);
        loop {
            let before = tree.created();
            let bound = tree.prepare(&self.disk, range.clone());
            let result = match mapping {
                Some(mapping) => tree.insert(&self.disk, mapping, tag(id), &mut dropped),
                None => tree.remove(&self.disk, range.clone(), tag(id), &mut dropped),
            };
            match result {
                Ok(()) => {
                    let bound = bound.expect("a change that works was prepared");
                    assert!(tree.created() - before <= u64::try_from(bound).expect("small"));
                    break;
                }
                Err(missing) => {
                    assert_eq!(bound, Err(missing));
                    assert!(dropped.is_empty() && tree.created() == before, "nothing has changed");
                    self.disk.fetch(missing);
                }
            }
        }
        dropped.into_iter().for_each(|item| self.let_go(id, item));
    }

    /// Rule 5.
    pub(crate) fn let_go(&mut self, id: LayerId, item: Dropped) {
        let dropped_tag = match item {
            Dropped::Data(mapping) => mapping.tag,
            Dropped::Node(pointer) => pointer.tag,
        };
        let owner = self.owner(dropped_tag);
        let layer = &self.layers[&id];
        let passed: u64 = if owner == id {
            u64::MAX
        } else {
            match layer.incoming.iter().find(|sweep| sweep.x == owner) {
                Some(sweep) => sweep.cursor.unwrap_or(u64::MAX),
                None => 0,
            }
        };
        match item {
            Dropped::Data(mapping) => {
                mapping
                    .within(LogicalBlock(0), LogicalBlock(passed))
                    .iter()
                    .for_each(|part| self.free_data(part));
            }
            Dropped::Node(pointer) if pointer.low < passed => self.free_node(pointer.address),
            Dropped::Node(_) => {}
        }
    }

    pub(crate) fn free_data(&mut self, part: &Mapping) {
        for block in part.address.0..part.address.0 + u64::from(part.length) {
            assert!(self.data.remove(&block).is_some(), "double free of data block {block}");
        }
    }

    pub(crate) fn free_node(&mut self, address: BlockAddress) {
        assert!(self.nodes.remove(&address.0).is_some(), "double free of node {address}");
        self.disk.free(address);
    }

    pub(crate) fn freeze(&mut self) {
        if !self.frozen.is_empty() {
            return;
        }
        let mut trees: Vec<&Tree<ExtentLeaf>> = Vec::new();
        for layer in self.layers.values() {
            trees.push(&layer.tree);
            // Nodes below a cursor must not get blocks any more: see `Tree::sweep`.
            trees.extend(layer.incoming.iter().map(|sweep| &sweep.tree));
        }
        let wanted = Tree::unassigned_of(trees.iter().copied());
        let (nodes, next) = (&mut self.nodes, &mut self.next_node);
        let mut allocate = |tag: Tag| {
            *next += 1;
            nodes.insert(*next, tag.line);
            BlockAddress(*next)
        };
        let placed: usize = trees.iter().map(|tree| tree.assign(&mut allocate)).sum();
        assert_eq!(placed, wanted);
        assert!(trees.iter().all(|tree| tree.unassigned() == 0));
        self.frozen = trees.into_iter().map(Tree::fork).collect();
    }

    pub(crate) fn write_frozen(&mut self) {
        for tree in std::mem::take(&mut self.frozen) {
            let root = self.disk.encode(&tree);
            assert_eq!(root, tree.root_pointer());
        }
        let written: Vec<_> = self.disk.pages.borrow().keys().copied().collect();
        written.iter().filter(|address| !self.nodes.contains_key(&address.0)).for_each(|address| {
            self.disk.free(*address);
        });
        for layer in self.layers.values_mut() {
            self.disk.settle(&mut layer.tree);
            layer.incoming.iter_mut().for_each(|sweep| self.disk.settle(&mut sweep.tree));
        }
    }

    pub(crate) fn reclaim(&mut self, pick: usize) {
        let mut actions: Vec<(LayerId, usize)> = Vec::new();
        for (id, layer) in &self.layers {
            let idle = !layer.named && layer.incoming.is_empty() && layer.freeing.is_none();
            let dependents = self.dependents(*id);
            match (layer.freeing, dependents.as_slice()) {
                (Some(_), _) => actions.push((*id, 0)),
                (None, []) if idle => actions.push((*id, 1)),
                (None, [one]) if idle && self.layers[one].freeing.is_none() => actions.push((*id, 2)),
                _ => {}
            }
            actions.extend((0..layer.incoming.len()).map(|index| (*id, 3 + index)));
        }
        if actions.is_empty() {
            return;
        }
        match actions[pick % actions.len()] {
            (id, 0) => self.step_free(id),
            (id, 1) => {
                self.homes();
                let layer = self.layers.get_mut(&id).expect("picked");
                layer.deps.clear();
                layer.freeing = Some(0);
            }
            (id, 2) => {
                self.homes();
                self.absorb(id);
            }
            (id, index) => self.step_absorb(id, index - 3),
        }
    }

    /// A sweep begins only when every node of the dying tree has a block.
    pub(crate) fn homes(&mut self) {
        self.write_frozen();
        self.freeze();
    }

    pub(crate) fn absorb(&mut self, x: LayerId) {
        let into = self.dependents(x)[0];
        let dying = self.layers.remove(&x).expect("picked");
        let layer = self.layers.get_mut(&into).expect("a dependent exists");
        layer.deps.remove(&x);
        layer.deps.extend(dying.deps);
        layer.incoming.push(Sweep { x, tree: dying.tree, cursor: Some(0) });
    }

    pub(crate) fn step_absorb(&mut self, id: LayerId, index: usize) {
        let layer = &self.layers[&id];
        let sweep = &layer.incoming[index];
        let x = sweep.x;
        if let Some(cursor) = sweep.cursor {
            let owned = |tag: Tag| self.owner(tag) == x;
            let step =
                self.disk.ask(|| Tree::sweep(&sweep.tree, Some(&layer.tree), &self.disk, cursor, &owned));
            step.data.iter().for_each(|part| self.free_data(part));
            step.nodes.iter().for_each(|node| self.free_node(node.address));
            self.layers.get_mut(&id).expect("picked").incoming[index].cursor = step.cursor;
        } else {
            self.layers.get_mut(&id).expect("picked").incoming.remove(index);
            self.alias.insert(x, id);
        }
    }

    pub(crate) fn step_free(&mut self, id: LayerId) {
        let layer = &self.layers[&id];
        let owned = |tag: Tag| self.owner(tag) == id;
        let cursor = layer.freeing.expect("picked");
        let step = self.disk.ask(|| Tree::sweep(&layer.tree, None, &self.disk, cursor, &owned));
        step.data.iter().for_each(|part| self.free_data(part));
        step.nodes.iter().for_each(|node| self.free_node(node.address));
        match step.cursor {
            Some(cursor) => self.layers.get_mut(&id).expect("picked").freeing = Some(cursor),
            None => drop(self.layers.remove(&id)),
        }
    }

    pub(crate) fn thin(&mut self, pick: u8) {
        let waits = |id: &LayerId, layer: &Layer| {
            !layer.named
                && layer.freeing.is_none()
                && layer.incoming.is_empty()
                && self.dependents(*id).len() >= 2
        };
        let waiting: Vec<_> =
            self.layers.iter().filter(|(id, layer)| waits(id, layer)).map(|(id, _)| *id).collect();
        if waiting.is_empty() {
            return;
        }
        let id = waiting[usize::from(pick) % waiting.len()];
        let mut layer = self.layers.remove(&id).expect("picked");
        let dependents: Vec<LayerId> = self.dependents(id);
        let trees: Vec<_> = dependents.iter().map(|id| &self.layers[id].tree).collect();
        let is_own = |tag: Tag| self.owner(tag) == id;
        let thinning = Thinning { dependents: &trees, writer: tag(id), is_own: &is_own };
        let mut dropped = Vec::new();
        let mut cursor = Some(0);
        while let Some(at) = cursor {
            cursor = self.disk.ask(|| layer.tree.thin(&thinning, &self.disk, at, &mut dropped));
        }
        layer.thinned = true;
        self.layers.insert(id, layer);
        for item in dropped {
            match item {
                Dropped::Data(part) => self.free_data(&part),
                Dropped::Node(pointer) => self.free_node(pointer.address),
            }
        }
    }

    pub(crate) fn diff(&mut self, pick: u8, other: u8) {
        let whole = |layer: &Layer| layer.freeing.is_none();
        let (Some(left), Some(right)) = (self.pick(pick, whole), self.pick(other, whole)) else { return };
        let (left, right) = (&self.layers[&left], &self.layers[&right]);
        let (a, b) = (map_of(&self.disk, &left.tree), map_of(&self.disk, &right.tree));
        let keys: BTreeSet<u64> = a.keys().chain(b.keys()).copied().collect();
        let expected: Vec<u64> = keys.into_iter().filter(|key| a.get(key) != b.get(key)).collect();
        let (mut from, mut found) = (LogicalBlock(0), Vec::new());
        loop {
            match self.disk.ask(|| Tree::diff(&left.tree, &right.tree, &self.disk, from, 3)) {
                DiffStep::End => break,
                DiffStep::Same { until } => from = until,
                DiffStep::Differs(difference) => {
                    for part in [difference.left, difference.right].into_iter().flatten() {
                        assert_eq!((part.start, part.end()), (difference.start, difference.end));
                    }
                    found.extend(difference.start.0..difference.end.0);
                    from = difference.end;
                }
            }
        }
        assert_eq!(found, expected);
    }

    pub(crate) fn check(&self) {
        let mut reach: BTreeMap<LayerId, BTreeSet<u64>> = BTreeMap::new();
        let mut nodes: BTreeMap<LayerId, BTreeSet<u64>> = BTreeMap::new();
        for (id, layer) in self.layers.iter().filter(|(_, layer)| layer.freeing.is_none()) {
            let map = map_of(&self.disk, &layer.tree);
            if !layer.thinned {
                assert_eq!(map, layer.expected, "content of layer {id}");
                self.look_everywhere(layer);
            }
            let faults = self.disk.ask(|| layer.tree.check(&self.disk));
            assert!(faults.is_empty(), "{faults:?}");
            assert!(map.values().all(|block| self.data.contains_key(block)), "layer {id} maps a freed block");
            let reached = nodes_of(&self.disk, &layer.tree);
            for node in &reached {
                assert!(self.nodes.contains_key(node), "layer {id} reaches the freed node {node}");
            }
            reach.insert(*id, map.values().copied().collect());
            nodes.insert(*id, reached);
        }
        for (allocated, reached) in [(&self.data, &reach), (&self.nodes, &nodes)] {
            for (block, by) in allocated {
                let owner = self.owner(tag(*by));
                let Some(layer) = self.layers.get(&owner) else {
                    let incoming = |layer: &Layer| layer.incoming.iter().any(|sweep| sweep.x == owner);
                    assert!(self.layers.values().any(incoming), "block {block} of {by} has no owner");
                    continue;
                };
                let kept = layer.freeing.is_some() || reached[&owner].contains(block);
                assert!(kept, "block {block} of layer {owner} leaked");
            }
        }
    }

    pub(crate) fn look_everywhere(&self, layer: &Layer) {
        for key in 0..KEYS + 32 {
            let at = LogicalBlock(key);
            match self.disk.ask(|| layer.tree.lookup(&self.disk, at)) {
                Found::Mapped(mapping) => {
                    assert_eq!(layer.expected.get(&key), Some(&mapping.address_of(at).0));
                }
                Found::Hole { start, end } => {
                    let before = layer.expected.range(..key).next_back().map_or(0, |(key, _)| key + 1);
                    let after = layer.expected.range(key..).next().map_or(u64::MAX, |(key, _)| *key);
                    assert_eq!((start.0, end.0), (before, after));
                    let next = self.disk.ask(|| layer.tree.next(&self.disk, at));
                    assert_eq!(next.map(|next| next.start), (after != u64::MAX).then_some(end));
                }
            }
        }
    }

    pub(crate) fn delete_everything(&mut self) {
        self.layers.values_mut().for_each(|layer| (layer.named, layer.sealed) = (false, true));
        for round in 0..100_000 {
            if self.layers.is_empty() {
                break;
            }
            self.reclaim(round);
        }
        self.write_frozen();
        assert!(self.layers.is_empty(), "every layer can be reclaimed");
        assert!(self.data.is_empty(), "data left: {:?}", self.data);
        assert!(self.nodes.is_empty(), "nodes left: {:?}", self.nodes);
    }
}

pub(crate) fn map_of(disk: &Disk<ExtentLeaf>, tree: &Tree<ExtentLeaf>) -> BTreeMap<u64, u64> {
    let mut map = BTreeMap::new();
    let mut walk = Walk::new(tree);
    while let Some(visited) = disk.ask(|| walk.enter(disk)) {
        for mapping in visited.node.leaf().into_iter().flat_map(ExtentLeaf::mappings) {
            (0..u64::from(mapping.length)).for_each(|index| {
                map.insert(mapping.start.0 + index, mapping.address.0 + index);
            });
        }
    }
    map
}

pub(crate) fn nodes_of(disk: &Disk<ExtentLeaf>, tree: &Tree<ExtentLeaf>) -> BTreeSet<u64> {
    let mut nodes = BTreeSet::new();
    let mut walk = Walk::new(tree);
    while let Some(visited) = disk.ask(|| walk.enter(disk)) {
        nodes.extend(visited.node.address().map(|address| address.0));
    }
    nodes
}
