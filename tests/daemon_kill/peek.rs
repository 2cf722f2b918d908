//! Looks over the shoulder of a daemon that stands still, or is dead, into the pool's file: how far its superblocks are, and
//! how far its bitmaps. Places and fields are those of docs/FORMAT.md. A bitmap page that is newer than every superblock is
//! there from the moment a checkpoint has begun to write bitmaps until the moment it counts, and at no other.

use blockstore::Buffer;
use rustix::fs::OFlags;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const BLOCK_BYTES: u64 = 4096;
const SUPERBLOCKS: [u64; 4] = [1, 2, 3, 4];

/// Nodes and bitmaps of a checkpoint are on their way, and no superblock names them yet.
pub(crate) fn is_inside_checkpoint(pool: &Path) -> bool {
    let mut peek = Peek::new(pool);
    let bitmaps = peek.bitmap_slots();
    // In this order: what the device still ends makes a superblock newer.
    let newest = bitmaps.into_iter().map(|block| peek.bitmap_generation(block)).max();
    newest > Some(peek.newest_superblock())
}

struct Peek {
    file: File,
    page: Buffer,
}

impl Peek {
    fn new(path: &Path) -> Self {
        // Around the page cache, as the daemon goes itself; where that cannot be, memory is what both see.
        let direct = i32::try_from(OFlags::DIRECT.bits()).expect("a small flag");
        let file = File::options().read(true).custom_flags(direct).open(path);
        let file = file.or_else(|_| File::open(path)).expect("the pool is there");
        Self { file, page: Buffer::zeroed(4096) }
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

    /// Blocks of the bitmap slots of all groups, two of each.
    fn bitmap_slots(&mut self) -> Vec<u64> {
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
