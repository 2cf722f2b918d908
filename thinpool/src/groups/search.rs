//! Where in a group a run of free blocks is best taken: the placement rules within one group.
//!
//! A window that belongs to somebody is not marked anywhere. Others stay out of it because they look for wholly free
//! windows first, and because a run ends at the edge of its window unless the next window is wholly free.

use super::books::Books;
use std::ops::Range;

/// What a search may return at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted(pub(super) usize);

impl Books {
    /// A run that starts exactly at `at`, which must lie in the group.
    pub(super) fn find_at(&self, at: usize, wanted: Wanted) -> Option<Range<usize>> {
        (!self.working.contains(at)).then(|| at..self.run_end(at, wanted))
    }

    /// A run elsewhere in the window of `at`: after it if possible, else from the window's start.
    pub(super) fn find_beside(&self, at: usize, wanted: Wanted) -> Option<Range<usize>> {
        let window = self.window_of(at);
        let found = self.working.first_clear(at..window.end);
        let start = found.or_else(|| self.working.first_clear(window.start..at))?;
        Some(start..self.run_end(start, wanted))
    }

    /// A run at `offset` in a window that is wholly free.
    pub(super) fn find_in_new_window(&mut self, offset: usize, wanted: Wanted) -> Option<Range<usize>> {
        if self.windows_free == 0 {
            return None;
        }
        let windows = self.windows();
        let mut numbers = (self.window_cursor..windows).chain(0..self.window_cursor.min(windows));
        let number = numbers.find(|number| self.is_window_free(*number)).expect("a free window is counted");
        self.window_cursor = number + 1;
        let at = self.window.range(number).start + offset % self.window.blocks();
        Some(at..self.run_end(at, wanted))
    }

    /// The next free run, wherever it is.
    pub(super) fn find_anywhere(&mut self, wanted: Wanted) -> Option<Range<usize>> {
        let found = self.working.first_clear(self.block_cursor..self.length);
        let start = found.or_else(|| self.working.first_clear(0..self.block_cursor))?;
        let run = start..self.run_end(start, wanted);
        self.block_cursor = run.end;
        Some(run)
    }

    fn window_of(&self, at: usize) -> Range<usize> {
        let window = self.window.range(self.window.number_of(at));
        window.start..window.end.min(self.length)
    }

    /// Where a run that starts at the free block `at` ends.
    fn run_end(&self, at: usize, wanted: Wanted) -> usize {
        let limit = self.length.min(at.saturating_add(wanted.0));
        let mut end = at;
        loop {
            let edge = limit.min(self.window_of(end).end);
            if let Some(taken) = self.working.first_set(end..edge) {
                return taken;
            }
            end = edge;
            if end == limit || !self.is_window_free(self.window.number_of(end)) {
                return end;
            }
        }
    }
}
