//! Catalog values as a checkpoint stores them.
//!
//! Keys of the catalog tree: the top bit tells entries from layers, the low sixteen bits number the pieces of a value
//! that is longer than one record. Root pointers stand before the variable part, at a fixed place and of a fixed
//! size, because their checksums are known only after the trees have been written.

use super::layer::Layer;
use super::{Catalog, CatalogEntry};
use crate::body::{ExtentTree, LayerBody};
use crate::codec::{self, CodecError};
use crate::command::EntryKind;
use crate::ids::{EntryId, LayerId, Sequence};
use crate::name::Name;
use crate::ownership::{IncomingMark, Interval, Ownership};
use crate::record;
use bincode::{Decode, Encode};
use cow_tree::units::{BlockAddress, Tag};
use cow_tree::{LEVEL_MAX, Limits, Pointer, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of one piece of a value; a little below the tree's limit.
const PIECE_BYTES: usize = 1000;
/// Pieces of one value.
const PIECES_MAX: u64 = 1 << 16;
const ENTRY_BIT: u64 = 1 << 63;
/// A pointer's bytes: address 8, line 4, sequence 4, checksum 4, level 4, low 8.
const POINTER_BYTES: usize = 32;
/// Layers one layer absorbs at the same time: their roots must fit the first piece.
pub(crate) const INCOMING_MAX: usize = 16;

#[derive(Debug, Encode, Decode)]
pub(crate) struct StoredEntry {
    name: String,
    kind: u8,
    layer: u64,
    size: u64,
    origin: Option<String>,
    created_unix: u64,
    properties: BTreeMap<String, String>,
}

#[derive(Debug, Encode, Decode)]
pub(crate) struct StoredLayer {
    sealed: bool,
    entry: Option<u64>,
    deps: Vec<u64>,
    tag: (u32, u32),
    intervals: Vec<(u32, u32, u32)>,
    incoming: Vec<StoredIncoming>,
    owned: u64,
    dropped: Option<Vec<(u32, u32, u64)>>,
    freeing: Option<u64>,
}

#[derive(Debug, Encode, Decode)]
pub(crate) struct StoredIncoming {
    layer: u64,
    intervals: Vec<(u32, u32, u32)>,
    cursor: Option<u64>,
    begun: u64,
}

/// A value cut into records of the catalog tree; an empty list removes it.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) first_key: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Value {
    /// Keys and pieces, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first_key..).zip(self.bytes.chunks(PIECE_BYTES))
    }
}

/// All keys a value of an entry or layer may occupy.
pub(crate) fn key_range(first_key: u64) -> std::ops::Range<u64> {
    first_key..first_key + PIECES_MAX
}

pub(crate) fn entry_key(id: EntryId) -> u64 {
    ENTRY_BIT | (id.0 * PIECES_MAX)
}

pub(crate) fn layer_key(id: LayerId) -> u64 {
    id.0 * PIECES_MAX
}

/// What a key's value is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Entry(EntryId),
    Layer(LayerId),
}

fn subject(key: u64) -> Subject {
    let id = (key & !ENTRY_BIT) / PIECES_MAX;
    if key & ENTRY_BIT == 0 { Subject::Layer(LayerId(id)) } else { Subject::Entry(EntryId(id)) }
}

pub(crate) fn entry_value(id: EntryId, entry: &CatalogEntry) -> Value {
    let stored = StoredEntry {
        name: entry.name.to_string(),
        kind: match entry.kind {
            EntryKind::Volume => 0,
            EntryKind::Snapshot => 1,
            EntryKind::Version => 2,
        },
        layer: entry.layer.0,
        size: entry.size,
        origin: entry.origin.clone(),
        created_unix: entry.created_unix,
        properties: entry.properties.clone(),
    };
    Value { first_key: entry_key(id), bytes: codec::encode_entry(&stored) }
}

/// The value that stands where a name's would: the properties of the pool itself.
pub(crate) fn pool_value(properties: &BTreeMap<String, String>) -> Value {
    Value { first_key: entry_key(EntryId::POOL), bytes: codec::encode_properties(properties) }
}

/// The value of a layer, its root pointers still blank, and the forks of the trees they will point to.
pub(crate) fn layer_value(id: LayerId, layer: &Layer, body: &LayerBody) -> (Value, Vec<ExtentTree>) {
    let stored = StoredLayer {
        sealed: layer.sealed,
        entry: layer.entry.map(|entry| entry.0),
        deps: layer.deps.iter().map(|dep| dep.0).collect(),
        tag: (body.ownership.tag.line, body.ownership.tag.sequence),
        intervals: body.ownership.intervals.iter().map(tuple).collect(),
        incoming: body.ownership.incoming.iter().map(stored_incoming).collect(),
        owned: body.owned,
        dropped: body.dropped.as_ref().map(|map| map.iter().map(|((l, s), n)| (*l, *s, *n)).collect()),
        freeing: layer.freeing,
    };
    let mut trees = vec![body.tree.fork()];
    for mark in &body.ownership.incoming {
        trees.push(body.incoming.get(&mark.layer).expect("every incoming mark has its tree").fork());
    }
    let mut bytes = vec![0; POINTER_BYTES * trees.len()];
    bytes.extend(codec::encode_layer(&stored));
    let count = u8::try_from(trees.len()).expect("incoming layers are bounded");
    bytes.insert(0, count);
    (Value { first_key: layer_key(id), bytes }, trees)
}

/// Puts the root pointers into the first piece of a layer's value.
pub(crate) fn fill_roots(first_piece: &mut [u8], roots: &[Option<Pointer>]) {
    for (index, root) in roots.iter().enumerate() {
        let at = 1 + index * POINTER_BYTES;
        first_piece[at..at + POINTER_BYTES].copy_from_slice(&pointer_bytes(root.as_ref()));
    }
}

fn pointer_bytes(pointer: Option<&Pointer>) -> [u8; POINTER_BYTES] {
    let mut bytes = [0; POINTER_BYTES];
    if let Some(pointer) = pointer {
        bytes[0..8].copy_from_slice(&pointer.address.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&pointer.tag.line.to_le_bytes());
        bytes[12..16].copy_from_slice(&pointer.tag.sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&pointer.checksum.to_le_bytes());
        bytes[20..24].copy_from_slice(&u32::from(pointer.level).to_le_bytes());
        bytes[24..32].copy_from_slice(&pointer.low.to_le_bytes());
    }
    bytes
}

fn pointer_from(bytes: &[u8]) -> Option<Pointer> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (word(0) != 0).then(|| Pointer {
        address: BlockAddress(word(0)),
        tag: Tag { line: half(8), sequence: half(12) },
        checksum: half(16),
        level: u8::try_from(half(20)).unwrap_or(u8::MAX),
        low: word(24),
    })
}

/// Puts the pieces of values together as the catalog tree gives them, and loads each value when it is whole.
#[derive(Debug)]
pub(crate) struct Loader {
    limits: Limits,
    /// The first key of the value under way, and its pieces so far.
    value: Option<(u64, Vec<u8>)>,
    next: u64,
}

impl Loader {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, value: None, next: 0 }
    }

    /// Keys come in order.
    pub(crate) fn piece(&mut self, catalog: &mut Catalog, key: u64, bytes: &[u8]) -> Result<(), CodecError> {
        if key.is_multiple_of(PIECES_MAX) {
            self.end(catalog)?;
            self.value = Some((key, bytes.to_vec()));
        } else {
            match &mut self.value {
                Some((_, value)) if key == self.next => value.extend_from_slice(bytes),
                _ => {
                    return Err(CodecError::new(
                        "a catalog value",
                        format!("piece {key:#x} follows nothing"),
                    ));
                }
            }
        }
        self.next = key + 1;
        Ok(())
    }

    /// There are no more pieces.
    pub(crate) fn end(&mut self, catalog: &mut Catalog) -> Result<(), CodecError> {
        match self.value.take() {
            None => Ok(()),
            Some((key, bytes)) => match subject(key) {
                Subject::Layer(id) => load_layer(catalog, id, &bytes, self.limits),
                Subject::Entry(EntryId::POOL) => {
                    codec::decode_properties(&bytes).map(|properties| catalog.properties = properties)
                }
                Subject::Entry(id) => load_entry(catalog, id, &bytes),
            },
        }
    }
}

/// Reads an entry's whole value back.
fn load_entry(catalog: &mut Catalog, id: EntryId, bytes: &[u8]) -> Result<(), CodecError> {
    let stored = codec::decode_entry(bytes)?;
    let name = stored.name.parse::<Name>();
    let name = name.map_err(|error| CodecError::new("a catalog entry's name", error.to_string()))?;
    record::check_size(stored.size).map_err(|why| CodecError::new("a catalog entry", why.to_owned()))?;
    let entry = CatalogEntry {
        name,
        kind: match stored.kind {
            0 => EntryKind::Volume,
            1 => EntryKind::Snapshot,
            2 => EntryKind::Version,
            other => return Err(CodecError::new("a catalog entry", format!("it is of kind {other}"))),
        },
        layer: LayerId(stored.layer),
        size: stored.size,
        origin: stored.origin,
        created_unix: stored.created_unix,
        properties: stored.properties,
    };
    if catalog.try_layer(entry.layer).is_none_or(|layer| layer.entry.is_some()) {
        let why = format!("its layer {} does not exist, or has another name", stored.layer);
        return Err(CodecError::new("a catalog entry", why));
    }
    if catalog.find(&stored.name).is_some() {
        return Err(CodecError::new("a catalog entry", format!("the name {} is there twice", stored.name)));
    }
    catalog.insert_entry(id, entry);
    Ok(())
}

/// Reads a layer's whole value back. Layers come before entries in key order.
fn load_layer(catalog: &mut Catalog, id: LayerId, bytes: &[u8], limits: Limits) -> Result<(), CodecError> {
    let short = || CodecError::new("a layer", "its root pointers are cut off".to_owned());
    let (count, rest) = bytes.split_first().ok_or_else(short)?;
    let pointers = usize::from(*count) * POINTER_BYTES;
    let roots = rest.get(..pointers).ok_or_else(short)?;
    let stored = codec::decode_layer(&rest[pointers..])?;
    let wrong = |why: &str| CodecError::new("a layer", why.to_owned());
    if stored.incoming.len() + 1 != usize::from(*count) || stored.incoming.len() > INCOMING_MAX {
        return Err(wrong("its roots and its incoming layers differ in number, or are too many"));
    }
    record::check_layer(id.0, stored.tag.0).map_err(wrong)?;
    if stored.tag.1 == u32::MAX {
        return Err(wrong("its tag is the last of its line"));
    }
    let roots: Vec<_> = roots.chunks_exact(POINTER_BYTES).map(pointer_from).collect();
    if roots.iter().flatten().any(|root| !root.address.can_hold(1) || root.level > LEVEL_MAX) {
        return Err(wrong("it has a root that cannot be"));
    }
    let mut trees = roots.into_iter().map(|root| Tree::stored_with(root, limits));
    let tree = trees.next().ok_or_else(short)?;
    let mut body = LayerBody::new(id, Tag { line: stored.tag.0, sequence: stored.tag.1 }, tree);
    body.dirty = false;
    body.owned = stored.owned;
    body.dropped = stored.dropped.map(|list| list.into_iter().map(|(l, s, n)| ((l, s), n)).collect());
    body.ownership = Ownership {
        tag: body.ownership.tag,
        intervals: stored.intervals.iter().map(interval).collect(),
        incoming: stored.incoming.iter().map(incoming_mark).collect(),
    };
    body.incoming = stored.incoming.iter().map(|x| LayerId(x.layer)).zip(trees).collect();
    let deps: BTreeSet<LayerId> = stored.deps.into_iter().map(LayerId).collect();
    let mut layer = Layer::new(body, stored.sealed, deps);
    layer.freeing = stored.freeing;
    catalog.insert_layer(id, layer);
    Ok(())
}

fn tuple(interval: &Interval) -> (u32, u32, u32) {
    (interval.line, interval.low, interval.high)
}

fn interval(tuple: &(u32, u32, u32)) -> Interval {
    Interval { line: tuple.0, low: tuple.1, high: tuple.2 }
}

fn stored_incoming(mark: &IncomingMark) -> StoredIncoming {
    StoredIncoming {
        layer: mark.layer.0,
        intervals: mark.intervals.iter().map(tuple).collect(),
        cursor: mark.cursor,
        begun: mark.begun.0,
    }
}

fn incoming_mark(stored: &StoredIncoming) -> IncomingMark {
    IncomingMark {
        layer: LayerId(stored.layer),
        intervals: stored.intervals.iter().map(interval).collect(),
        cursor: stored.cursor,
        begun: Sequence(stored.begun),
    }
}
