//! One allocation group: its kind, its bitmaps as far as they are in memory, and its counts.

use super::bitmap::Bitmap;
use super::books::{Books, NotInState, State, Step, Window};
use super::counts::{Share, Taken};
use super::entry::GroupEntry;
use super::presumption::{Contradiction, Presumption};
use super::shelves::{Shelf, Standing};
use super::{GroupKind, SLOT_BLOCKS};
use crate::geometry::Slot;
use std::ops::Range;
use std::sync::Arc;

/// An unread group this empty (one part in this many is free) is read for the sake of a free window.
const PROMISING_PART: u32 = 8;

#[derive(Debug)]
enum Contents {
    /// Nothing was ever allocated here; there is no page.
    Blank,
    /// The page has not been read and no record was about the group.
    Unread(GroupEntry),
    /// The page has not been read; records tell about some blocks.
    Presumed(GroupEntry, Box<Presumption>),
    Loaded(Box<Books>),
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    kind: Option<GroupKind>,
    length: usize,
    window: Window,
    taken: Taken,
    contents: Contents,
    /// The bitmap slot that counts in the newest frozen group table.
    slot: Option<Slot>,
    /// Differs from what the last freeze saw.
    dirty: bool,
    /// The device failed it: it is neither offered for use nor searched.
    withheld: bool,
    /// A block was taken or released since [`Group::calm`].
    stirred: bool,
}

/// The persistent half of a group at the moment of a freeze.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) kind: GroupKind,
    pub(super) bitmap: Arc<Bitmap>,
    pub(super) slot: Slot,
    pub(super) allocated: u32,
}

impl Group {
    pub(super) fn unused(length: usize, window: Window) -> Self {
        Self {
            kind: None,
            length,
            window,
            taken: Taken::default(),
            contents: Contents::Blank,
            slot: None,
            dirty: false,
            withheld: false,
            stirred: false,
        }
    }

    pub(super) fn stored(entry: GroupEntry, length: usize, window: Window) -> Self {
        Self {
            kind: Some(entry.kind),
            taken: Taken { allocated: entry.allocated, ..Taken::default() },
            contents: Contents::Unread(entry),
            slot: Some(entry.slot),
            ..Self::unused(length, window)
        }
    }

    pub(super) fn kind(&self) -> Option<GroupKind> {
        self.kind
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn capacity(&self) -> u32 {
        u32::try_from(self.length.saturating_sub(SLOT_BLOCKS)).expect("a group is short")
    }

    pub(super) fn free(&self) -> u32 {
        self.capacity() - self.taken.total()
    }

    pub(super) fn share(&self) -> Share {
        let withheld = self.withheld;
        Share {
            kind: self.kind,
            withheld,
            capacity: self.capacity(),
            taken: self.taken,
            kept: self.kept_blocks(),
        }
    }

    /// Windows of which nothing is taken, as far as is known.
    pub(super) fn windows_free(&self) -> usize {
        match &self.contents {
            Contents::Loaded(books) => books.windows_free,
            Contents::Blank | Contents::Unread(_) | Contents::Presumed(..) => 0,
        }
    }

    /// Free blocks for which the device holds space.
    fn kept_blocks(&self) -> u32 {
        match &self.contents {
            Contents::Loaded(books) => books.kept_blocks(),
            Contents::Presumed(_, presumption) => presumption.kept_blocks(),
            Contents::Blank | Contents::Unread(_) => 0,
        }
    }

    pub(super) fn is_loaded(&self) -> bool {
        matches!(self.contents, Contents::Loaded(_))
    }

    /// The entry whose page must be read before anything can be looked for here.
    pub(super) fn unread(&self) -> Option<&GroupEntry> {
        match &self.contents {
            Contents::Unread(entry) | Contents::Presumed(entry, _) => Some(entry),
            Contents::Blank | Contents::Loaded(_) => None,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        let standing = Standing::default()
            .with_if(Shelf::Withheld, self.withheld)
            .with_if(Shelf::Dirty, self.dirty)
            .with_if(Shelf::DirtyUnread, self.dirty && !self.is_loaded());
        let Some(kind) = self.kind else {
            return standing.with_if(Shelf::Unused, !self.withheld);
        };
        let free = self.free();
        let standing = standing.with_if(Shelf::Idle(kind), self.is_offered());
        match &self.contents {
            Contents::Loaded(books) => standing
                .with_if(Shelf::Windows(kind), books.windows_free > 0)
                .with_if(Shelf::Room(kind), free > 0)
                .with_if(Shelf::Kept, kind == GroupKind::Data && books.kept_blocks() > 0)
                .with_if(Shelf::KeptWindows, kind == GroupKind::Data && self.has_kept_window(books)),
            _ if self.withheld => standing,
            _ => standing
                .with_if(Shelf::Asleep(kind), free > 0)
                .with_if(Shelf::Promising(kind), free >= self.promising_free()),
        }
    }

    /// Whether a free window here is likely to be one of kept blocks.
    fn has_kept_window(&self, books: &Books) -> bool {
        let window = u32::try_from(self.window.blocks()).expect("a window is short");
        books.windows_free > 0 && books.kept_blocks() >= window
    }

    fn promising_free(&self) -> u32 {
        let window = u32::try_from(self.window.blocks()).expect("a window is short");
        window.max(self.capacity() / PROMISING_PART)
    }

    /// Gives the group a kind if nothing of it is taken; says whether it has that kind now.
    pub(super) fn adopt(&mut self, kind: GroupKind) -> bool {
        if self.kind == Some(kind) {
            return true;
        }
        if self.taken.total() != 0 {
            return false;
        }
        if !self.is_loaded() {
            // Its page, if there is one, is all zeros by count, so it need not be read.
            let mut books = Books::empty(self.length, self.window);
            if let Contents::Presumed(_, presumption) = &self.contents {
                books.keep_all(presumption.kept());
            }
            self.contents = Contents::Loaded(Box::new(books));
        }
        self.kind = Some(kind);
        self.withheld = false;
        self.dirty = true;
        true
    }

    pub(super) fn apply(&mut self, range: Range<usize>, step: Step) -> Result<(), NotInState> {
        let blocks = u32::try_from(range.len()).expect("a group is short");
        match &mut self.contents {
            Contents::Blank => return Err(NotInState),
            Contents::Unread(entry) => {
                let entry = *entry;
                let presumption = Presumption::new(&entry, self.capacity(), self.length, self.window);
                self.contents = Contents::Presumed(entry, Box::new(presumption));
                return self.apply(range, step);
            }
            Contents::Presumed(_, presumption) => presumption.apply(range, step)?,
            Contents::Loaded(books) => books.apply(range, step)?,
        }
        if let Some(left) = self.taken_mut(step.from) {
            *left -= blocks;
        }
        if let Some(entered) = self.taken_mut(step.to) {
            *entered += blocks;
        }
        self.dirty |= step.is_persistent();
        self.stirred |= step == Step::RESERVE;
        Ok(())
    }

    /// Blocks that have just become free are kept.
    pub(super) fn keep(&mut self, range: Range<usize>) {
        self.stirred = true;
        match &mut self.contents {
            Contents::Blank | Contents::Unread(_) => {}
            Contents::Presumed(_, presumption) => presumption.keep(range),
            Contents::Loaded(books) => books.keep(range),
        }
    }

    /// Whether nothing was taken or released since this was asked last.
    pub(super) fn calm(&mut self) -> bool {
        !std::mem::take(&mut self.stirred)
    }

    /// The first kept blocks, at most so many; `None` in a group that is not loaded.
    pub(super) fn first_kept(&self, blocks_max: usize) -> Option<Range<usize>> {
        let Contents::Loaded(books) = &self.contents else { return None };
        let range = books.kept().runs().next()?;
        Some(range.start..range.end.min(range.start + blocks_max))
    }

    fn taken_mut(&mut self, state: State) -> Option<&mut u32> {
        match state {
            State::Free => None,
            State::Reserved => Some(&mut self.taken.reserved),
            State::Allocated => Some(&mut self.taken.allocated),
            State::Quarantined => Some(&mut self.taken.quarantined),
        }
    }

    /// Reserves what `find` finds; nothing in a group that is not loaded.
    pub(super) fn reserve(
        &mut self,
        find: impl FnOnce(&mut Books) -> Option<Range<usize>>,
    ) -> Option<Range<usize>> {
        let Contents::Loaded(books) = &mut self.contents else {
            return None;
        };
        let range = find(books)?;
        self.apply(range.clone(), Step::RESERVE).expect("a search finds free blocks");
        Some(range)
    }

    /// Takes in the bitmap that was read. On a contradiction the group is withheld.
    pub(super) fn load(&mut self, page: &Bitmap) -> Result<(), Contradiction> {
        let books = match &self.contents {
            Contents::Blank | Contents::Loaded(_) => return Ok(()),
            Contents::Unread(_) => Ok(Books::new(page.clone(), Bitmap::empty(), self.length, self.window)),
            Contents::Presumed(_, presumption) => presumption.confirm(page),
        };
        self.withheld = books.is_err();
        self.contents = Contents::Loaded(Box::new(books?));
        Ok(())
    }

    /// Whether the group may be given a kind.
    pub(super) fn is_offered(&self) -> bool {
        self.taken.total() == 0 && !self.withheld
    }

    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    pub(super) fn withhold(&mut self) {
        self.withheld = true;
    }

    pub(super) fn offer(&mut self) {
        self.withheld = false;
    }

    /// The slot that does not count at this moment.
    pub(super) fn next_slot(&self) -> Slot {
        self.slot.map_or(Slot::First, Slot::other)
    }

    /// The persistent bitmap now, to be written to the slot that does not count at this moment.
    pub(super) fn freeze(&mut self) -> Held {
        let Contents::Loaded(books) = &self.contents else {
            panic!("a dirty group is loaded before it is frozen");
        };
        let slot = self.next_slot();
        self.slot = Some(slot);
        self.dirty = false;
        Held {
            kind: self.kind.expect("a group becomes dirty only after it was given a kind"),
            bitmap: Arc::clone(&books.persistent),
            slot,
            allocated: self.taken.allocated,
        }
    }

    pub(super) fn grow(&mut self, length: usize) {
        assert!(length >= self.length, "a group never becomes shorter");
        let before = self.capacity();
        self.length = length;
        let more = self.capacity() - before;
        match &mut self.contents {
            Contents::Blank | Contents::Unread(_) => {}
            Contents::Presumed(_, presumption) => presumption.grow(length, more),
            Contents::Loaded(books) => books.grow(length),
        }
    }

    /// The persistent bitmap, if it is in memory.
    pub(super) fn persistent(&self) -> Option<&Bitmap> {
        match &self.contents {
            Contents::Loaded(books) => Some(&books.persistent),
            Contents::Blank | Contents::Unread(_) | Contents::Presumed(..) => None,
        }
    }
}
