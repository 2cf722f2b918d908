//! The parsers of the pool's own structures, played through without a device, for a fuzzer: any bytes a device may hold
//! go in, and what the parsers promise is asserted on the way.
//!
//! A fuzzer does not guess checksums, so the scripts it writes change structures that were whole, and may have them
//! sealed again: what is behind the checksum is reached as well.

use crate::catalog::{Catalog, stored};
use crate::codec::{CodecError, decode_record, encode_record};
use crate::geometry::{Geometry, GeometryOptions, superblock_homes, superblock_places};
use crate::ids::{EntryId, LayerId};
use crate::journal::{self, Position, Ring, Scanned};
use crate::superblock::fields::Field;
use crate::superblock::{Opener, State, Superblock, choose};
use cow_tree::units::{BLOCK_BYTES, BlockAddress, Generation, PoolId, index_of};
use std::collections::BTreeMap;

type Page = [u8; BLOCK_BYTES];

const POOL: PoolId = PoolId([7; 16]);
/// Where labels, superblocks and batches keep their checksum.
const CHECKSUM: Field<4> = Field::at(12);
const DEVICE_BYTES: u64 = 16 << 20;

const RING_BLOCKS: u32 = 16;
const GENERATION: u64 = 3;
const BATCH_HEADER_BYTES: usize = 80;
const STEPS_MAX: usize = 64;

/// Values of the catalog that one script may name, and bytes of the longest.
const VALUES_MAX: usize = 32;
/// Marks a value as an entry's; without it, it is a layer's.
const ENTRY: u8 = 0x80;
/// The value's first piece is missing.
const BEHEADED: u8 = 0x40;

/// A fuzzer's bytes, taken one after the other; zeros behind their end.
#[derive(Debug)]
struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        bytes
    }
}

/// Chooses among four copies of a superblock after some of their bytes were changed.
///
/// # Panics
/// When a superblock is chosen that does not come back from its own copies, or a whole one is not chosen.
pub fn superblock(script: &[u8]) {
    let mut script = Script { rest: script };
    let newest = whole_superblock(u64::from(script.byte()) + 1);
    let older =
        Superblock { generation: Generation(newest.generation.0.saturating_sub(1)), ..newest.clone() };
    let mut pages: BTreeMap<BlockAddress, Page> =
        superblock_places().map(|home| (home, [0; BLOCK_BYTES])).into();
    if older.generation.0 > 0 {
        pages.extend(older.copies());
    }
    pages.extend(newest.copies());
    let sealed = script.byte();
    let untouched = script.is_over();
    while !script.is_over() {
        let home = superblock_places()[usize::from(script.byte() % 4)];
        let page = pages.get_mut(&home).expect("every home has a page");
        page[script.number() % BLOCK_BYTES] = script.byte();
    }
    for (_, page) in (0..).zip(pages.values_mut()).filter(|(copy, _)| sealed >> copy & 1 == 1) {
        let checksum = CHECKSUM.checksum(page);
        CHECKSUM.put_u32(page, checksum);
    }
    match choice_of(&pages) {
        Some(chosen) => {
            assert!(chosen.geometry().is_ok(), "the layout was checked");
            let copies = chosen.copies().into_iter().collect();
            assert_eq!(choice_of(&copies), Some(chosen), "its own copies say so");
        }
        None => assert!(!untouched, "whole copies are chosen from"),
    }
}

fn whole_superblock(generation: u64) -> Superblock {
    let geometry = Geometry::plan(DEVICE_BYTES, GeometryOptions::default()).expect("large enough");
    Superblock {
        generation: Generation(generation),
        state: State::Serving,
        opener: Opener::new(7, "host"),
        ..Superblock::of_new_pool(POOL, &geometry)
    }
}

fn choice_of(pages: &BTreeMap<BlockAddress, Page>) -> Option<Superblock> {
    const ABSENT: Page = [0; BLOCK_BYTES];
    let read = superblock_places().map(|home| (home, pages.get(&home).unwrap_or(&ABSENT).as_slice()));
    let choice = choose(POOL, read).ok()?;
    let homes = superblock_homes(choice.superblock.generation);
    assert!(homes.iter().any(|home| pages.contains_key(home)), "the chosen one has a copy");
    Some(choice.superblock)
}

/// A ring as its script fills it, and what was placed in it.
struct Rehearsed {
    ring: Ring,
    bytes: Vec<u8>,
    from: Position,
    /// Payloads from `from` on.
    placed: Vec<Vec<u8>>,
    changed: bool,
}

/// Fills a ring with batches, damages it, scans it, and decodes the records it is said to hold.
///
/// # Panics
/// When a ring nobody damaged is not read as it was written, or a record does not come back from its own bytes.
pub fn journal(script: &[u8]) {
    let mut script = Script { rest: script };
    let ring = Ring::new(RING_BLOCKS, Position::FIRST, Position::FIRST);
    let bytes = vec![0; index_of(RING_BLOCKS) * BLOCK_BYTES];
    let mut rehearsed = Rehearsed { ring, bytes, from: Position::FIRST, placed: Vec::new(), changed: false };
    for _ in 0..STEPS_MAX {
        if script.is_over() {
            break;
        }
        rehearsed.step(&mut script);
    }
    let scanned = journal::scan(&rehearsed.bytes, rehearsed.from, POOL, Generation(GENERATION));
    if let Ok(scanned) = &scanned {
        scanned.batches.iter().for_each(|batch| records(&batch.payload));
    }
    if !rehearsed.changed {
        let Scanned { batches, next } = scanned.expect("nobody damaged the ring");
        let found: Vec<Vec<u8>> = batches.into_iter().map(|batch| batch.payload).collect();
        assert_eq!((found, next), (rehearsed.placed, rehearsed.ring.next_position()));
    }
}

impl Rehearsed {
    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 6 {
            0 => {
                let (count, sequence) = (script.number(), script.byte());
                let mut payload = Vec::new();
                journal::frame(&mut payload, sequence.into(), script.bytes(count));
                self.place(payload);
            }
            1 => {
                let count = script.number();
                self.place(script.bytes(count).to_vec());
            }
            2 => {
                let count = script.number();
                self.place(vec![script.byte(); count]);
            }
            3 => self.retire(),
            4 => drop(self.damage(script)),
            _ => {
                let block = self.damage(script);
                self.seal(block);
            }
        }
    }

    fn place(&mut self, payload: Vec<u8>) {
        let sequence = u64::try_from(self.placed.len()).expect("few") + 1;
        let Ok(placement) = self.ring.place(POOL, GENERATION, sequence, sequence, &payload) else { return };
        for (block, bytes) in placement.writes {
            let at = index_of(block) * BLOCK_BYTES;
            self.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        self.placed.push(payload);
    }

    /// A checkpoint made everything placed so far superfluous.
    fn retire(&mut self) {
        self.from = self.ring.next_position();
        self.ring.advance_start(self.from);
        self.placed.clear();
    }

    /// Changes a byte; the block it is in.
    fn damage(&mut self, script: &mut Script<'_>) -> usize {
        let block = usize::from(script.byte()) % index_of(RING_BLOCKS);
        let at = script.number() % BLOCK_BYTES;
        self.bytes[block * BLOCK_BYTES + at] = script.byte();
        self.changed = true;
        block
    }

    fn seal(&mut self, block: usize) {
        let header = &mut self.bytes[block * BLOCK_BYTES..][..BATCH_HEADER_BYTES];
        let checksum = CHECKSUM.checksum(header);
        CHECKSUM.put_u32(header, checksum);
    }
}

/// Decodes what a payload holds, as replay does.
///
/// # Panics
/// When a record does not come back from its own bytes.
pub fn records(payload: &[u8]) {
    for (_, bytes) in journal::frames(payload).map_while(Result::ok) {
        let Ok(record) = decode_record(bytes) else { continue };
        if record.check().is_ok() {
            assert_eq!(decode_record(&encode_record(&record)), Ok(record));
        }
    }
}

/// Loads a catalog from values of any bytes.
///
/// # Panics
/// When a catalog that agrees with itself does not come back from its own values.
pub fn catalog(script: &[u8]) {
    let mut script = Script { rest: script };
    let mut pieces = BTreeMap::new();
    for _ in 0..VALUES_MAX {
        if script.is_over() {
            break;
        }
        let (subject, count) = (script.byte(), script.number());
        let number = u64::from(subject & !(ENTRY | BEHEADED));
        let first_key = if subject & ENTRY == 0 {
            stored::layer_key(LayerId(number))
        } else {
            stored::entry_key(EntryId(number))
        };
        let value = stored::Value { first_key, bytes: script.bytes(count).to_vec() };
        let missing = usize::from(subject & BEHEADED != 0);
        pieces.extend(value.pieces().skip(missing).map(|(key, bytes)| (key, bytes.to_vec())));
    }
    let Ok(catalog) = loaded(&pieces) else { return };
    if catalog.check_loaded().is_ok() {
        let values = values_of(&catalog);
        let again = loaded(&values).expect("what was stored is loaded");
        assert_eq!(again.check_loaded(), Ok(()));
        assert_eq!(values_of(&again), values);
    }
}

fn loaded(pieces: &BTreeMap<u64, Vec<u8>>) -> Result<Catalog, CodecError> {
    let (mut catalog, mut loader) = (Catalog::new(), stored::Loader::new(cow_tree::Limits::default()));
    for (key, bytes) in pieces {
        loader.piece(&mut catalog, *key, bytes)?;
    }
    loader.end(&mut catalog)?;
    Ok(catalog)
}

/// The pieces a checkpoint would write.
fn values_of(catalog: &Catalog) -> BTreeMap<u64, Vec<u8>> {
    let mut pieces = BTreeMap::new();
    for (id, layer) in catalog.layers() {
        let (value, trees) = layer.read(|body| stored::layer_value(id, layer, body));
        let mut whole: Vec<(u64, Vec<u8>)> =
            value.pieces().map(|(key, bytes)| (key, bytes.to_vec())).collect();
        let roots: Vec<_> = trees.iter().map(cow_tree::Tree::root_pointer).collect();
        let (_, first) = whole.first_mut().expect("a layer's value is never empty");
        stored::fill_roots(first, &roots);
        pieces.extend(whole);
    }
    let own = stored::pool_value(catalog.properties());
    pieces.extend(own.pieces().map(|(key, bytes)| (key, bytes.to_vec())));
    for (id, entry) in catalog.entries() {
        let value = stored::entry_value(id, entry);
        pieces.extend(value.pieces().map(|(key, bytes)| (key, bytes.to_vec())));
    }
    pieces
}
