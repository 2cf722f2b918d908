//! The in-flight region: what of a ring has been taken and not yet used, in memory that outlives this process.
//!
//! The layout is the vhost-user specification's for split rings ("Inflight I/O tracking"), little-endian, for each ring:
//!
//! ```text
//!   0  u64 features      8  u16 version    10  u16 entries    12  u16 last head of the batch    14  u16 used index
//!   16 entry[entries]:   0  u8 in flight    6  u16 next of the batch     8  u64 counter              (16 bytes each)
//! ```
//! Our batches are always one head; a back end that was here before may have used several at once. Whoever restarts finds, by
//! the used indexes of region and ring, how many heads of the last batch made it into the ring, and by `next` which.

use crate::limits::{QUEUE_SIZE_MAX, QUEUES_MAX};
use crate::memory::holds;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

const VERSION: u16 = 1;
/// The feature flags of a part; the specification gives them no meaning, monitors keep them.
const FLAGS_AT: usize = 0;
/// In the first part: the driver has switched the cache off.
const WRITE_THROUGH: u64 = 1;
const VERSION_AT: usize = 8;
const ENTRIES_AT: usize = 10;
const LAST_HEAD_AT: usize = 12;
const USED_AT: usize = 14;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16;
const NEXT_AT: usize = 6;
const COUNTER_AT: usize = 8;
/// Each ring's part begins on a cache line.
const ALIGNMENT: usize = 64;

/// How a region is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) queues: u16,
    pub(crate) entries: u16,
}

impl Layout {
    /// Nothing when it is no layout this door would make.
    pub(crate) fn new(queues: u16, entries: u16) -> Option<Self> {
        let possible = (1..=QUEUES_MAX).contains(&queues) && (1..=QUEUE_SIZE_MAX).contains(&entries);
        possible.then_some(Self { queues, entries })
    }

    fn part_bytes(self) -> usize {
        (HEADER_BYTES + usize::from(self.entries) * ENTRY_BYTES).next_multiple_of(ALIGNMENT)
    }

    pub(crate) fn bytes(self) -> usize {
        self.part_bytes() * usize::from(self.queues)
    }
}

/// The region of all rings of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Region {
    layout: Layout,
    mapping: Arc<MmapRegion>,
}

impl Region {
    /// A new region of zeros, and the file it is in, which can neither grow nor shrink any more.
    pub(crate) fn create(layout: Layout) -> io::Result<(Self, File)> {
        let file = memfd_create("vhost-inflight", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, u64::try_from(layout.bytes()).expect("it is bounded"))?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let file = File::from(file);
        Ok((Self::map(layout, file.try_clone()?, 0)?, file))
    }

    /// A region that comes back after a reconnect. A file that could still shrink would end this process with it.
    pub(crate) fn adopt(layout: Layout, file: File, offset: u64, bytes: u64) -> io::Result<Self> {
        let sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        let needed = u64::try_from(layout.bytes()).expect("it is bounded");
        if !sealed || bytes < needed || !holds(&file, offset, needed) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Self::map(layout, file, offset)
    }

    fn map(layout: Layout, file: File, offset: u64) -> io::Result<Self> {
        let mapping = MmapRegion::from_file(FileOffset::new(file, offset), layout.bytes());
        Ok(Self { layout, mapping: Arc::new(mapping.map_err(io::Error::other)?) })
    }

    /// Whether the driver had switched the cache off in an earlier life of this process (V5).
    pub(crate) fn is_write_through(&self) -> bool {
        let flags: u64 = self.mapping.as_volatile_slice().load(FLAGS_AT, Ordering::Acquire).expect(WITHIN);
        u64::from_le(flags) & WRITE_THROUGH != 0
    }

    pub(crate) fn note_write_through(&self, write_through: bool) {
        let flags = if write_through { WRITE_THROUGH } else { 0 };
        self.mapping.as_volatile_slice().store(flags.to_le(), FLAGS_AT, Ordering::Release).expect(WITHIN);
    }

    /// One ring's part; nothing when the region has none for it.
    pub(crate) fn part(&self, queue: u16, entries: u16) -> Option<InFlight> {
        let fits = queue < self.layout.queues && entries <= self.layout.entries;
        fits.then(|| InFlight {
            mapping: self.mapping.clone(),
            start: usize::from(queue) * self.layout.part_bytes(),
            entries: self.layout.entries,
            counter: 0,
        })
    }
}

/// One ring's part of the region.
#[derive(Debug)]
pub(crate) struct InFlight {
    mapping: Arc<MmapRegion>,
    start: usize,
    entries: u16,
    counter: u64,
}

impl InFlight {
    /// Whether no ring has ever used this part.
    pub(crate) fn is_new(&self) -> bool {
        self.load_u16(VERSION_AT) != VERSION
    }

    /// The heads that were taken and never used, in the order they were taken; `used` is the ring's used index.
    /// Afterwards the region agrees with the ring.
    pub(crate) fn recover(&mut self, used: u16) -> Vec<u16> {
        if self.is_new() || self.load_u16(ENTRIES_AT) != self.entries {
            self.initialise(used);
            return Vec::new();
        }
        self.clear_last_batch(used);
        let mut heads: Vec<(u64, u16)> = (0..self.entries)
            .filter(|head| self.load_u8(self.entry(*head)) == 1)
            .map(|head| (self.load_u64(self.entry(head) + COUNTER_AT), head))
            .collect();
        heads.sort_unstable();
        self.counter = heads.last().map_or(0, |(counter, _)| counter.wrapping_add(1));
        heads.into_iter().map(|(_, head)| head).collect()
    }

    /// Heads are used first and cleared afterwards: a death may have come in between. The list is as long as the used index is
    /// ahead, and no longer than the ring: a list that goes in circles or outside has an end.
    fn clear_last_batch(&mut self, used: u16) {
        let ahead = used.wrapping_sub(self.load_u16(USED_AT));
        let mut head = self.load_u16(LAST_HEAD_AT);
        for _ in 0..ahead.min(self.entries) {
            if head >= self.entries {
                break;
            }
            self.store_u8(self.entry(head), 0);
            head = self.load_u16(self.entry(head) + NEXT_AT);
        }
        self.store_u16(USED_AT, used);
    }

    fn initialise(&mut self, used: u16) {
        for head in 0..self.entries {
            self.store_u8(self.entry(head), 0);
        }
        self.store_u16(ENTRIES_AT, self.entries);
        self.store_u16(LAST_HEAD_AT, 0);
        self.store_u16(USED_AT, used);
        self.store_u16(VERSION_AT, VERSION);
    }

    /// Before a head is looked at.
    pub(crate) fn take(&mut self, head: u16) {
        let entry = self.entry(head);
        self.store_u64(entry + COUNTER_AT, self.counter);
        self.counter = self.counter.wrapping_add(1);
        fence(Ordering::Release);
        self.store_u8(entry, 1);
    }

    /// Before a head goes into the used ring.
    pub(crate) fn before_use(&self, head: u16) {
        self.store_u16(self.entry(head) + NEXT_AT, self.load_u16(LAST_HEAD_AT));
        self.store_u16(LAST_HEAD_AT, head);
        fence(Ordering::Release);
    }

    /// After it; `used` is the ring's used index by now.
    pub(crate) fn after_use(&self, head: u16, used: u16) {
        fence(Ordering::Release);
        self.store_u8(self.entry(head), 0);
        fence(Ordering::Release);
        self.store_u16(USED_AT, used);
    }

    fn entry(&self, head: u16) -> usize {
        HEADER_BYTES + usize::from(head) * ENTRY_BYTES
    }

    fn slice(&self) -> VolatileSlice<'_> {
        self.mapping.as_volatile_slice()
    }

    fn load_u8(&self, at: usize) -> u8 {
        self.slice().load(self.start + at, Ordering::Acquire).expect(WITHIN)
    }

    fn load_u16(&self, at: usize) -> u16 {
        u16::from_le(self.slice().load(self.start + at, Ordering::Acquire).expect(WITHIN))
    }

    fn load_u64(&self, at: usize) -> u64 {
        u64::from_le(self.slice().load(self.start + at, Ordering::Acquire).expect(WITHIN))
    }

    fn store_u8(&self, at: usize, value: u8) {
        self.slice().store(value, self.start + at, Ordering::Release).expect(WITHIN);
    }

    fn store_u16(&self, at: usize, value: u16) {
        self.slice().store(value.to_le(), self.start + at, Ordering::Release).expect(WITHIN);
    }

    fn store_u64(&self, at: usize, value: u64) {
        self.slice().store(value.to_le(), self.start + at, Ordering::Release).expect(WITHIN);
    }
}

const WITHIN: &str = "every entry is inside the mapping, whose layout was checked";

#[cfg(test)]
mod tests {
    use super::{InFlight, Layout, NEXT_AT, Region};

    fn part() -> (InFlight, Region) {
        let layout = Layout::new(2, 8).expect("small");
        let (region, _) = Region::create(layout).expect("made");
        let mut part = region.part(1, 8).expect("the second ring");
        assert_eq!(part.recover(7), Vec::<u16>::new(), "a new region has nothing in flight");
        (part, region)
    }

    fn reopened(region: &Region) -> InFlight {
        region.part(1, 8).expect("the second ring")
    }

    #[test]
    fn what_was_taken_and_not_used_comes_back_in_the_order_it_was_taken() {
        let (mut part, region) = part();
        for head in [5, 2, 7, 0] {
            part.take(head);
        }
        part.before_use(2);
        part.after_use(2, 8);
        assert_eq!(reopened(&region).recover(8), [5, 7, 0]);
    }

    #[test]
    fn a_death_between_use_and_clear_does_not_use_a_head_twice() {
        let (mut part, region) = part();
        part.take(3);
        part.take(4);
        part.before_use(3);
        // The ring's used index is 8 now; the region still says 7.
        assert_eq!(reopened(&region).recover(8), [4]);
    }

    /// As a back end does it that uses several heads before it clears the first.
    #[test]
    fn a_death_in_a_batch_of_several_uses_none_of_them_twice() {
        let (mut part, region) = part();
        for head in [6, 1, 4, 2, 0] {
            part.take(head);
        }
        for head in [1, 4, 0] {
            part.before_use(head);
        }
        // The ring's used index is 10 now; the region still says 7.
        let mut again = reopened(&region);
        assert_eq!(again.recover(10), [6, 2]);
        assert_eq!(again.recover(10), [6, 2], "the region agrees with the ring");
    }

    #[test]
    fn a_list_of_a_batch_that_goes_in_circles_or_outside_has_an_end() {
        for next in [3, 8, u16::MAX] {
            let (mut part, region) = part();
            part.take(3);
            part.take(5);
            part.before_use(3);
            part.store_u16(part.entry(3) + NEXT_AT, next);
            assert_eq!(reopened(&region).recover(6), [5], "{next}");
        }
    }

    #[test]
    fn a_death_before_the_use_brings_the_head_back() {
        let (mut part, region) = part();
        part.take(3);
        part.before_use(3);
        assert_eq!(reopened(&region).recover(7), [3]);
    }

    #[test]
    fn rings_do_not_see_each_other() {
        let (mut part, region) = part();
        part.take(1);
        let mut other = region.part(0, 8).expect("the first ring");
        assert_eq!(other.recover(0), Vec::<u16>::new());
        assert_eq!(reopened(&region).recover(7), [1]);
    }

    #[test]
    fn a_region_that_can_shrink_or_is_too_small_is_refused() {
        let layout = Layout::new(1, 8).expect("small");
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4096).expect("long enough");
        assert!(Region::adopt(layout, file, 0, 4096).is_err(), "no seals");
        let (_, file) = Region::create(layout).expect("made");
        assert!(Region::adopt(layout, file.try_clone().expect("cloned"), 0, 8).is_err());
        assert!(
            Region::adopt(layout, file.try_clone().expect("cloned"), 4096, 192).is_err(),
            "behind its end"
        );
        assert!(Region::adopt(layout, file, 0, 192).is_ok());
        assert_eq!((Layout::new(0, 8), Layout::new(1, 0), Layout::new(17, 8)), (None, None, None));
    }
}
