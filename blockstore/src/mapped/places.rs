//! Which pages of a mapped file have their place, so that touching them cannot fail. One bit a page: 32 MiB for a
//! device of 1 TiB. A set bit is a promise; a clear one only means "ask the kernel".

use crate::legality::memory;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes; the unit in which the file systems in question give places.
const PAGE_BYTES: u64 = 4096;
const BITS: usize = 64;

pub(super) struct Places {
    words: Vec<AtomicU64>,
}

impl Places {
    /// The pages that hold data now. Takes time in proportion to them.
    pub(super) fn find(file: &File, size: u64) -> io::Result<Self> {
        let words = memory(size.div_ceil(PAGE_BYTES)).div_ceil(BITS);
        let places = Self { words: std::iter::repeat_with(AtomicU64::default).take(words).collect() };
        let mut at = 0;
        while at < size {
            let data = match seek(file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno.into()),
            };
            at = seek(file, SeekFrom::Hole(data))?;
            places.add(data, at.min(size).saturating_sub(data));
        }
        Ok(places)
    }

    /// Whether the whole range has its place.
    pub(super) fn has(&self, offset: u64, length: u64) -> bool {
        // A page in part of the range counts as a whole: places are given by pages.
        let pages = memory(offset / PAGE_BYTES)..memory((offset + length).div_ceil(PAGE_BYTES));
        runs(pages).all(|(word, mask)| {
            self.words.get(word).is_some_and(|bits| bits.load(Ordering::Acquire) & mask == mask)
        })
    }

    /// The range has its place from now on.
    pub(super) fn add(&self, offset: u64, length: u64) {
        let pages = memory(offset / PAGE_BYTES)..memory((offset + length).div_ceil(PAGE_BYTES));
        for (word, mask) in runs(pages) {
            // What is behind the end of the map, as after a resize that could not be mapped, stays with the kernel.
            if let Some(bits) = self.words.get(word) {
                bits.fetch_or(mask, Ordering::Release);
            }
        }
    }

    /// The range may lose its place.
    pub(super) fn remove(&self, offset: u64, length: u64) {
        let pages = memory(offset / PAGE_BYTES)..memory((offset + length).div_ceil(PAGE_BYTES));
        for (word, mask) in runs(pages) {
            if let Some(bits) = self.words.get(word) {
                bits.fetch_and(!mask, Ordering::Release);
            }
        }
    }
}

/// The words that a range of pages touches, each with the bits of it.
fn runs(pages: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let words = pages.start / BITS..pages.end.div_ceil(BITS).max(pages.start / BITS);
    words.map(move |word| {
        let first = pages.start.saturating_sub(word * BITS).min(BITS);
        let last = (pages.end - word * BITS).min(BITS);
        (word, below(last) & !below(first))
    })
}

/// The lowest `count` bits of a word.
fn below(count: usize) -> u64 {
    if count >= BITS { u64::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES, Places, runs};
    use crate::legality::bytes;
    use proptest::prelude::{prop_assert_eq, proptest};
    use std::sync::atomic::AtomicU64;

    fn empty(pages: usize) -> Places {
        Places { words: std::iter::repeat_with(AtomicU64::default).take(pages.div_ceil(64)).collect() }
    }

    #[test]
    fn a_page_touched_in_part_counts_as_a_whole() {
        let places = empty(4);
        places.add(4096 + 512, 512);
        assert!(places.has(4096, 4096) && !places.has(0, 4097) && !places.has(8191, 2));
        places.remove(8191, 1);
        assert!(!places.has(4096, 512));
    }

    proptest! {
        #[test]
        fn runs_are_exactly_the_pages(start in 0_usize..300, count in 0_usize..300) {
            let mut bits = Vec::new();
            for (word, mask) in runs(start..start + count) {
                bits.extend((0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| word * 64 + bit));
            }
            prop_assert_eq!(bits, (start..start + count).collect::<Vec<_>>());
        }

        #[test]
        fn places_agree_with_a_set(changes in proptest::collection::vec((0_usize..200, 1_usize..100, proptest::bool::ANY), 0..20)) {
            let places = empty(300);
            let mut model = [false; 300];
            for (start, count, adds) in changes {
                let (offset, length) = (bytes(start) * PAGE_BYTES, bytes(count) * PAGE_BYTES);
                if adds { places.add(offset, length) } else { places.remove(offset, length) }
                model[start..start + count].fill(adds);
            }
            for (page, expected) in model.iter().enumerate() {
                prop_assert_eq!(places.has(bytes(page) * PAGE_BYTES, PAGE_BYTES), *expected);
            }
        }
    }
}
