//! The map itself: copies in and out.
//!
//! Operations in flight together may overlap (B1), and two threads that copy to and from the same bytes are a data
//! race. Each stretch of the map therefore has a lock of a small set, held while bytes of it are copied.

use crate::buffer::Buffer;
use memmap2::{MmapOptions, MmapRaw};
use parking_lot::RwLock;
use std::fs::File;
use std::io;
use std::ops::Range;

/// Bytes covered by one lock.
const STRETCH_BYTES: usize = 64 << 10;
/// A page: what follows it the processor foresees itself.
const PREFETCHED_BYTES_MAX: usize = 4096;
const LINE_BYTES: usize = 64;
/// Stretches this many apart share a lock.
const LOCKS: usize = 64;

pub(super) struct Map {
    /// `None` for a device without bytes, which cannot be mapped.
    raw: Option<MmapRaw>,
    locks: [RwLock<()>; LOCKS],
}

impl Map {
    pub(super) fn read_write(file: &File, length: usize) -> io::Result<Self> {
        Self::new(length, |options| options.map_raw(file))
    }

    pub(super) fn read_only(file: &File, length: usize) -> io::Result<Self> {
        Self::new(length, |options| options.map_raw_read_only(file))
    }

    fn new(length: usize, map: impl FnOnce(&MmapOptions) -> io::Result<MmapRaw>) -> io::Result<Self> {
        let raw = if length == 0 { None } else { Some(map(MmapOptions::new().len(length))?) };
        Ok(Self { raw, locks: [const { RwLock::new(()) }; LOCKS] })
    }

    /// Copies bytes at `offset` out. Every page of the range must have its place.
    pub(super) fn load(&self, offset: usize, buffer: &mut Buffer) {
        let start = self.start(offset, buffer.len());
        for part in stretches(offset, buffer.len()) {
            let _shared = self.locks[(offset + part.start) / STRETCH_BYTES % LOCKS].read();
            // SAFETY: `start` checked that the whole range is inside the map, and the part is inside the range.
            let from = unsafe { start.add(part.start) };
            let into = buffer.pointer_to(part.start, part.len());
            // SAFETY: `part.len()` bytes from `from` are inside the map, which `self` keeps, and as many from `into`
            // inside the buffer, which is no part of the map; whoever writes these bytes of the map holds the lock
            // exclusively, and the buffer's are the caller's alone, or lent and referred to by nobody.
            unsafe { from.copy_to_nonoverlapping(into.as_ptr(), part.len()) };
        }
    }

    /// Copies bytes in at `offset`. Every page of the range must have its place. The map must not be read-only.
    pub(super) fn store(&self, offset: usize, buffer: &Buffer) {
        let start = self.start(offset, buffer.len());
        for part in stretches(offset, buffer.len()) {
            let _alone = self.locks[(offset + part.start) / STRETCH_BYTES % LOCKS].write();
            // SAFETY: `start` checked that the whole range is inside the map, and the part is inside the range.
            let into = unsafe { start.add(part.start) };
            let from = buffer.pointer_to(part.start, part.len());
            // SAFETY: as above; nobody else touches these bytes of the map while the lock is held.
            unsafe { into.copy_from_nonoverlapping(from.as_ptr(), part.len()) };
        }
    }

    /// Has the processor fetch the beginning of a range that will be copied next, while it copies another. A copy of a page
    /// that is in no cache is mostly waiting, and the locks around each copy keep the processor from looking ahead itself.
    /// Nothing happens for bytes that are not in the map.
    pub(super) fn prefetch(&self, offset: u64, length: usize) {
        let Some(raw) = &self.raw else { return };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let length = length.min(PREFETCHED_BYTES_MAX);
        if offset.checked_add(length).is_some_and(|end| end <= raw.len()) {
            let start = raw.as_mut_ptr().wrapping_add(offset);
            (0..length).step_by(LINE_BYTES).for_each(|line| fetch(start.wrapping_add(line)));
        }
    }

    fn start(&self, offset: usize, length: usize) -> *mut u8 {
        let raw = self.raw.as_ref().expect("a device without bytes has no legal range");
        let end = offset.checked_add(length).expect("a range in memory");
        assert!(end <= raw.len(), "bytes {offset}..{end} are not in a map of {} bytes", raw.len());
        // SAFETY: `offset` is inside the map.
        unsafe { raw.as_mut_ptr().add(offset) }
    }
}

#[cfg(target_arch = "x86_64")]
fn fetch(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint reads and writes nothing, and every processor of this kind knows it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

/// There is no such hint in the language for this processor.
#[cfg(not(target_arch = "x86_64"))]
fn fetch(_line: *const u8) {}

/// The parts of a range that lie in one stretch each, counted from the range's start.
fn stretches(offset: usize, length: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == length {
            return None;
        }
        let start = at;
        at = length.min(start + STRETCH_BYTES - (offset + start) % STRETCH_BYTES);
        Some(start..at)
    })
}
