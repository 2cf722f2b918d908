//! The map of blocks against a plain one, at the fan-out of a page: joins, far keys, long ranges, forks, visits.

mod disk;

use cow_tree::units::{BlockAddress, LogicalBlock, Tag};
use cow_tree::{Dropped, ExtentLeaf, Found, Limits, Mapping, Node, Nodes, Pinned, Pointer, Tree, Walk};
use disk::Disk;
use proptest::prelude::{Just, Strategy, any, prop, proptest};
use proptest::test_runner::Config;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

const WRITER: Tag = Tag { line: 1, sequence: 1 };

fn mapping(start: u64, length: u32, address: u64) -> Mapping {
    let (start, address) = (LogicalBlock(start), BlockAddress(address));
    Mapping { start, length, address, tag: WRITER, checksummed: false }
}

fn place(disk: &Disk<ExtentLeaf>, tree: &mut Tree<ExtentLeaf>, next: &mut u64) {
    tree.assign(&mut |_| {
        *next += 1;
        BlockAddress(*next)
    });
    disk.encode(tree);
    disk.settle(tree);
}

fn extents(disk: &Disk<ExtentLeaf>, tree: &Tree<ExtentLeaf>) -> Vec<Mapping> {
    let mut walk = Walk::new(tree);
    let mut all = Vec::new();
    while let Some(visited) = disk.ask(|| walk.enter(disk)) {
        all.extend(visited.node.leaf().into_iter().flat_map(ExtentLeaf::mappings));
    }
    all
}

/// All of `0..count` once, in an order that looks random.
fn shuffled(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |index| (index * 2_654_435_761 + 12_345) % count)
}

#[test]
fn blocks_written_in_random_order_at_their_identity_place_end_as_few_extents() {
    let disk = Disk::new();
    let mut tree = Tree::empty();
    let mut dropped = Vec::new();
    for block in shuffled(8192) {
        tree.insert(&disk, mapping(block, 1, 1_000_000 + block), WRITER, &mut dropped)
            .expect("all in memory");
    }
    assert!(dropped.is_empty());
    assert!(extents(&disk, &tree).len() <= 4, "{} extents", extents(&disk, &tree).len());
    assert_eq!(tree.height(), 1, "thin leaves were merged");
}

#[test]
fn a_join_needs_the_same_owner_and_flags_and_the_next_block() {
    let disk = Disk::new();
    let mut tree = Tree::empty();
    let mut dropped = Vec::new();
    let other = Tag { line: 1, sequence: 2 };
    let pieces = [
        mapping(0, 1, 100),
        Mapping { tag: other, ..mapping(1, 1, 101) },
        Mapping { checksummed: true, ..mapping(2, 1, 102) },
        mapping(3, 1, 103),
        mapping(4, 1, 105),
    ];
    pieces.iter().for_each(|piece| {
        tree.insert(&disk, *piece, WRITER, &mut dropped).expect("all in memory");
    });
    assert_eq!(extents(&disk, &tree), pieces);
}

#[test]
fn a_mapping_written_again_drops_nothing() {
    let disk = Disk::new();
    let mut tree = Tree::empty();
    let mut dropped = Vec::new();
    tree.insert(&disk, mapping(10, 20, 500), WRITER, &mut dropped).expect("all in memory");
    tree.insert(&disk, Mapping { checksummed: true, ..mapping(12, 3, 502) }, WRITER, &mut dropped)
        .expect("all in memory");
    assert!(dropped.is_empty(), "the blocks are still in use");
    assert_eq!(extents(&disk, &tree).len(), 3);
}

#[test]
fn a_lookup_visits_as_many_nodes_in_the_thousandth_clone_as_in_the_first() {
    let (disk, mut next) = (Disk::new(), 1 << 30);
    let mut tree = Tree::empty_with(Limits::small(8));
    let mut dropped = Vec::new();
    for block in 0..400 {
        tree.insert(&disk, mapping(block, 1, 1000 + 2 * block), WRITER, &mut dropped).expect("all in memory");
    }
    place(&disk, &mut tree, &mut next);
    let visits = |tree: &Tree<ExtentLeaf>| disk.ask(|| tree.lookup_counted(&disk, LogicalBlock(200))).1;
    let first = visits(&tree);
    for depth in 0..1000u32 {
        tree = tree.fork();
        let tag = Tag { line: 1, sequence: depth + 2 };
        let block = u64::from(depth) % 400;
        let write = Mapping { tag, ..mapping(block, 1, 10_000 + 2 * u64::from(depth)) };
        disk.ask(|| tree.insert(&disk, write, tag, &mut dropped));
    }
    assert_eq!(visits(&tree), first);
    assert!(first >= 3);
}

#[test]
fn a_fork_sees_nothing_of_what_comes_after_it() {
    let disk = Disk::new();
    let mut tree = Tree::empty_with(Limits::small(3));
    let mut dropped = Vec::new();
    for block in 0..100 {
        tree.insert(&disk, mapping(block * 2, 1, 100 + block), WRITER, &mut dropped).expect("all in memory");
    }
    let fork = tree.fork();
    assert!(fork.is_same(&tree));
    let before = extents(&disk, &fork);
    tree.remove(&disk, LogicalBlock(10)..LogicalBlock(150), WRITER, &mut dropped).expect("all in memory");
    assert_eq!(extents(&disk, &fork), before);
    assert_ne!(extents(&disk, &tree), before);
}

#[test]
fn keys_too_far_apart_for_one_page_never_share_a_leaf() {
    let (disk, mut next) = (Disk::new(), 1 << 30);
    let mut tree = Tree::empty();
    let mut dropped = Vec::new();
    let starts = [0, 1 << 32, (1 << 32) - 1, 1 << 40, (1 << 40) + 7, 3, 1 << 33];
    for (index, start) in (0..).zip(starts) {
        tree.insert(&disk, mapping(start, 1, 1000 + 2 * index), WRITER, &mut dropped).expect("all in memory");
    }
    place(&disk, &mut tree, &mut next);
    let mut sorted = starts;
    sorted.sort_unstable();
    let found: Vec<u64> = extents(&disk, &tree).iter().map(|mapping| mapping.start.0).collect();
    assert_eq!(found, sorted);
}

#[test]
fn an_assigned_node_that_is_replaced_is_reported_before_its_page_is_made() {
    let disk = Disk::new();
    let mut tree = Tree::empty();
    let mut dropped = Vec::new();
    tree.insert(&disk, mapping(5, 1, 100), WRITER, &mut dropped).expect("all in memory");
    tree.assign(&mut |_| BlockAddress(77));
    let frozen = tree.fork();
    tree.insert(&disk, mapping(9, 1, 200), WRITER, &mut dropped).expect("all in memory");
    let [Dropped::Node(pointer)] = dropped[..] else { panic!("one node was replaced: {dropped:?}") };
    assert_eq!((pointer.address, pointer.low, pointer.tag), (BlockAddress(77), 5, WRITER));
    assert_eq!(disk.encode(&frozen).map(|root| root.address), Some(BlockAddress(77)));
    assert_eq!(extents(&disk, &Tree::stored(frozen.root_pointer())), [mapping(5, 1, 100)]);
    assert_eq!((tree.unassigned(), frozen.unassigned()), (1, 0));
}

#[test]
fn a_node_with_a_block_is_never_changed_in_place() {
    let disk = Disk::new();
    let mut tree = Tree::empty();
    let mut dropped = Vec::new();
    for (address, block) in [(77, 5), (78, 6)] {
        tree.insert(&disk, mapping(block, 1, 100 * block), WRITER, &mut dropped).expect("all in memory");
        tree.assign(&mut |_| BlockAddress(address));
    }
    assert!(matches!(dropped[..], [Dropped::Node(node)] if node.address == BlockAddress(77)));
    disk.encode(&tree);
    tree.insert(&disk, mapping(7, 1, 700), WRITER, &mut dropped).expect("all in memory");
    assert!(matches!(dropped[..], [_, Dropped::Node(node)] if node.address == BlockAddress(78)));
}

#[test]
fn a_node_of_another_writer_is_copied_even_if_nobody_else_links_to_it() {
    let disk = Disk::new();
    let mut tree = Tree::empty_with(Limits::small(2));
    let (mut dropped, mut tags) = (Vec::new(), Vec::new());
    for block in [0, 10, 20, 30] {
        tree.insert(&disk, mapping(block, 1, 100 + block), WRITER, &mut dropped).expect("all in memory");
    }
    let second = Tag { line: 1, sequence: 2 };
    tree.remove(&disk, LogicalBlock(30)..LogicalBlock(31), second, &mut dropped).expect("all in memory");
    tree.assign(&mut |tag| {
        tags.push(tag);
        BlockAddress(1 << 30 | u64::try_from(tags.len()).expect("small"))
    });
    assert!(tags.contains(&WRITER) && tags.last() == Some(&second), "{tags:?}");
    assert!(
        tags.iter().filter(|tag| **tag == second).count() >= 2,
        "the way to the leaf is the second writer's"
    );
}

#[test]
fn a_settled_node_keeps_no_child_in_memory_even_if_a_fork_shares_it() {
    let disk = Disk::new();
    let mut tree = Tree::empty_with(Limits::small(4));
    let mut dropped = Vec::new();
    for block in 0..20 {
        tree.insert(&disk, mapping(block * 2, 1, 100 + block), WRITER, &mut dropped).expect("all in memory");
    }
    let mut next = 1 << 30;
    tree.assign(&mut |_| {
        next += 1;
        BlockAddress(next)
    });
    disk.encode(&tree);
    let fork = tree.fork();
    let handed = RefCell::new(Vec::new());
    tree.settle(&mut |pointer, node| handed.borrow_mut().push((pointer, node)));
    let above_leaves = |pointer: &Pointer| {
        let found = handed.borrow().iter().find(|(known, _)| known == pointer).map(|(_, node)| node.clone());
        found.filter(|node| node.level() > 0)
    };
    let missing = tree.lookup(&Lookup(above_leaves), LogicalBlock(7)).expect_err("the leaf is not linked");
    assert_eq!(missing.0.level, 0);
    assert!(matches!(fork.lookup(&Lookup(above_leaves), LogicalBlock(8)), Ok(Found::Mapped(_))));
}

struct Lookup<F>(F);

impl<F: Fn(&Pointer) -> Option<Arc<Node<ExtentLeaf>>>> Nodes<ExtentLeaf> for Lookup<F> {
    fn get(&self, pointer: &Pointer) -> Option<Arc<Node<ExtentLeaf>>> {
        (self.0)(pointer)
    }
}

#[test]
fn two_forks_share_the_count_of_their_new_nodes() {
    let disk = Disk::new();
    let mut tree = Tree::empty_with(Limits::small(2));
    let mut dropped = Vec::new();
    for block in 0..20 {
        tree.insert(&disk, mapping(block * 2, 1, 100 + block), WRITER, &mut dropped).expect("all in memory");
    }
    let fork = tree.fork();
    assert_eq!(Tree::unassigned_of([&tree, &fork]), tree.unassigned());
}

#[test]
fn what_was_prepared_through_a_pin_stays_resident() {
    let (disk, mut next) = (Disk::new(), 1 << 30);
    let mut tree = Tree::empty_with(Limits::small(2));
    let mut dropped = Vec::new();
    for block in 0..20 {
        tree.insert(&disk, mapping(block * 2, 1, 100 + block), WRITER, &mut dropped).expect("all in memory");
    }
    place(&disk, &mut tree, &mut next);
    disk.evict_all();
    let at = LogicalBlock(7)..LogicalBlock(13);
    disk.ask(|| tree.prepare(&disk, at.clone()));
    let pinned = Pinned::new(&disk);
    tree.prepare(&pinned, at.clone()).expect("just read");
    disk.evict_all();
    tree.remove(&pinned, at, WRITER, &mut dropped).expect("pinned");
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u64, u32),
    Remove(u64, u64),
    Checkpoint,
    Evict,
}

fn op(keys: u64) -> impl Strategy<Value = Op> {
    proptest::prop_oneof![
        30 => (0..keys, 1u32..4).prop_map(|(start, length)| Op::Insert(start, length)),
        3 => (0..keys, 1u32..500).prop_map(|(start, length)| Op::Insert(start, length)),
        10 => (0..keys, 1u64..6).prop_map(|(start, length)| Op::Remove(start, length)),
        2 => (0..keys, 1u64..1000).prop_map(|(start, length)| Op::Remove(start, length)),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Evict),
    ]
}

fn run(limits: Limits, identity: bool, stride: u64, ops: &[Op]) {
    let (disk, mut next, mut fresh) = (Disk::new(), 1 << 36, 1 << 20);
    let mut tree = Tree::empty_with(limits);
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    for op in ops {
        let mut dropped = Vec::new();
        let mut gone: Vec<(u64, u64)> = Vec::new();
        match *op {
            Op::Insert(start, length) => {
                let start = start * stride;
                let address = if identity { (1 << 20) + start } else { fresh };
                fresh += u64::from(length) + 1;
                let new = mapping(start, length, address);
                disk.ask(|| tree.insert(&disk, new, WRITER, &mut dropped));
                for index in 0..u64::from(length) {
                    let old = model.insert(start + index, address + index);
                    let old = old.filter(|old| *old != address + index);
                    gone.extend(old.map(|old| (start + index, old)));
                }
            }
            Op::Remove(start, length) => {
                let (start, end) = (start * stride, start * stride + length * stride);
                let range = LogicalBlock(start)..LogicalBlock(end);
                disk.ask(|| tree.remove(&disk, range.clone(), WRITER, &mut dropped));
                let keys: Vec<u64> = model.range(start..end).map(|(key, _)| *key).collect();
                gone.extend(keys.iter().map(|key| (*key, model.remove(key).expect("just listed"))));
            }
            Op::Checkpoint => place(&disk, &mut tree, &mut next),
            Op::Evict => disk.evict_all(),
        }
        let mut reported: Vec<(u64, u64)> = Vec::new();
        for item in &dropped {
            if let Dropped::Data(part) = item {
                let blocks =
                    (0..u64::from(part.length)).map(|index| (part.start.0 + index, part.address.0 + index));
                reported.extend(blocks);
            }
        }
        reported.sort_unstable();
        assert_eq!(reported, gone);
    }
    let mut found = BTreeMap::new();
    for extent in extents(&disk, &tree) {
        (0..u64::from(extent.length)).for_each(|index| {
            found.insert(extent.start.0 + index, extent.address.0 + index);
        });
    }
    assert_eq!(found, model);
    assert_eq!(disk.ask(|| tree.check(&disk)), []);
    for key in model.keys().take(200).flat_map(|key| [key.saturating_sub(1), *key, key + 1]) {
        match disk.ask(|| tree.lookup(&disk, LogicalBlock(key))) {
            Found::Mapped(found) => {
                assert_eq!(model.get(&key), Some(&found.address_of(LogicalBlock(key)).0));
            }
            Found::Hole { .. } => assert!(!model.contains_key(&key)),
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 48, ..Config::default() })]

    #[test]
    fn the_map_is_a_map_at_the_fan_out_of_a_page(
        identity in any::<bool>(),
        ops in prop::collection::vec(op(3000), 1..1500),
    ) {
        run(Limits::default(), identity, 1, &ops);
    }

    #[test]
    fn the_map_is_a_map_when_keys_are_far_apart(
        ops in prop::collection::vec(op(3000), 1..300),
    ) {
        run(Limits::small(8), false, 1 << 31, &ops);
    }

    #[test]
    fn the_map_is_a_map_at_tiny_fan_out(
        fan_out in 2usize..9,
        identity in any::<bool>(),
        ops in prop::collection::vec(op(200), 1..600),
    ) {
        run(Limits::small(fan_out), identity, 1, &ops);
    }
}
