//! Lookups with every node resident: of the bare tree, and through a channel at lineage depths 1 and 1,000. A clone's
//! tree is complete, so depth must not show.

mod stand;

use cow_tree::units::{BlockAddress, LogicalBlock, Tag};
use criterion::{Criterion, criterion_group, criterion_main};
use stand::{BLOCK, IMAGE_BYTES, MIB, Stand, n, scattered};
use std::hint::black_box;
use thinpool::{Attachment, Command};

const BLOCKS: u64 = IMAGE_BYTES / BLOCK;
const DEPTH: u64 = 1000;

struct NothingStored;

impl cow_tree::Nodes<cow_tree::ExtentLeaf> for NothingStored {
    fn get(
        &self,
        _pointer: &cow_tree::Pointer,
    ) -> Option<std::sync::Arc<cow_tree::Node<cow_tree::ExtentLeaf>>> {
        None
    }
}

/// Every second block mapped, none beside another.
fn tree(extents: u64) -> cow_tree::Tree<cow_tree::ExtentLeaf> {
    let mut tree = cow_tree::Tree::empty();
    let tag = Tag { line: 1, sequence: 1 };
    for block in 0..extents {
        let mapping = cow_tree::Mapping {
            start: LogicalBlock(block * 2),
            length: 1,
            address: BlockAddress(1000 + block * 2),
            tag,
            checksummed: false,
        };
        tree.insert(&NothingStored, mapping, tag, &mut Vec::new()).expect("every node is in memory");
    }
    tree
}

fn bare(criterion: &mut Criterion) {
    // The processor's caches hold the smaller one.
    for extents in [16_384, 524_288] {
        let tree = tree(extents);
        let mut index = 0;
        criterion.bench_function(&format!("lookup/tree of {extents} extents"), |bencher| {
            bencher.iter(|| {
                index += 1;
                let at = LogicalBlock(scattered(index, extents * 2));
                black_box(tree.lookup(&NothingStored, at).expect("every node is in memory"))
            });
        });
    }
}

/// A volume that is the last of `depth` clones, each of a snapshot of the one before, each with a write of its own.
fn lineage(stand: &mut Stand, depth: u64) -> Attachment {
    let mut source = "golden@v1".to_owned();
    for generation in 1..=depth {
        let name = format!("line-{generation}");
        let clone = stand.clone(&source, &name);
        stand.write(&clone, scattered(generation, BLOCKS));
        if generation == depth {
            stand.run(Command::Checkpoint);
            return clone;
        }
        source = format!("{name}@s");
        stand.run(Command::Snapshot { names: vec![n(&source)] });
    }
    unreachable!("a lineage has a last volume")
}

fn through_a_channel(criterion: &mut Criterion) {
    for depth in [1, DEPTH] {
        let mut stand = Stand::new(1024 * MIB);
        stand.golden();
        let volume = lineage(&mut stand, depth);
        (0..BLOCKS).for_each(|block| stand.look_up(&volume, block));
        let mut index = 0;
        criterion.bench_function(&format!("lookup/channel, lineage depth {depth}"), |bencher| {
            bencher.iter(|| {
                index += 1;
                stand.look_up(&volume, scattered(index, BLOCKS));
            });
        });
    }
}

criterion_group!(benches, bare, through_a_channel);
criterion_main!(benches);
