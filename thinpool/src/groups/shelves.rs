//! Which groups are worth looking at for what, so that no search visits a group in vain.
//!
//! A group's standing is one bit per shelf; a shelf is the set of groups with that bit. A change of one group touches
//! only the shelves whose bit changed.

use super::GroupKind;
use std::ops::Range;

/// What a group may be good for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shelf {
    /// Loaded, with a window of which nothing is taken.
    Windows(GroupKind),
    /// Loaded, with a free block.
    Room(GroupKind),
    /// Bitmap not read yet, with a free block.
    Asleep(GroupKind),
    /// Asleep, and so empty that it may well have a free window.
    Promising(GroupKind),
    /// Has a kind, and nothing of it is taken.
    Idle(GroupKind),
    /// Has no kind.
    Unused,
    /// Differs from what the last freeze saw.
    Dirty,
    /// Dirty, but its bitmap has not been read.
    DirtyUnread,
    /// Neither offered for use nor searched.
    Withheld,
    /// Loaded data, with a free block for which the device holds space.
    Kept,
    /// On [`Shelf::Windows`] of data, with a window's worth of such blocks.
    KeptWindows,
}

const SHELVES: usize = 16;

impl Shelf {
    fn number(self) -> usize {
        let of = |first: usize, kind: GroupKind| match kind {
            GroupKind::Data => first,
            GroupKind::Metadata => first + 1,
        };
        match self {
            Shelf::Windows(kind) => of(0, kind),
            Shelf::Room(kind) => of(2, kind),
            Shelf::Asleep(kind) => of(4, kind),
            Shelf::Promising(kind) => of(6, kind),
            Shelf::Idle(kind) => of(8, kind),
            Shelf::Unused => 10,
            Shelf::Dirty => 11,
            Shelf::DirtyUnread => 12,
            Shelf::Withheld => 13,
            Shelf::Kept => 14,
            Shelf::KeptWindows => 15,
        }
    }
}

/// The shelves one group is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing(u16);

impl Standing {
    #[cfg(test)]
    pub(super) fn with(self, shelf: Shelf) -> Self {
        Self(self.0 | 1 << shelf.number())
    }

    pub(super) fn with_if(self, shelf: Shelf, holds: bool) -> Self {
        Self(self.0 | u16::from(holds) << shelf.number())
    }
}

/// A set of group numbers.
#[derive(Debug, Default)]
struct Set {
    words: Vec<u64>,
}

/// All shelves.
#[derive(Debug)]
pub(super) struct Shelves {
    sets: [Set; SHELVES],
}

impl Set {
    fn toggle(&mut self, group: usize) {
        if self.words.len() <= group / 64 {
            self.words.resize(group / 64 + 1, 0);
        }
        self.words[group / 64] ^= 1 << (group % 64);
    }

    fn first_from(&self, from: usize) -> Option<usize> {
        let first = from / 64;
        let mut mask = !0 << (from % 64);
        for (word, bits) in self.words.iter().enumerate().skip(first) {
            let hits = bits & mask;
            if hits != 0 {
                let bit = usize::try_from(hits.trailing_zeros()).expect("a bit number fits");
                return Some(word * 64 + bit);
            }
            mask = !0;
        }
        None
    }
}

impl Shelves {
    pub(super) fn new() -> Self {
        Self { sets: std::array::from_fn(|_| Set::default()) }
    }

    /// Moves a group from the shelves it was on to those it is on now.
    pub(super) fn shift(&mut self, group: usize, before: Standing, after: Standing) {
        let mut changed = before.0 ^ after.0;
        while changed != 0 {
            let shelf = usize::try_from(changed.trailing_zeros()).expect("a bit number fits");
            self.sets[shelf].toggle(group);
            changed &= changed - 1;
        }
    }

    /// The first group on the shelf at or after `from`, going round at the end.
    pub(super) fn next(&self, shelf: Shelf, from: usize) -> Option<usize> {
        let set = &self.sets[shelf.number()];
        set.first_from(from).or_else(|| set.first_from(0))
    }

    /// The same among some groups.
    pub(super) fn next_in(&self, shelf: Shelf, from: usize, groups: Range<usize>) -> Option<usize> {
        let set = &self.sets[shelf.number()];
        let at_or_after = |from: usize| set.first_from(from).filter(|group| *group < groups.end);
        at_or_after(from.max(groups.start)).or_else(|| at_or_after(groups.start))
    }

    pub(super) fn is_on(&self, shelf: Shelf, group: usize) -> bool {
        let words = &self.sets[shelf.number()].words;
        words.get(group / 64).is_some_and(|word| word >> (group % 64) & 1 == 1)
    }

    /// All groups on the shelf, in order.
    pub(super) fn all(&self, shelf: Shelf) -> impl Iterator<Item = usize> {
        self.all_in(shelf, 0..usize::MAX)
    }

    /// The same among some groups.
    pub(super) fn all_in(&self, shelf: Shelf, groups: Range<usize>) -> impl Iterator<Item = usize> {
        let set = &self.sets[shelf.number()];
        let mut from = groups.start;
        std::iter::from_fn(move || {
            let group = set.first_from(from).filter(|group| *group < groups.end)?;
            from = group + 1;
            Some(group)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Shelf, Shelves, Standing};
    use crate::groups::GroupKind;

    #[test]
    fn a_group_is_found_exactly_on_the_shelves_of_its_standing() {
        let mut shelves = Shelves::new();
        let nothing = Standing::default();
        let room = nothing.with(Shelf::Room(GroupKind::Data));
        shelves.shift(3, nothing, room.with(Shelf::Dirty));
        shelves.shift(200, nothing, room);
        assert_eq!(shelves.next(Shelf::Room(GroupKind::Data), 4), Some(200));
        assert_eq!(shelves.next(Shelf::Room(GroupKind::Data), 201), Some(3), "the search goes round");
        assert_eq!(shelves.next(Shelf::Room(GroupKind::Metadata), 0), None);
        shelves.shift(3, room.with(Shelf::Dirty), room.with_if(Shelf::Dirty, false));
        assert_eq!(shelves.next(Shelf::Dirty, 0), None);
        assert_eq!(shelves.all(Shelf::Room(GroupKind::Data)).collect::<Vec<_>>(), [3, 200]);
        let among = |from, groups| shelves.next_in(Shelf::Room(GroupKind::Data), from, groups);
        assert_eq!((among(0, 0..200), among(4, 0..200), among(4, 0..201)), (Some(3), Some(3), Some(200)));
        assert_eq!((among(0, 4..200), among(250, 4..300)), (None, Some(200)));
    }
}
