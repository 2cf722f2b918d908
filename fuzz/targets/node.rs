//! Whatever a page holds, it is a node that the tree can work with and that comes back from its own entries, or damage.
#![no_main]

use arbitrary::Arbitrary;
use cow_tree::units::{BLOCK_BYTES, BlockAddress, Generation, LogicalBlock, PoolId, Tag};
use cow_tree::{Entries, ExtentLeaf, Leaf, Missing, Node, Nodes, Pointer, RecordLeaf, Tree, Walk};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

type Page = [u8; BLOCK_BYTES];

const POOL: PoolId = PoolId([7; 16]);
const TAG: Tag = Tag { line: 3, sequence: 4 };
const ADDRESS: BlockAddress = BlockAddress(0x99);
const GENERATION: Generation = Generation(2);
const CHECKSUM_AT: usize = 4;
const BODY_AT: usize = 64;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    /// Two kinds of trees.
    records: bool,
    level: u8,
    count: u16,
    low: u64,
    /// A header the parent agrees with, and the right checksum; else the bytes are the page.
    sealed: bool,
    ask: u64,
    bytes: &'a [u8],
}

impl Input<'_> {
    fn page(&self) -> Page {
        let mut page = [0; BLOCK_BYTES];
        let from = if self.sealed { BODY_AT } else { 0 };
        let count = self.bytes.len().min(BLOCK_BYTES - from);
        page[from..from + count].copy_from_slice(&self.bytes[..count]);
        if self.sealed {
            self.seal(&mut page);
        }
        page
    }

    fn seal(&self, page: &mut Page) {
        page[..4].copy_from_slice(b"OSTN");
        (page[8], page[9], page[10]) = (if self.records { 2 } else { 1 }, self.level, 1);
        page[12..14].copy_from_slice(&self.count.to_le_bytes());
        page[16..32].copy_from_slice(&POOL.0);
        page[32..40].copy_from_slice(&ADDRESS.0.to_le_bytes());
        page[40..48].copy_from_slice(&GENERATION.0.to_le_bytes());
        page[48..52].copy_from_slice(&TAG.line.to_le_bytes());
        page[52..56].copy_from_slice(&TAG.sequence.to_le_bytes());
        page[56..64].copy_from_slice(&self.low.to_le_bytes());
        let checksum = crc32c::crc32c(page);
        page[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    fn pointer(&self, page: &Page) -> Pointer {
        let checksum = u32::from_le_bytes(page[CHECKSUM_AT..CHECKSUM_AT + 4].try_into().expect("four bytes"));
        Pointer { address: ADDRESS, tag: TAG, checksum, low: self.low, level: self.level }
    }
}

/// The one node that is resident.
struct One<L>(Pointer, Arc<Node<L>>);

impl<L> Nodes<L> for One<L> {
    fn get(&self, pointer: &Pointer) -> Option<Arc<Node<L>>> {
        (*pointer == self.0).then(|| self.1.clone())
    }
}

/// Nothing is resident: trees that are all in memory never ask.
struct Nowhere;

impl<L> Nodes<L> for Nowhere {
    fn get(&self, _pointer: &Pointer) -> Option<Arc<Node<L>>> {
        None
    }
}

fn decode<L: Leaf + Entries>(page: &Page, pointer: &Pointer) -> Option<One<L>> {
    let node = Node::<L>::decode(page, pointer, POOL).ok()?;
    assert!(node.count() > 0 && node.low() == pointer.low && node.level() == pointer.level);
    let nodes = One(*pointer, Arc::new(node));
    let mut walk = Walk::new(&Tree::<L>::stored(Some(*pointer)));
    let visited = walk.enter(&nodes).expect("the node is resident").expect("a root");
    assert!(pointer.level > 0 || visited.faults.is_empty(), "a whole leaf is in order: {:?}", visited.faults);
    Some(nodes)
}

fn extents(page: &Page, pointer: &Pointer, ask: u64) {
    let Some(nodes) = decode::<ExtentLeaf>(page, pointer) else { return };
    let tree = Tree::<ExtentLeaf>::stored(Some(*pointer));
    let at = LogicalBlock(ask);
    let answers = [
        tree.lookup(&nodes, at).map(drop),
        tree.next(&nodes, at).map(drop),
    ];
    assert!(pointer.level > 0 || answers.iter().all(Result::is_ok), "a leaf is all there is");
    let Some(leaf) = nodes.1.leaf() else { return };
    let mut again = Tree::empty();
    for mapping in leaf.mappings() {
        let inserted: Result<(), Missing> = again.insert(&Nowhere, mapping, TAG, &mut Vec::new());
        inserted.expect("all in memory");
    }
    compare(&again, page, leaf.count());
}

fn records(page: &Page, pointer: &Pointer, ask: u64) {
    let Some(nodes) = decode::<RecordLeaf>(page, pointer) else { return };
    let tree = Tree::<RecordLeaf>::stored(Some(*pointer));
    let answers = [tree.get(&nodes, ask).map(drop), tree.next(&nodes, ask).map(drop)];
    assert!(pointer.level > 0 || answers.iter().all(Result::is_ok), "a leaf is all there is");
    let Some(leaf) = nodes.1.leaf() else { return };
    let mut again = Tree::empty();
    for record in leaf.records() {
        again.put(&Nowhere, record.key, &record.bytes, TAG, &mut Vec::new()).expect("all in memory");
    }
    compare(&again, page, leaf.count());
}

/// A tree of the same entries makes the same page, unless entries continue each other and were joined.
fn compare<L: Leaf>(tree: &Tree<L>, page: &Page, count: usize) {
    assert_eq!(tree.assign(&mut |_| ADDRESS), 1, "what fits one page is one leaf");
    let root = tree.encode(POOL, GENERATION, &mut |_, made| {
        let joined = usize::from(u16::from_le_bytes([made[12], made[13]]));
        assert!(joined <= count && (joined < count || made == page), "the same entries make the same page");
    });
    assert!(root.is_some(), "a page was made");
}

fuzz_target!(|input: Input| {
    let page = input.page();
    let pointer = input.pointer(&page);
    if input.records {
        records(&page, &pointer, input.ask);
    } else {
        extents(&page, &pointer, input.ask);
    }
});
