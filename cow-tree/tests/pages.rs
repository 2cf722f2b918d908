//! Pages byte for byte, and pages that are not what their parent says.

mod disk;

use cow_tree::units::{BlockAddress, LogicalBlock, Tag};
use cow_tree::{Damage, ExtentLeaf, Leaf, Limits, Mapping, Node, Pointer, RecordLeaf, Tree};
use disk::{Disk, POOL};
use proptest::prelude::{any, prop, proptest};

const WRITER: Tag = Tag { line: 0x0102_0304, sequence: 0x0506_0708 };

fn page_of<L: Leaf>(tree: &Tree<L>) -> (Pointer, Vec<u8>) {
    let disk = Disk::new();
    let mut next = 0x99;
    tree.assign(&mut |_| {
        next += 1;
        BlockAddress(next)
    });
    let root = disk.encode(tree).expect("the tree is not empty");
    let page = disk.pages.borrow()[&root.address].to_vec();
    (root, page)
}

fn extent_tree(limits: Limits) -> Tree<ExtentLeaf> {
    let mut tree = Tree::empty_with(limits);
    let mappings = [(1 << 33, 3, 0x1122_3344, false), ((1 << 33) + 7, 0x0a0b, 0x5566_7788, true)];
    for (start, length, address, checksummed) in mappings {
        let (start, address) = (LogicalBlock(start), BlockAddress(address));
        let mapping = Mapping { start, length, address, tag: WRITER, checksummed };
        tree.insert(&Disk::new(), mapping, WRITER, &mut Vec::new()).expect("all in memory");
    }
    tree
}

fn record_tree() -> Tree<RecordLeaf> {
    let mut tree = Tree::empty();
    for (key, bytes) in [(5, &b"five"[..]), (0x0908, b""), (0x0a0b_0c0d, b"tail")] {
        tree.put(&Disk::new(), key, bytes, WRITER, &mut Vec::new()).expect("all in memory");
    }
    tree
}

/// A tree of four leaves and their parent.
fn inner_tree() -> Tree<ExtentLeaf> {
    let mut tree = Tree::empty_with(Limits::small(4));
    for start in 0..9 {
        let (start, address) = (LogicalBlock(10 + start), BlockAddress(0x4000 + 2 * start));
        let mapping = Mapping { start, length: 1, address, tag: WRITER, checksummed: false };
        tree.insert(&Disk::new(), mapping, WRITER, &mut Vec::new()).expect("all in memory");
    }
    tree
}

fn header(kind: u8, level: u8, count: u8, address: u8, low: u64) -> Vec<u8> {
    let mut bytes = b"OSTN\0\0\0\0".to_vec();
    bytes.extend([kind, level, 1, 0, count, 0, 0, 0]);
    bytes.extend([7; 16]);
    bytes.extend([address, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([2, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([4, 3, 2, 1, 8, 7, 6, 5]);
    bytes.extend(low.to_le_bytes());
    bytes
}

/// Compares a page with golden bytes that lack the checksum, which is checked on its own.
fn assert_golden((root, page): (Pointer, Vec<u8>), mut golden: Vec<u8>, checksum: u32) {
    golden.resize(4096, 0);
    let mut without = page.clone();
    without[4..8].fill(0);
    let differs = (0..4096).find(|at| without[*at] != golden[*at]);
    assert_eq!(differs, None, "the first byte that differs");
    assert_eq!(crc32c::crc32c(&golden), root.checksum);
    assert_eq!(page[4..8], root.checksum.to_le_bytes());
    assert_eq!(root.checksum, checksum, "the golden checksum, {:#010x} now", root.checksum);
}

#[test]
fn a_leaf_of_extents_is_these_bytes() {
    let mut golden = header(1, 0, 2, 0x9a, 1 << 33);
    golden.extend([0, 0, 0, 0, 7, 0, 0, 0]);
    golden.extend([3, 0, 0, 0, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5]);
    golden.extend([0x0b, 0x0a, 0, 0, 0x88, 0x77, 0x66, 0x55, 0, 0, 1, 0, 4, 3, 2, 1, 8, 7, 6, 5]);
    assert_golden(page_of(&extent_tree(Limits::default())), golden, GOLDEN_EXTENTS);
}

#[test]
fn a_leaf_of_records_is_these_bytes() {
    let mut golden = header(2, 0, 3, 0x9a, 5);
    golden.extend([5, 0, 0, 0, 0, 0, 0, 0, 100, 0, 4, 0]);
    golden.extend([8, 9, 0, 0, 0, 0, 0, 0, 104, 0, 0, 0]);
    golden.extend([0x0d, 0x0c, 0x0b, 0x0a, 0, 0, 0, 0, 104, 0, 4, 0]);
    golden.extend(*b"fivetail");
    assert_golden(page_of(&record_tree()), golden, GOLDEN_RECORDS);
}

#[test]
fn an_inner_node_is_these_bytes() {
    let tree = inner_tree();
    let page = page_of(&tree);
    let mut golden = header(1, 1, 4, 0x9e, 10);
    for low in [10u64, 12, 14, 16] {
        golden.extend(low.to_le_bytes());
    }
    for (address, checksum) in (0x9a..).zip(GOLDEN_CHILDREN) {
        golden.extend([address, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1, 8, 7, 6, 5]);
        golden.extend(u32::to_le_bytes(checksum));
    }
    assert_golden(page, golden, GOLDEN_INNER);
}

const GOLDEN_EXTENTS: u32 = 0x9810_71df;
const GOLDEN_RECORDS: u32 = 0xa8d4_7dc4;
const GOLDEN_INNER: u32 = 0x8468_1d7d;
const GOLDEN_CHILDREN: [u32; 4] = [0xa8b8_2dbb, 0x6e1b_9e47, 0x37e9_3a39, 0xe2f8_fd01];

fn every_flipped_bit_is_damage<L: Leaf>(tree: &Tree<L>) {
    let (root, page) = page_of(tree);
    Node::<L>::decode(&page, &root, POOL).expect("what was encoded decodes");
    for at in 0..page.len() {
        for bit in 0..8 {
            let mut bad = page.clone();
            bad[at] ^= 1 << bit;
            Node::<L>::decode(&bad, &root, POOL).expect_err("a flipped bit is found");
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    every_flipped_bit_is_damage(&extent_tree(Limits::default()));
    every_flipped_bit_is_damage(&record_tree());
    every_flipped_bit_is_damage(&inner_tree());
}

/// Puts the right checksum over a changed page, as an attacker or a misdirected write would.
fn resealed(mut page: Vec<u8>, root: &Pointer) -> (Vec<u8>, Pointer) {
    page[4..8].fill(0);
    let checksum = crc32c::crc32c(&page);
    page[4..8].copy_from_slice(&checksum.to_le_bytes());
    (page, Pointer { checksum, ..*root })
}

fn with_byte<L: Leaf>((root, page): &(Pointer, Vec<u8>), at: usize, value: u8) -> Damage {
    let mut page = page.clone();
    page[at] = value;
    let (page, root) = resealed(page, root);
    Node::<L>::decode(&page, &root, POOL).expect_err("the page is wrong")
}

#[test]
fn damage_says_what_is_wrong() {
    let whole = page_of(&extent_tree(Limits::default()));
    let (root, page) = &whole;
    let (root, page) = (*root, page);
    let wrong = |at, value| with_byte::<ExtentLeaf>(&whole, at, value);
    let decode = |pointer: &Pointer| Node::<ExtentLeaf>::decode(page, pointer, POOL).expect_err("wrong");
    assert_eq!(decode(&Pointer { checksum: 1, ..root }), Damage::Stale { expected: 1, found: root.checksum });
    let elsewhere = BlockAddress(5);
    let found = root.address;
    assert_eq!(
        decode(&Pointer { address: elsewhere, ..root }),
        Damage::Address { expected: elsewhere, found }
    );
    assert_eq!(decode(&Pointer { level: 1, ..root }), Damage::Level { expected: 1, found: 0 });
    assert_eq!(decode(&Pointer { low: 4, ..root }), Damage::Low { expected: 4, found: 1 << 33 });
    let nobody = Tag { line: 9, sequence: 9 };
    assert_eq!(decode(&Pointer { tag: nobody, ..root }), Damage::Tag { expected: nobody, found: WRITER });
    assert_eq!(Node::<ExtentLeaf>::decode(&page[1..], &root, POOL).expect_err("short"), Damage::Length(4095));
    assert_eq!(
        Node::<RecordLeaf>::decode(page, &root, POOL).expect_err("another tree"),
        Damage::Kind { expected: 2, found: 1 }
    );
    assert_eq!(wrong(0, b'X'), Damage::Magic);
    assert_eq!(wrong(10, 9), Damage::Format(9));
    assert!(matches!(wrong(16, 9), Damage::Pool(_)));
    assert_eq!(wrong(12, 0), Damage::Count(0));
    assert_eq!(wrong(12, 169), Damage::Count(169));
    assert_eq!(wrong(4095, 1), Damage::Padding);
    assert_eq!(wrong(64, 1), Damage::Order(0));
    assert_eq!(wrong(68, 0), Damage::Order(1));
    assert_eq!(wrong(72, 200), Damage::Range(0), "it reaches into the next one");
    assert_eq!(wrong(102, 3), Damage::Flags(1));
}

#[test]
fn damage_of_records_and_inner_nodes_says_what_is_wrong() {
    let records = page_of(&record_tree());
    assert_eq!(with_byte::<RecordLeaf>(&records, 64, 6), Damage::Order(0));
    assert_eq!(with_byte::<RecordLeaf>(&records, 83, 0xff), Damage::Order(2));
    assert_eq!(with_byte::<RecordLeaf>(&records, 72, 101), Damage::Range(0));
    assert_eq!(with_byte::<RecordLeaf>(&records, 75, 0xff), Damage::Range(0));
    let inner = page_of(&inner_tree());
    assert_eq!(with_byte::<ExtentLeaf>(&inner, 64, 9), Damage::Order(0));
    assert_eq!(with_byte::<ExtentLeaf>(&inner, 72, 10), Damage::Order(1));
    assert_eq!(with_byte::<ExtentLeaf>(&inner, 96, 0), Damage::Target(0));
    assert_eq!(with_byte::<ExtentLeaf>(&inner, 103, 1), Damage::Target(0));
    assert_eq!(with_byte::<ExtentLeaf>(&inner, 12, 145), Damage::Count(145));
}

fn survives<L: Leaf>(page: &[u8], pointer: &Pointer) {
    if let Ok(node) = Node::<L>::decode(page, pointer, POOL) {
        assert!(node.count() > 0 && node.low() == pointer.low);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_decode_panic(
        level in 0u8..3,
        count in 0u16..400,
        low in any::<u64>(),
        kind in 1u8..3,
        body in prop::collection::vec(any::<u8>(), 4032),
    ) {
        let (root, mut page) = page_of(&record_tree());
        page[64..].copy_from_slice(&body);
        (page[8], page[9]) = (kind, level);
        page[12..14].copy_from_slice(&count.to_le_bytes());
        page[56..64].copy_from_slice(&low.to_le_bytes());
        let (page, root) = resealed(page, &Pointer { level, low, ..root });
        survives::<ExtentLeaf>(&page, &root);
        survives::<RecordLeaf>(&page, &root);
    }

    #[test]
    fn no_change_of_a_few_bytes_makes_decode_panic(
        changes in prop::collection::vec((8usize..200, any::<u8>()), 1..6),
        which in 0usize..3,
    ) {
        let (root, mut page) = match which {
            0 => page_of(&extent_tree(Limits::default())),
            1 => page_of(&record_tree()),
            _ => page_of(&inner_tree()),
        };
        changes.iter().for_each(|(at, value)| page[*at] = *value);
        let low = u64::from_le_bytes(page[56..64].try_into().expect("eight bytes"));
        let (page, root) = resealed(page.clone(), &Pointer { level: page[9], low, ..root });
        survives::<ExtentLeaf>(&page, &root);
        survives::<RecordLeaf>(&page, &root);
    }
}
