//! What is known about a group whose bitmap has not been read yet.
//!
//! The first record about a block tells what the block must have been before: who frees it says that it was allocated,
//! who marks it says that it was free. So changes need no queue: they are made at once on bitmaps of which only the
//! `known` part counts, in memory that does not grow, and reading the page later checks what was presumed.

use super::bitmap::{Bitmap, WORDS, masks};
use super::books::{Books, NotInState, State, Step, Window};
use super::entry::GroupEntry;
use std::ops::Range;

/// The bitmaps of a group, as far as records since the last checkpoint tell.
#[derive(Debug)]
pub(super) struct Presumption {
    books: Books,
    /// Blocks some record was about.
    known: Bitmap,
    /// Those of them that must be set in the page.
    were_allocated: Bitmap,
    /// Blocks set in the page, and blocks clear in it, that no record was about.
    unseen_allocated: u32,
    unseen_free: u32,
}

/// The page says something else than the records took for granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contradiction;

impl Presumption {
    pub(super) fn new(entry: &GroupEntry, capacity: u32, length: usize, window: Window) -> Self {
        Self {
            books: Books::empty(length, window),
            known: Bitmap::empty(),
            were_allocated: Bitmap::empty(),
            unseen_allocated: entry.allocated,
            unseen_free: capacity - entry.allocated,
        }
    }

    pub(super) fn apply(&mut self, range: Range<usize>, step: Step) -> Result<(), NotInState> {
        let unknown = self.unknown_in(range.clone(), step.from)?;
        self.presume(range.clone(), step.from, unknown)?;
        self.books.apply(range, step)
    }

    /// How many blocks of the range no record was about; the others must be in the state.
    fn unknown_in(&self, range: Range<usize>, state: State) -> Result<u32, NotInState> {
        let mut unknown = 0;
        for (word, mask) in masks(range) {
            let known = self.known.word(word);
            if mask & known & !self.books.in_state(word, state) != 0 {
                return Err(NotInState);
            }
            unknown += (mask & !known).count_ones();
        }
        Ok(unknown)
    }

    fn presume(&mut self, range: Range<usize>, state: State, unknown: u32) -> Result<(), NotInState> {
        if unknown == 0 {
            return Ok(());
        }
        let unseen = match state {
            State::Free => &mut self.unseen_free,
            State::Allocated => &mut self.unseen_allocated,
            State::Reserved | State::Quarantined => return Err(NotInState),
        };
        *unseen = unseen.checked_sub(unknown).ok_or(NotInState)?;
        let fresh = |(word, mask)| (word, mask & !self.known.word(word));
        let fresh: Vec<(usize, u64)> = masks(range).map(fresh).collect();
        fresh.iter().for_each(|(word, mask)| self.known.insert_mask(*word, *mask));
        if state == State::Allocated {
            fresh.iter().for_each(|(word, mask)| self.were_allocated.insert_mask(*word, *mask));
            self.books.presume_allocated(&fresh);
        }
        Ok(())
    }

    /// These free blocks are kept from now on.
    pub(super) fn keep(&mut self, range: Range<usize>) {
        self.books.keep(range);
    }

    pub(super) fn kept_blocks(&self) -> u32 {
        self.books.kept_blocks()
    }

    pub(super) fn kept(&self) -> &Bitmap {
        self.books.kept()
    }

    pub(super) fn grow(&mut self, length: usize, more: u32) {
        self.books.grow(length);
        self.unseen_free += more;
    }

    /// The bitmaps, now that the page is read.
    pub(super) fn confirm(&self, page: &Bitmap) -> Result<Books, Contradiction> {
        let mut persistent = page.clone();
        for word in 0..WORDS {
            let known = self.known.word(word);
            if page.word(word) & known != self.were_allocated.word(word) {
                return Err(Contradiction);
            }
            persistent.remove_mask(word, known);
            persistent.insert_mask(word, self.books.persistent.word(word));
        }
        let quarantined = self.books.quarantined.clone();
        let mut books = Books::new(persistent, quarantined, self.books.length, self.books.window);
        books.keep_all(self.books.kept());
        Ok(books)
    }
}
