//! One bit per block of a group, searched a word at a time.
//!
//! Positions count blocks from the start of the group; ranges are half-open.

use std::fmt;
use std::ops::Range;

/// Blocks of the longest group: the bits of one page after its header.
pub(crate) const BLOCKS_MAX: usize = 32_256;

/// Words of one bitmap.
pub(super) const WORDS: usize = BLOCKS_MAX / 64;

/// A set of blocks of one group.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bitmap {
    words: [u64; WORDS],
}

/// The words a range touches, each with the mask of its bits that are in the range.
pub(super) fn masks(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let Range { start, end } = range;
    (start / 64..end.div_ceil(64)).map(move |word| {
        let low = if word == start / 64 { !0 << (start % 64) } else { !0 };
        let high = if word == end / 64 { !(!0 << (end % 64)) } else { !0 };
        (word, low & high)
    })
}

fn lowest(word: usize, hits: u64) -> usize {
    word * 64 + usize::try_from(hits.trailing_zeros()).expect("a bit number fits")
}

impl Bitmap {
    pub(super) fn empty() -> Self {
        Self { words: [0; WORDS] }
    }

    pub(super) fn from_words(words: [u64; WORDS]) -> Self {
        Self { words }
    }

    pub(super) fn words(&self) -> &[u64; WORDS] {
        &self.words
    }

    pub(super) fn word(&self, word: usize) -> u64 {
        self.words[word]
    }

    pub(crate) fn contains(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    pub(super) fn insert(&mut self, range: Range<usize>) {
        masks(range).for_each(|(word, mask)| self.words[word] |= mask);
    }

    pub(super) fn remove(&mut self, range: Range<usize>) {
        masks(range).for_each(|(word, mask)| self.words[word] &= !mask);
    }

    pub(super) fn insert_mask(&mut self, word: usize, mask: u64) {
        self.words[word] |= mask;
    }

    pub(super) fn remove_mask(&mut self, word: usize, mask: u64) {
        self.words[word] &= !mask;
    }

    pub(super) fn unite(&mut self, other: &Bitmap) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, more)| *word |= more);
    }

    pub(super) fn is_clear(&self, range: Range<usize>) -> bool {
        masks(range).all(|(word, mask)| self.words[word] & mask == 0)
    }

    pub(super) fn first_set(&self, range: Range<usize>) -> Option<usize> {
        masks(range).find_map(|(word, mask)| {
            let hits = self.words[word] & mask;
            (hits != 0).then(|| lowest(word, hits))
        })
    }

    pub(super) fn first_clear(&self, range: Range<usize>) -> Option<usize> {
        masks(range).find_map(|(word, mask)| {
            let hits = !self.words[word] & mask;
            (hits != 0).then(|| lowest(word, hits))
        })
    }

    /// How many blocks of the range are in the set.
    pub(super) fn count_in(&self, range: Range<usize>) -> u32 {
        masks(range).map(|(word, mask)| (self.words[word] & mask).count_ones()).sum()
    }

    /// How many blocks are in the set.
    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The set as maximal runs, in order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = self.first_set(from..BLOCKS_MAX)?;
            let end = self.first_clear(start..BLOCKS_MAX).unwrap_or(BLOCKS_MAX);
            from = end;
            Some(start..end)
        })
    }
}

impl fmt::Debug for Bitmap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.runs()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCKS_MAX, Bitmap};

    #[test]
    fn ranges_across_words_are_set_cleared_and_found() {
        let mut bitmap = Bitmap::empty();
        bitmap.insert(60..200);
        bitmap.insert(BLOCKS_MAX - 1..BLOCKS_MAX);
        assert_eq!(bitmap.count(), 141);
        assert_eq!((bitmap.count_in(0..61), bitmap.count_in(100..300), bitmap.count_in(60..60)), (1, 100, 0));
        assert_eq!(bitmap.first_set(0..BLOCKS_MAX), Some(60));
        assert_eq!(bitmap.first_set(0..60), None);
        assert_eq!(bitmap.first_clear(64..BLOCKS_MAX), Some(200));
        assert_eq!(bitmap.first_clear(64..128), None);
        bitmap.remove(64..128);
        assert!(bitmap.is_clear(64..128));
        assert!(!bitmap.is_clear(63..128));
        assert_eq!(bitmap.runs().collect::<Vec<_>>(), [60..64, 128..200, BLOCKS_MAX - 1..BLOCKS_MAX]);
    }

    #[test]
    fn an_empty_range_touches_nothing() {
        let mut bitmap = Bitmap::empty();
        for at in [0, 5, 64, BLOCKS_MAX] {
            bitmap.insert(at..at);
            assert_eq!(bitmap.first_clear(at..at), None);
        }
        assert_eq!(bitmap.count(), 0);
    }
}
