//! The table of blocks of a VHDX, which says where in the file the bytes of its disk lie.
//!
//! Every number of it is a stranger's. A block is read when it lies inside of the file, where nothing else lies: neither a part of the
//! file nor another block, so that no file becomes more data than it has.

use super::map::{Place, Run};
use super::source_file::SourceFile;
use crate::failure::{Code, Failure};
use std::ops::Range;

const MIB: u64 = 1 << 20;
const ENTRY_BYTES: u64 = 8;
/// Entries read at a time.
const PAGE_ENTRIES: u64 = 4096;
/// Sectors whose bits, where a disk has a parent, fill one block of such bits. Each has an entry behind those of its blocks.
const SECTORS_PER_BITMAP: u64 = 1 << 23;

/// Parts of an entry: its state, what has to be zero, and its place in the file.
const STATE: u64 = 0x7;
const RESERVED: u64 = 0xf_fff8;
const FILE_OFFSET: u64 = !(STATE | RESERVED);
/// States of a block that has no bytes: not there, undefined, zero, unmapped, and unmapped as it was once written.
const EMPTY: [u64; 5] = [0, 1, 2, 3, 5];
const PRESENT: u64 = 6;
const PARTLY_PRESENT: u64 = 7;

/// Numbers of a VHDX that make sense by themselves: blocks of whole mebibytes, sectors that divide them and the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) disk_bytes: u64,
    pub(super) block_bytes: u64,
    pub(super) sector_bytes: u64,
}

impl Geometry {
    fn blocks(self) -> u64 {
        self.disk_bytes.div_ceil(self.block_bytes)
    }

    /// Where in the table a block's entry is.
    fn entry(self, block: u64) -> u64 {
        block + block / (SECTORS_PER_BITMAP * self.sector_bytes / self.block_bytes)
    }

    /// Bytes of the disk that are in a block: only the last may have fewer than the others.
    fn length(self, block: u64) -> u64 {
        self.block_bytes.min(self.disk_bytes - block * self.block_bytes)
    }
}

/// A table that has an entry for each block of its disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockTable {
    geometry: Geometry,
    offset: u64,
    /// Ranges of the file, of whole mebibytes, where no block can be.
    parts: Vec<Range<u64>>,
}

impl BlockTable {
    /// `table` and `parts` are ranges of the file; `None` when the table is too short.
    pub(super) fn new(geometry: Geometry, table: Range<u64>, parts: Vec<Range<u64>>) -> Option<Self> {
        let entries = geometry.blocks().checked_sub(1).map_or(0, |last| geometry.entry(last) + 1);
        let is_enough = entries <= (table.end - table.start) / ENTRY_BYTES;
        is_enough.then_some(Self { geometry, offset: table.start, parts })
    }
}

/// The runs of the disk, in its order.
#[derive(Debug)]
pub(super) struct Blocks<'a> {
    file: &'a SourceFile,
    table: &'a BlockTable,
    what: &'a str,
    taken: Taken,
    /// The next block to look up.
    next: u64,
    /// Entries of the table from `page_start` on.
    page: Vec<u64>,
    page_start: u64,
    /// What is known of the next run.
    run: Option<Run>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(file: &'a SourceFile, table: &'a BlockTable, what: &'a str) -> Self {
        let mut taken = Taken::of(file.length());
        for part in &table.parts {
            assert!(taken.take(part.clone()), "the parts of a file lie apart");
        }
        Self { file, table, what, taken, next: 0, page: Vec::new(), page_start: 0, run: None }
    }

    /// The next run of the disk; `None` behind the last. Blocks that follow each other in the file, or are empty, are one run.
    pub(super) fn next(&mut self) -> Result<Option<Run>, Failure> {
        while self.next < self.table.geometry.blocks() {
            let block = self.look_up(self.next)?;
            self.next += 1;
            match &mut self.run {
                Some(run) if is_continued(run, block.place) => run.length += block.length,
                run => {
                    if let Some(run) = run.replace(block) {
                        return Ok(Some(run));
                    }
                }
            }
        }
        Ok(self.run.take())
    }

    fn look_up(&mut self, block: u64) -> Result<Run, Failure> {
        let length = self.table.geometry.length(block);
        let entry = self.entry(self.table.geometry.entry(block))?;
        let (state, offset) = (entry & STATE, entry & FILE_OFFSET);
        let place = match state {
            _ if entry & RESERVED != 0 => return Err(self.damaged(block, "has an entry of nonsense")),
            PRESENT => self.place(block, offset, length)?,
            PARTLY_PRESENT => return Err(self.damaged(block, "is partly in a parent, and there is none")),
            state if EMPTY.contains(&state) => Place::Zero,
            _ => return Err(self.damaged(block, "is in a state that nobody knows")),
        };
        Ok(Run { length, place })
    }

    fn place(&mut self, block: u64, offset: u64, length: u64) -> Result<Place, Failure> {
        let end = offset.checked_add(length).filter(|end| *end <= self.file.length());
        let Some(end) = end else {
            return Err(self.damaged(block, &format!("lies behind the file's end, at byte {offset}")));
        };
        if !self.taken.take(offset..end) {
            return Err(self.damaged(block, &format!("lies where something else lies, at byte {offset}")));
        }
        Ok(Place::File { index: 0, offset })
    }

    fn entry(&mut self, number: u64) -> Result<u64, Failure> {
        let within = number.checked_sub(self.page_start).and_then(|within| usize::try_from(within).ok());
        if let Some(entry) = within.and_then(|within| self.page.get(within)) {
            return Ok(*entry);
        }
        let mut bytes = vec![0; usize::try_from(PAGE_ENTRIES * ENTRY_BYTES).expect("32 KiB")];
        let offset = self.table.offset + number * ENTRY_BYTES;
        let length = self.file.read_some(&mut bytes, offset, self.what)?;
        let (entries, _) = bytes[..length].as_chunks();
        self.page = entries.iter().map(|entry| u64::from_le_bytes(*entry)).collect();
        self.page_start = number;
        match self.page.first() {
            Some(entry) => Ok(*entry),
            None => Err(self.failure("ended early, inside of its table of blocks")),
        }
    }

    fn damaged(&self, block: u64, why: &str) -> Failure {
        self.failure(&format!("is not whole: block {block} of its disk {why}"))
    }

    fn failure(&self, why: &str) -> Failure {
        let why = format!("{} {why}", self.file.shown());
        Failure::new(Code::Failed, self.what, why, "a copy of the image that is whole")
    }
}

fn is_continued(run: &Run, by: Place) -> bool {
    match (run.place, by) {
        (Place::Zero, Place::Zero) => true,
        (Place::File { offset, .. }, Place::File { offset: next, .. }) => offset + run.length == next,
        _ => false,
    }
}

/// Which mebibytes of a file have an owner, one bit for each.
#[derive(Debug)]
struct Taken(Vec<u64>);

impl Taken {
    fn of(length: u64) -> Self {
        let words = length.div_ceil(MIB).div_ceil(u64::from(u64::BITS));
        Self(vec![0; usize::try_from(words).expect("a file's length has a bound")])
    }

    /// False if a mebibyte of the range, which is inside of the file, has an owner already.
    fn take(&mut self, range: Range<u64>) -> bool {
        let mebibytes = range.start / MIB..range.end.div_ceil(MIB);
        mebibytes.fold(true, |is_free, mebibyte| {
            let word = usize::try_from(mebibyte / u64::from(u64::BITS)).expect("inside of the file");
            let bit = 1 << (mebibyte % u64::from(u64::BITS));
            let was_free = self.0[word] & bit == 0;
            self.0[word] |= bit;
            is_free && was_free
        })
    }
}

#[cfg(test)]
mod tests;
