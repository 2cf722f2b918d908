//! Looks over the daemon's shoulder into the pool's file: how far its superblocks are, and how far its bitmaps. Places and
//! fields are those of docs/FORMAT.md. A bitmap page that is newer than every superblock is there from the moment a
//! checkpoint has begun to write until the moment it counts, and at no other.

use blockstore::Buffer;
use rustix::fs::OFlags;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const BLOCK_BYTES: u64 = 4096;
const SUPERBLOCKS: [u64; 4] = [1, 2, 3, 4];

#[derive(Debug)]
pub(crate) struct Peek {
    file: File,
    page: Buffer,
    /// Blocks of the bitmap pages of the groups that the newest checkpoint wrote.
    bitmaps: Vec<u64>,
}

impl Peek {
    /// `None` while the newest checkpoint wrote no bitmap.
    pub(crate) fn new(path: &Path) -> Option<Self> {
        // Around the page cache, as the daemon goes itself; where that cannot be, memory is what both see.
        let direct = i32::try_from(OFlags::DIRECT.bits()).expect("a small flag");
        let file = File::options().read(true).custom_flags(direct).open(path);
        let file = file.or_else(|_| File::open(path)).expect("the pool is there");
        let mut peek = Self { file, page: Buffer::zeroed(4096), bitmaps: Vec::new() };
        let newest = peek.newest_superblock();
        peek.bitmaps = peek.all_bitmaps();
        let mut groups = Vec::new();
        for pair in peek.bitmaps.clone().chunks_exact(2) {
            if pair.iter().any(|block| peek.bitmap_generation(*block) == newest) {
                groups.extend(pair);
            }
        }
        peek.bitmaps = groups;
        (!peek.bitmaps.is_empty()).then_some(peek)
    }

    /// Nodes and bitmaps of a checkpoint are on their way, and no superblock names them yet.
    pub(crate) fn is_inside_checkpoint(&mut self) -> bool {
        // In this order: a superblock that follows makes the bitmap older, never newer.
        let bitmaps = self.bitmaps.clone();
        let newest = bitmaps.into_iter().map(|block| self.bitmap_generation(block)).max();
        newest > Some(self.newest_superblock())
    }

    fn newest_superblock(&mut self) -> u64 {
        let generations = SUPERBLOCKS.map(|block| {
            self.read(block);
            if self.page.starts_with(b"OFSTSUPR") { self.u64_at(40) } else { 0 }
        });
        generations.into_iter().max().expect("four of them")
    }

    fn bitmap_generation(&mut self, block: u64) -> u64 {
        self.read(block);
        if self.page.starts_with(b"OFSTBITS") { self.u64_at(48) } else { 0 }
    }

    /// The bitmap slots of all groups, two by two.
    fn all_bitmaps(&mut self) -> Vec<u64> {
        let superblock = SUPERBLOCKS.into_iter().find(|block| {
            self.read(*block);
            self.page.starts_with(b"OFSTSUPR")
        });
        superblock.expect("a pool has a superblock");
        let (end, start, length) = (self.u64_at(312), self.u64_at(320), self.u64_at(328));
        let group = u32::from_le_bytes(self.page[336..340].try_into().expect("four bytes"));
        let firsts = (start + length..end).step_by(usize::try_from(group).expect("small"));
        firsts.flat_map(|first| [first, first + 1]).filter(|block| *block < end).collect()
    }

    fn read(&mut self, block: u64) {
        self.file.read_exact_at(&mut self.page, block * BLOCK_BYTES).expect("a block of the pool");
    }

    fn u64_at(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.page[offset..offset + 8].try_into().expect("eight bytes"))
    }
}
