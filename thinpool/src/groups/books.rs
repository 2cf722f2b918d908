//! The state of every block of one group, as three bitmaps.
//!
//! | state | working | persistent | quarantined |
//! |---|---|---|---|
//! | free | 0 | 0 | 0 |
//! | reserved by a request in flight | 1 | 0 | 0 |
//! | allocated by a record | 1 | 1 | 0 |
//! | quarantined: freed, not yet reusable | 1 | 0 | 1 |
//!
//! A block is in exactly one state; a step moves a range from one to another and refuses a range that is not wholly in
//! the state it starts from. Bits of blocks that can never be handed out (the bitmap slots, and those past the end of
//! the group) are set in `working` alone, so that a search needs no bounds.
//!
//! A free block may be kept: the device still holds space for it, as whoever had it before has written it. Being kept is
//! no state; it ends when the block is taken.

use super::SLOT_BLOCKS;
use super::bitmap::{BLOCKS_MAX, Bitmap, masks};
use std::ops::Range;
use std::sync::Arc;

/// What a block is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Free,
    Reserved,
    Allocated,
    Quarantined,
}

/// One of the ways a block changes its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) from: State,
    pub(super) to: State,
}

impl Step {
    pub(super) const RESERVE: Step = Step { from: State::Free, to: State::Reserved };
    pub(super) const UNRESERVE: Step = Step { from: State::Reserved, to: State::Free };
    pub(super) const COMMIT: Step = Step { from: State::Reserved, to: State::Allocated };
    pub(super) const MARK: Step = Step { from: State::Free, to: State::Allocated };
    pub(super) const FREE: Step = Step { from: State::Allocated, to: State::Quarantined };
    pub(super) const RELEASE: Step = Step { from: State::Quarantined, to: State::Free };
    pub(super) const RECALL: Step = Step { from: State::Free, to: State::Quarantined };

    /// Whether the next checkpoint will write something else because of it.
    pub(super) fn is_persistent(self) -> bool {
        self.from == State::Allocated || self.to == State::Allocated
    }
}

/// The range is not wholly in the state that the step starts from. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotInState;

/// The grain of placement: that many blocks, aligned within their group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    shift: u32,
}

impl Window {
    pub(super) fn of_blocks(blocks: u32) -> Self {
        assert!(blocks.is_power_of_two(), "a window is a power of two of blocks, not {blocks}");
        Self { shift: blocks.trailing_zeros() }
    }

    pub(super) fn blocks(self) -> usize {
        1 << self.shift
    }

    pub(super) fn number_of(self, at: usize) -> usize {
        at >> self.shift
    }

    pub(super) fn range(self, number: usize) -> Range<usize> {
        number << self.shift..(number + 1) << self.shift
    }
}

/// The bitmaps of one group of `length` blocks.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) length: usize,
    pub(super) window: Window,
    /// Shared with the checkpoint that froze it; copied by the first change after that.
    pub(super) persistent: Arc<Bitmap>,
    pub(super) quarantined: Bitmap,
    pub(super) working: Bitmap,
    kept: Bitmap,
    kept_blocks: u32,
    /// Windows of which no bit is set in `working`.
    pub(super) windows_free: usize,
    /// Where the next search for a free window, and for any free block, begins.
    pub(super) window_cursor: usize,
    pub(super) block_cursor: usize,
}

impl Books {
    pub(super) fn empty(length: usize, window: Window) -> Self {
        Self::new(Bitmap::empty(), Bitmap::empty(), length, window)
    }

    pub(super) fn new(persistent: Bitmap, quarantined: Bitmap, length: usize, window: Window) -> Self {
        let mut working = persistent.clone();
        working.unite(&quarantined);
        working.insert(0..SLOT_BLOCKS);
        working.insert(length..BLOCKS_MAX);
        let mut books = Self {
            length,
            window,
            persistent: Arc::new(persistent),
            quarantined,
            working,
            kept: Bitmap::empty(),
            kept_blocks: 0,
            windows_free: 0,
            window_cursor: 0,
            block_cursor: 0,
        };
        books.count_windows();
        books
    }

    /// The blocks of one word that are in the state.
    pub(super) fn in_state(&self, word: usize, state: State) -> u64 {
        let (working, persistent) = (self.working.word(word), self.persistent.word(word));
        match state {
            State::Free => !working,
            State::Reserved => working & !persistent & !self.quarantined.word(word),
            State::Allocated => persistent,
            State::Quarantined => self.quarantined.word(word),
        }
    }

    pub(super) fn apply(&mut self, range: Range<usize>, step: Step) -> Result<(), NotInState> {
        if !masks(range.clone()).all(|(word, mask)| mask & !self.in_state(word, step.from) == 0) {
            return Err(NotInState);
        }
        match step.from {
            State::Free => self.take(range.clone()),
            State::Reserved => {}
            State::Allocated => Arc::make_mut(&mut self.persistent).remove(range.clone()),
            State::Quarantined => self.quarantined.remove(range.clone()),
        }
        match step.to {
            State::Free => self.give(range),
            State::Reserved => {}
            State::Allocated => Arc::make_mut(&mut self.persistent).insert(range),
            State::Quarantined => self.quarantined.insert(range),
        }
        Ok(())
    }

    /// Believes that these blocks, of which nothing was known, are allocated.
    pub(super) fn presume_allocated(&mut self, blocks: &[(usize, u64)]) {
        let persistent = Arc::make_mut(&mut self.persistent);
        for (word, mask) in blocks {
            persistent.insert_mask(*word, *mask);
            self.working.insert_mask(*word, *mask);
        }
        self.count_windows();
    }

    /// The group became longer: blocks after its old end can be handed out.
    pub(super) fn grow(&mut self, length: usize) {
        self.working.remove(self.length.max(SLOT_BLOCKS)..length.max(SLOT_BLOCKS));
        self.length = length;
        self.count_windows();
    }

    pub(super) fn windows(&self) -> usize {
        self.window.number_of(self.length)
    }

    pub(super) fn is_window_free(&self, number: usize) -> bool {
        number < self.windows() && self.working.is_clear(self.window.range(number))
    }

    /// These free blocks are kept from now on.
    pub(super) fn keep(&mut self, range: Range<usize>) {
        self.kept_blocks +=
            u32::try_from(range.len()).expect("a group is short") - self.kept.count_in(range.clone());
        self.kept.insert(range);
    }

    /// These free blocks, too.
    pub(super) fn keep_all(&mut self, blocks: &Bitmap) {
        blocks.runs().for_each(|range| self.keep(range));
    }

    /// Free blocks for which the device holds space.
    pub(super) fn kept(&self) -> &Bitmap {
        &self.kept
    }

    pub(super) fn kept_blocks(&self) -> u32 {
        self.kept_blocks
    }

    fn take(&mut self, range: Range<usize>) {
        self.windows_free -= self.free_windows_over(&range);
        self.kept_blocks -= self.kept.count_in(range.clone());
        self.kept.remove(range.clone());
        self.working.insert(range);
    }

    fn give(&mut self, range: Range<usize>) {
        self.working.remove(range.clone());
        self.windows_free += self.free_windows_over(&range);
    }

    fn free_windows_over(&self, range: &Range<usize>) -> usize {
        let numbers = self.window.number_of(range.start)..=self.window.number_of(range.end - 1);
        numbers.filter(|number| self.is_window_free(*number)).count()
    }

    fn count_windows(&mut self) {
        self.windows_free = (0..self.windows()).filter(|number| self.is_window_free(*number)).count();
    }
}
