//! Trees of records against a plain map, and amendments between blocks and pages.

mod disk;

use cow_tree::units::{BlockAddress, Tag};
use cow_tree::{Dropped, Limits, RECORD_BYTES_MAX, RecordLeaf, Tree};
use disk::Disk;
use proptest::prelude::{Just, Strategy, prop, proptest};
use proptest::test_runner::Config;
use std::collections::{BTreeMap, BTreeSet};

const POOL_TAG: Tag = Tag { line: 0, sequence: 0 };

#[derive(Debug, Clone)]
enum Op {
    Put(u64, usize),
    Remove(u64),
    Checkpoint,
    Evict,
}

fn op() -> impl Strategy<Value = Op> {
    proptest::prop_oneof![
        12 => (0u64..300, 0usize..64).prop_map(|(key, length)| Op::Put(key, length)),
        4 => (0u64..300, 0..=RECORD_BYTES_MAX).prop_map(|(key, length)| Op::Put(key, length)),
        8 => (0u64..300).prop_map(Op::Remove),
        1 => Just(Op::Checkpoint),
        1 => Just(Op::Evict),
    ]
}

fn checkpoint(
    disk: &Disk<RecordLeaf>,
    tree: &mut Tree<RecordLeaf>,
    next: &mut u64,
    live: &mut BTreeSet<BlockAddress>,
) {
    tree.assign(&mut |_| {
        *next += 1;
        live.insert(BlockAddress(*next));
        BlockAddress(*next)
    });
    disk.encode(tree);
    disk.settle(tree);
}

fn forget(disk: &Disk<RecordLeaf>, live: &mut BTreeSet<BlockAddress>, dropped: Vec<Dropped>) {
    for item in dropped {
        let Dropped::Node(pointer) = item else { panic!("records have no data blocks") };
        assert!(live.remove(&pointer.address), "a node is dropped once");
        disk.free(pointer.address);
    }
}

fn run(limits: Limits, ops: &[Op]) {
    let (disk, mut next) = (Disk::new(), 0);
    let mut tree = Tree::empty_with(limits);
    let mut model: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut live = BTreeSet::new();
    for (index, op) in ops.iter().enumerate() {
        let mut dropped = Vec::new();
        match *op {
            Op::Put(key, length) => {
                let bytes = vec![u8::try_from(index % 251).expect("small"); length];
                disk.ask(|| tree.put(&disk, key, &bytes, POOL_TAG, &mut dropped));
                model.insert(key, bytes);
            }
            Op::Remove(key) => {
                disk.ask(|| tree.remove(&disk, key, POOL_TAG, &mut dropped));
                model.remove(&key);
            }
            Op::Checkpoint => checkpoint(&disk, &mut tree, &mut next, &mut live),
            Op::Evict => disk.evict_all(),
        }
        forget(&disk, &mut live, dropped);
    }
    checkpoint(&disk, &mut tree, &mut next, &mut live);
    assert_eq!(disk.ask(|| tree.check(&disk)), []);
    let (mut found, mut from) = (BTreeMap::new(), 0);
    while let Some((key, bytes)) = disk.ask(|| tree.next(&disk, from)) {
        assert_eq!(disk.ask(|| tree.get(&disk, key)).as_ref(), Some(&bytes));
        found.insert(key, bytes);
        from = key + 1;
    }
    assert_eq!(found, model);
    let mut dropped = Vec::new();
    for key in model.keys() {
        disk.ask(|| tree.remove(&disk, *key, POOL_TAG, &mut dropped));
    }
    forget(&disk, &mut live, dropped);
    assert!(tree.is_empty() && live.is_empty(), "an empty tree has no root and no blocks");
}

#[test]
fn what_a_checkpoint_learns_late_is_amended_into_nodes_that_have_their_blocks() {
    let disk = Disk::new();
    let mut tree = Tree::empty_with(Limits::small(3));
    let mut dropped = Vec::new();
    for key in 0..40 {
        tree.put(&disk, key, &[0; 8], POOL_TAG, &mut dropped).expect("all in memory");
    }
    let mut next = 0;
    tree.assign(&mut |_| {
        next += 1;
        BlockAddress(next)
    });
    for key in 0..40u64 {
        tree.amend(key, &mut |bytes| bytes.copy_from_slice(&key.to_le_bytes()));
    }
    let root = disk.encode(&tree);
    let stored = Tree::<RecordLeaf>::stored(root);
    for key in 0..40u64 {
        assert_eq!(disk.ask(|| stored.get(&disk, key)), Some(key.to_le_bytes().to_vec()));
    }
    assert!(dropped.is_empty());
}

#[test]
fn a_record_of_the_greatest_length_fits_three_times() {
    let disk = Disk::new();
    let mut tree = Tree::empty();
    let mut dropped = Vec::new();
    for key in 0..3 {
        tree.put(&disk, key, &[1; RECORD_BYTES_MAX], POOL_TAG, &mut dropped).expect("all in memory");
    }
    assert_eq!(tree.height(), 1);
    tree.put(&disk, 3, &[1; RECORD_BYTES_MAX], POOL_TAG, &mut dropped).expect("all in memory");
    assert_eq!(tree.height(), 2);
}

#[test]
#[should_panic(expected = "at most 1024 bytes")]
fn a_longer_record_is_refused() {
    let mut tree = Tree::empty();
    let put = tree.put(&Disk::new(), 3, &[1; RECORD_BYTES_MAX + 1], POOL_TAG, &mut Vec::new());
    put.expect("never reached");
}

proptest! {
    #![proptest_config(Config { cases: 100, ..Config::default() })]

    #[test]
    fn records_are_a_map_at_the_size_of_a_page(ops in prop::collection::vec(op(), 1..600)) {
        run(Limits::default(), &ops);
    }

    #[test]
    fn records_are_a_map_at_tiny_fan_out(
        fan_out in 2usize..9,
        ops in prop::collection::vec(op(), 1..300),
    ) {
        run(Limits::small(fan_out), &ops);
    }
}
