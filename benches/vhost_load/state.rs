//! What a verifying load knows of its disk: a file mapped into memory, so that it survives a kill of the load at any
//! instruction (but not of the machine).
//!
//! ```text
//! header   magic, capacity, bytes of a block, blocks, seed, newest generation; a word each
//! records  one a block: checksum of what was there first, acknowledged generation, generation in flight
//! ```
//!
//! A write's generation is noted as in flight before the device can see the write, as acknowledged after its answer was
//! seen, and only then not in flight any more. So a block holds what is acknowledged or what is in flight, and there is
//! one write of a block at most at a time. No generation is used twice.

use super::contents::checksum;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

const MAGIC: u64 = u64::from_le_bytes(*b"vhload01");
const WORD_BYTES: usize = 8;
const IDENTITY_WORDS: usize = 5;
/// Where in the file the newest generation is; little-endian, like all words.
pub(crate) const NEWEST_AT: usize = IDENTITY_WORDS * WORD_BYTES;
const HEADER_BYTES: usize = NEWEST_AT + WORD_BYTES;
const RECORD_BYTES: usize = 3 * WORD_BYTES;

/// The number of a write; 0 is what was there before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(pub(crate) u64);

/// Which disk, and which part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Bytes of the disk.
    pub(crate) capacity: u64,
    pub(crate) block_bytes: u64,
    /// How many are used.
    pub(crate) blocks: u64,
}

/// What is known of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// The checksum of what was there first; nothing until the block was read.
    pub(crate) first: Option<u64>,
    pub(crate) acknowledged: Generation,
    pub(crate) in_flight: Option<Generation>,
}

/// The words of a record, in order.
#[derive(Debug, Clone, Copy)]
enum Word {
    First,
    Acknowledged,
    InFlight,
}

/// The file is locked as long as this lives: two loads of one disk would take each other's writes for damage.
#[derive(Debug)]
pub(crate) struct State {
    map: MmapRegion,
    blocks: u64,
    pub(crate) seed: u64,
}

impl State {
    /// Opens the state of this disk, or begins a new one with `seed`.
    pub(crate) fn open(path: &Path, identity: Identity, seed: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock()?;
        let seed = recognise(&mut file, identity, seed)?;
        let records =
            usize::try_from(identity.blocks).ok().and_then(|blocks| blocks.checked_mul(RECORD_BYTES));
        let bytes =
            records.and_then(|bytes| bytes.checked_add(HEADER_BYTES)).ok_or(io::ErrorKind::FileTooLarge)?;
        file.set_len(u64::try_from(bytes).expect("a usize"))?;
        let map = MmapRegion::from_file(FileOffset::new(file, 0), bytes).map_err(io::Error::other)?;
        Ok(Self { map, blocks: identity.blocks, seed })
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    pub(crate) fn newest(&self) -> Generation {
        Generation(self.load(NEWEST_AT))
    }

    pub(crate) fn record(&self, block: u64) -> Record {
        let word = |word| self.load(self.place(block, word));
        let some = |word: u64| (word != 0).then_some(word);
        Record {
            first: some(word(Word::First)),
            acknowledged: Generation(word(Word::Acknowledged)),
            in_flight: some(word(Word::InFlight)).map(Generation),
        }
    }

    /// `bytes` are what the block holds before this load has written any.
    pub(crate) fn meet(&mut self, block: u64, bytes: &[u8]) {
        self.store(self.place(block, Word::First), checksum(bytes));
    }

    /// A write is about to be submitted; gives it a generation.
    pub(crate) fn begin(&mut self, block: u64) -> Generation {
        let generation = self.newest().0 + 1;
        self.store(NEWEST_AT, generation);
        self.store(self.place(block, Word::InFlight), generation);
        Generation(generation)
    }

    /// This generation was acknowledged, or was seen on the disk: the block holds it and nothing else.
    pub(crate) fn settle(&mut self, block: u64, generation: Generation) {
        self.store(self.place(block, Word::Acknowledged), generation.0);
        self.store(self.place(block, Word::InFlight), 0);
    }

    fn place(&self, block: u64, word: Word) -> usize {
        assert!(block < self.blocks, "block {block} of {}", self.blocks);
        let word = match word {
            Word::First => 0,
            Word::Acknowledged => 1,
            Word::InFlight => 2,
        };
        HEADER_BYTES + usize::try_from(block).expect("the map has it") * RECORD_BYTES + word * WORD_BYTES
    }

    fn load(&self, at: usize) -> u64 {
        let word = self.map.as_volatile_slice().load(at, Ordering::SeqCst);
        u64::from_le(word.expect("inside the map"))
    }

    fn store(&mut self, at: usize, word: u64) {
        let stored = self.map.as_volatile_slice().store(word.to_le(), at, Ordering::SeqCst);
        stored.expect("inside the map");
    }
}

/// Reads who the state belongs to, or writes it into an empty file, in one go. Gives back the seed.
fn recognise(file: &mut File, identity: Identity, seed: u64) -> io::Result<u64> {
    let mut raw = Vec::new();
    file.take(u64::try_from(NEWEST_AT).expect("small")).read_to_end(&mut raw)?;
    let Identity { capacity, block_bytes, blocks } = identity;
    if raw.is_empty() {
        file.write_all(&[MAGIC, capacity, block_bytes, blocks, seed].map(u64::to_le_bytes).concat())?;
        return Ok(seed);
    }
    let words: Vec<u64> = raw
        .chunks_exact(WORD_BYTES)
        .map(|word| u64::from_le_bytes(word.try_into().expect("a chunk is a word")))
        .collect();
    match words.as_slice() {
        [MAGIC, of_capacity, of_block, of_blocks, seed] => {
            let found = Identity { capacity: *of_capacity, block_bytes: *of_block, blocks: *of_blocks };
            if found == identity { Ok(*seed) } else { Err(io::Error::other(another_disk(found, identity))) }
        }
        _ => Err(io::Error::other("the file is not the state of a load")),
    }
}

fn another_disk(found: Identity, here: Identity) -> String {
    let words = |identity: Identity| {
        let Identity { capacity, block_bytes, blocks } = identity;
        format!("{capacity} bytes, of which {blocks} blocks of {block_bytes} are used")
    };
    format!("the state is of another disk: of {}; this one has {}", words(found), words(here))
}
