//! `docs/FORMAT.md` says what this build writes: the rows of every layout, the places of every field, the bytes of every
//! record, and the constants. Where a layout is a table in the code, the rows are compared; where it is not, a structure
//! is made and its bytes are looked for where the document says.

use super::{FURTHER_LAYOUT, HOST_BYTES_MAX, LAYOUT, ROOT_LAYOUT, Superblock};
use crate::body::LayerBody;
use crate::catalog::layer::Layer;
use crate::catalog::stored::{self, Value};
use crate::codec;
use crate::geometry::{
    DEVICES_MAX, FURTHER_START, GROUP_BLOCKS_MAX, GROUP_BLOCKS_MIN, Geometry, GeometryOptions, GroupIndex,
    JOURNAL_BLOCKS_MAX, JOURNAL_BLOCKS_MIN, JOURNAL_START, LABEL_BLOCK, Slot, superblock_homes,
};
use crate::groups::{FrozenGroup, GroupKind, GroupSettings, Groups, Placement};
use crate::ids::{DeviceId, EntryId, LayerId};
use crate::journal::{self, Position, Ring};
use crate::label::{self, FORMAT_VERSION, Label, POOL_NAME_BYTES_MAX};
use crate::mark;
use crate::name::NAME_BYTES_MAX;
use crate::record::{Change, NewClone, NewEntry, NewSnapshot, Record};
use crate::superblock::fields::Row;
use crate::tail::{self, LANE_BYTES_MAX, LANE_BYTES_MIN, LANES_MAX, Shape, Tail};
use crate::whereabouts;
use cow_tree::units::{
    BLOCK_ADDRESS_BITS, BLOCK_BYTES, BLOCK_IN_DEVICE_BITS, BlockAddress, BlockCount, Generation,
    LogicalBlock, PoolId, Tag,
};
use cow_tree::{
    EXTENTS_MAX, ExtentLeaf, INNER_ENTRIES_MAX, LEVEL_MAX, Leaf, Limits, Mapping, Node, Nodes, Pointer,
    RECORD_BYTES_MAX, RECORDS_MAX, RecordLeaf, Tree,
};
use std::collections::BTreeSet;
use std::sync::Arc;

const POOL: PoolId = PoolId([0x5a; 16]);
const GENERATION: Generation = Generation(0x0102_0304_0506_0708);
const TAG: Tag = Tag { line: 0x1112_1314, sequence: 0x2122_2324 };
/// Behind the header of a node.
const BODY_AT: usize = 64;

/// The cells of the first table under a heading, without the table's own head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/FORMAT.md");
    let text = std::fs::read_to_string(path).expect("the document is part of the repository");
    let is_heading = |line: &&str| line.trim_start_matches('#').trim() == heading && line.starts_with('#');
    let mut lines = text.lines().skip_while(|line| !is_heading(line));
    assert!(lines.next().is_some(), "docs/FORMAT.md has no heading {heading:?}");
    let rows = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2).map(cells).collect()
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

/// Offset, length and name of each field in the table under a heading.
fn fields(heading: &str) -> Vec<(usize, usize, String)> {
    let number = |cell: &str| cell.parse().unwrap_or_else(|_| panic!("{heading}: {cell:?} is no number"));
    table(heading).iter().map(|row| (number(&row[0]), number(&row[1]), row[2].clone())).collect()
}

#[track_caller]
fn shows(heading: &str, layout: &[Row]) {
    let expected: Vec<_> = layout.iter().map(|row| (row.at, row.bytes, row.name.to_owned())).collect();
    assert_eq!(fields(heading), expected, "docs/FORMAT.md, {heading}");
}

/// The document's fields are all of `known`, in order and without a gap, and each is found where it says.
#[track_caller]
fn places(heading: &str, structure: &[u8], known: &[(&str, &[u8])]) {
    let shown = fields(heading);
    assert_eq!(shown.len(), known.len(), "docs/FORMAT.md, {heading}: all fields are shown");
    let mut next = 0;
    for ((at, bytes, name), (expected, value)) in shown.iter().zip(known) {
        assert_eq!((name.as_str(), *at, *bytes), (*expected, next, value.len()), "docs/FORMAT.md, {heading}");
        assert_eq!(&structure[*at..*at + *bytes], *value, "docs/FORMAT.md, {heading}: {name}");
        next = at + bytes;
    }
}

#[test]
fn the_document_shows_every_layout_of_the_code() {
    shows("Label block", label::LAYOUT);
    shows("Superblock copy", LAYOUT);
    shows("Root in a superblock", ROOT_LAYOUT);
    shows("Further device", FURTHER_LAYOUT);
    shows("Mark", mark::LAYOUT);
    shows("Whereabouts", whereabouts::LAYOUT);
    shows("Batch header", journal::LAYOUT);
    shows("Frame", journal::FRAME_LAYOUT);
    shows("Tail header", tail::HEADER_LAYOUT);
    shows("Lane start", tail::LANE_LAYOUT);
    shows("Slot", tail::SLOT_LAYOUT);
}

/// Nothing is ever missing from a tree that was never written.
struct Nothing;

impl<L> Nodes<L> for Nothing {
    fn get(&self, _pointer: &Pointer) -> Option<Arc<Node<L>>> {
        None
    }
}

/// The pages of a tree, children first, with blocks from 1000 on.
fn pages<L: Leaf>(tree: &Tree<L>) -> Vec<(BlockAddress, [u8; BLOCK_BYTES])> {
    let mut next = BlockAddress(1000);
    tree.assign(&mut |_tag| {
        next = next.offset_by(1);
        next
    });
    let mut pages = Vec::new();
    tree.encode(POOL, GENERATION, &mut |address, page| pages.push((address, *page)));
    pages
}

fn mapping(start: u64) -> Mapping {
    Mapping {
        start: LogicalBlock(start),
        length: 0x31,
        address: BlockAddress(0x4142_4344_4546),
        tag: TAG,
        checksummed: false,
    }
}

fn extents(limits: Limits, starts: &[u64]) -> Tree<ExtentLeaf> {
    let mut tree = Tree::empty_with(limits);
    for start in starts {
        tree.insert(&Nothing, mapping(*start), TAG, &mut Vec::new()).expect("nothing is stored");
    }
    tree
}

#[test]
fn the_document_shows_where_the_fields_of_a_node_lie() {
    let (address, page) = pages(&extents(Limits::default(), &[700, 900]))[0];
    let header: [(&str, &[u8]); 14] = [
        ("magic", b"OSTN"),
        ("checksum", &crc_without(&page, 4).to_le_bytes()),
        ("kind", &[1]),
        ("level", &[0]),
        ("format", &[1]),
        ("zero", &[0]),
        ("count", &[2, 0]),
        ("zero", &[0, 0]),
        ("pool id", &POOL.0),
        ("own address", &address.0.to_le_bytes()),
        ("generation", &GENERATION.0.to_le_bytes()),
        ("line", &TAG.line.to_le_bytes()),
        ("sequence", &TAG.sequence.to_le_bytes()),
        ("low key", &700_u64.to_le_bytes()),
    ];
    places("Node header", &page, &header);
    assert_eq!(page[BODY_AT..BODY_AT + 8], [0, 0, 0, 0, 200, 0, 0, 0], "two keys, relative to the low key");
    let extent: [(&str, &[u8]); 4] = [
        ("length", &0x31_u32.to_le_bytes()),
        ("address and flags", &0x4142_4344_4546_u64.to_le_bytes()),
        ("line", &TAG.line.to_le_bytes()),
        ("sequence", &TAG.sequence.to_le_bytes()),
    ];
    places("Extent", &page[BODY_AT + 8..], &extent);
}

#[test]
fn the_document_shows_where_the_fields_of_records_and_links_lie() {
    let mut tree = Tree::<RecordLeaf>::empty();
    tree.put(&Nothing, 0x0807_0605, b"abc", TAG, &mut Vec::new()).expect("nothing is stored");
    let (_, page) = pages(&tree)[0];
    let slot: [(&str, &[u8]); 3] =
        [("key", &0x0807_0605_u64.to_le_bytes()), ("offset", &76_u16.to_le_bytes()), ("length", &[3, 0])];
    places("Record slot", &page[BODY_AT..], &slot);
    assert_eq!((page[8], &page[76..80]), (2, b"abc\0".as_slice()), "kind 2, values behind the slots");

    let pages = pages(&extents(Limits::small(2), &[700, 900, 1100]));
    let [.., (_, inner)] = pages.as_slice() else { panic!("three extents do not fit a leaf of two") };
    assert_eq!((inner[9], inner[12]), (1, 2), "an inner node over two leaves");
    let (child, leaf) = pages[0];
    let link: [(&str, &[u8]); 4] = [
        ("address", &child.0.to_le_bytes()),
        ("line", &TAG.line.to_le_bytes()),
        ("sequence", &TAG.sequence.to_le_bytes()),
        ("checksum", &leaf[4..8]),
    ];
    assert_eq!(inner[BODY_AT..BODY_AT + 8], 700_u64.to_le_bytes(), "low keys first");
    places("Link", &inner[BODY_AT + 2 * 8..], &link);
}

/// CRC-32C with the four bytes at `at` taken as zero.
fn crc_without(structure: &[u8], at: usize) -> u32 {
    let before = crc32c::crc32c(&structure[..at]);
    let zeros = crc32c::crc32c_append(before, &[0; 4]);
    crc32c::crc32c_append(zeros, &structure[at + 4..])
}

fn geometry() -> Geometry {
    let options = GeometryOptions { journal_blocks: Some(8), group_blocks: Some(64) };
    Geometry::plan(512 * 4096, options).expect("512 blocks are enough")
}

/// Group 1 with three blocks of data in it.
fn group() -> FrozenGroup {
    let settings = GroupSettings {
        pool: POOL,
        geometry: geometry(),
        window_blocks: 16,
        metadata_required: BlockCount(1),
    };
    let mut groups = Groups::open(&settings, []).expect("an empty table");
    assert!(groups.activate(GroupIndex(1), GroupKind::Data));
    let run = groups.reserve(GroupKind::Data, BlockCount(3), Placement::default()).expect("a new group");
    groups.commit(run);
    groups.freeze().pop().expect("one group has changed")
}

#[test]
fn the_document_shows_where_the_fields_of_a_bitmap_and_its_table_entry_lie() {
    let group = group();
    let page = group.encode(POOL, GENERATION, &geometry());
    let home = geometry().bitmap_slot(GroupIndex(1), Slot::First);
    let checksum = crc_without(&page, 12).to_le_bytes();
    let bitmap: [(&str, &[u8]); 10] = [
        ("magic", b"OFSTBITS"),
        ("format", &1_u32.to_le_bytes()),
        ("checksum", &checksum),
        ("pool id", &POOL.0),
        ("group", &1_u64.to_le_bytes()),
        ("own address", &home.0.to_le_bytes()),
        ("generation", &GENERATION.0.to_le_bytes()),
        ("blocks allocated", &3_u32.to_le_bytes()),
        ("zero", &[0; 4]),
        ("bits", &page[64..]),
    ];
    places("Bitmap page", &page, &bitmap);
    assert_eq!(page[64..].iter().map(|byte| byte.count_ones()).sum::<u32>(), 3);
    let entry: [(&str, &[u8]); 6] = [
        ("kind", &[1]),
        ("slot", &[0]),
        ("zero", &[0; 2]),
        ("blocks allocated", &3_u32.to_le_bytes()),
        ("checksum", &checksum),
        ("generation", &GENERATION.0.to_le_bytes()),
    ];
    places("Group table entry", &group.entry(&page).encode(), &entry);
}

#[test]
fn the_document_shows_where_the_roots_of_a_layer_lie() {
    let body = LayerBody::new(LayerId(3), TAG, Tree::empty());
    let layer = Layer::new(body, true, BTreeSet::new());
    let (mut value, _) = layer.read(|body| stored::layer_value(LayerId(3), &layer, body));
    let root = Pointer { address: BlockAddress(77), tag: TAG, checksum: 0xdead_beef, low: 9, level: 2 };
    stored::fill_roots(&mut value.bytes, &[Some(root)]);
    assert_eq!(value.bytes[0], 1, "one root");
    let known: [(&str, &[u8]); 6] = [
        ("address", &77_u64.to_le_bytes()),
        ("line", &TAG.line.to_le_bytes()),
        ("sequence", &TAG.sequence.to_le_bytes()),
        ("checksum", &0xdead_beef_u32.to_le_bytes()),
        ("level", &2_u32.to_le_bytes()),
        ("low key", &9_u64.to_le_bytes()),
    ];
    places("Root in a layer value", &value.bytes[1..], &known);
    assert_eq!(value.first_key, 3 * 65_536);
    assert_eq!(stored::entry_key(EntryId(3)), (1 << 63) + 3 * 65_536);
}

/// Without a wildcard, so that a new record is noticed here.
fn name_of(record: &Record) -> &'static str {
    match record {
        Record::Update { .. } => "Update",
        Record::Create { .. } => "Create",
        Record::Clone { .. } => "Clone",
        Record::Snapshot { .. } => "Snapshot",
        Record::Rollback { .. } => "Rollback",
        Record::Remove { .. } => "Remove",
        Record::Resize { .. } => "Resize",
        Record::Publish { .. } => "Publish",
        Record::Rename { .. } => "Rename",
        Record::SetProperty { .. } => "SetProperty",
        Record::BeginFree { .. } => "BeginFree",
        Record::BeginAbsorb { .. } => "BeginAbsorb",
        Record::Sweep { .. } => "Sweep",
        Record::EndAbsorb { .. } => "EndAbsorb",
        Record::EndFree { .. } => "EndFree",
        Record::Thin { .. } => "Thin",
        Record::Grow { .. } => "Grow",
    }
}

fn entry(id: u64, name: &str) -> NewEntry {
    NewEntry { id, name: name.to_owned(), size: 4096, created_unix: 7 }
}

/// One of each kind, in the order of their numbers.
fn examples() -> Vec<Record> {
    let changes =
        vec![Change::Map { start: 1, length: 2, address: 300 }, Change::Unmap { start: 9, length: 4 }];
    let clone = NewClone { entry: entry(4, "b"), origin: "i@v".to_owned(), layer: 8, line: 9 };
    let snapshot = NewSnapshot { volume: 3, entry: entry(10, "a@s"), layer: 11 };
    vec![
        Record::Update { layer: 5, changes },
        Record::Create { entry: entry(3, "a"), layer: 5, line: 6 },
        Record::Clone { source: 5, clones: vec![clone] },
        Record::Snapshot { items: vec![snapshot] },
        Record::Rollback { entry: 3, source: 5, layer: 12, line: 13 },
        Record::Remove { entries: vec![3, 10] },
        Record::Resize { entry: 3, size: 8192 },
        Record::Publish { entry: 3, name: "i@w".to_owned() },
        Record::Rename { entry: 3, name: "c".to_owned() },
        Record::SetProperty { entry: 3, key: "k".to_owned(), value: Some("v".to_owned()) },
        Record::BeginFree { layer: 5 },
        Record::BeginAbsorb { layer: 5, into: 11 },
        Record::Sweep { layer: 5, into: 11, cursor: Some(200) },
        Record::EndAbsorb { layer: 5, into: 11 },
        Record::EndFree { layer: 5 },
        Record::Thin { layer: 5, from: 0, upto: None },
        Record::Grow { blocks: 70_000 },
    ]
}

#[test]
fn the_document_shows_the_bytes_of_every_record() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let row = |(number, record): (usize, &Record)| {
        (number.to_string(), name_of(record).to_owned(), hex(&codec::encode_record(record)))
    };
    let shown: Vec<_> =
        table("Records").into_iter().map(|row| (row[0].clone(), row[1].clone(), row[3].clone())).collect();
    let examples = examples();
    assert_eq!(shown, examples.iter().enumerate().map(row).collect::<Vec<_>>());
    for record in &examples {
        assert_eq!(codec::decode_record(&codec::encode_record(record)).as_ref(), Ok(record));
    }
}

#[test]
fn the_document_shows_the_constants() {
    let shown: Vec<_> = table("Constants").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let known = [places_and_magics(), bounds()].concat();
    let known: Vec<_> = known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(shown, known);
}

fn places_and_magics() -> Vec<(&'static str, String)> {
    let blocks = |generation| {
        let [first, second] = superblock_homes(Generation(generation));
        format!("{}, {}", first.in_device(), second.in_device())
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let [(_, superblock), _] = Superblock::of_new_pool(POOL, &geometry()).copies();
    let mut ring = Ring::new(8, Position::FIRST, Position::FIRST);
    let batch = ring.place(POOL, 1, 1, 1, b"record").expect("an empty ring has room");
    let bitmap = group().encode(POOL, GENERATION, &geometry());
    let (_, node) = pages(&extents(Limits::default(), &[1]))[0];
    let tail = Tail::in_memory(Shape::new(1, LANE_BYTES_MIN).expect("the smallest shape")).image();
    vec![
        ("format version", FORMAT_VERSION.to_string()),
        ("bytes of a block", BLOCK_BYTES.to_string()),
        ("bits of a block address", BLOCK_ADDRESS_BITS.to_string()),
        ("bits of it that count blocks of one device", BLOCK_IN_DEVICE_BITS.to_string()),
        ("magic of a label", text(&label_block()[..8])),
        ("magic of a superblock", text(&superblock[..8])),
        ("magic of a journal batch", text(&batch.writes[0].1[..8])),
        ("magic of a bitmap page", text(&bitmap[..8])),
        ("magic of a node", text(&node[..4])),
        ("magic of a crash tail", text(&tail.bytes()[..8])),
        ("devices of a pool, most", DEVICES_MAX.to_string()),
        ("first block of the groups of a further device", FURTHER_START.to_string()),
        ("block of the label", LABEL_BLOCK.to_string()),
        ("blocks of superblock slot 0", blocks(2)),
        ("blocks of superblock slot 1", blocks(3)),
        ("first block of the journal in a new pool", JOURNAL_START.to_string()),
    ]
}

fn label_block() -> [u8; BLOCK_BYTES] {
    let label = Label {
        pool: POOL,
        device_index: 0,
        device_count: 1,
        device_bytes: 1 << 20,
        created_unix: 0,
        name: "p".to_owned(),
        device_id: DeviceId::default(),
    };
    label.encode()
}

fn bounds() -> Vec<(&'static str, String)> {
    let long = Value { first_key: 0, bytes: vec![0; 5000] };
    let piece = long.pieces().next().map_or(0, |(_, piece)| piece.len());
    let keys = stored::key_range(0);
    vec![
        ("blocks of a journal, least", JOURNAL_BLOCKS_MIN.to_string()),
        ("blocks of a journal, most", JOURNAL_BLOCKS_MAX.to_string()),
        ("blocks of a group, least", GROUP_BLOCKS_MIN.to_string()),
        ("blocks of a group, most", GROUP_BLOCKS_MAX.to_string()),
        ("extents in a leaf, most", EXTENTS_MAX.to_string()),
        ("records in a leaf, most", RECORDS_MAX.to_string()),
        ("links in an inner node, most", INNER_ENTRIES_MAX.to_string()),
        ("bytes of a record in a tree, most", RECORD_BYTES_MAX.to_string()),
        ("level of a node, most", LEVEL_MAX.to_string()),
        ("bytes of a piece of a catalog value", piece.to_string()),
        ("keys of a catalog value", (keys.end - keys.start).to_string()),
        ("layers one layer absorbs at a time, most", stored::INCOMING_MAX.to_string()),
        ("bytes of a pool's name, most", POOL_NAME_BYTES_MAX.to_string()),
        ("bytes of a part of a name, most", NAME_BYTES_MAX.to_string()),
        ("bytes of an opener's host name, most", HOST_BYTES_MAX.to_string()),
        ("lanes of a tail, most", LANES_MAX.to_string()),
        ("bytes of a lane, least", LANE_BYTES_MIN.to_string()),
        ("bytes of a lane, most", LANE_BYTES_MAX.to_string()),
    ]
}
