//! Memory the kernel knows beforehand: one piece for the whole process, registered with every ring, so that a
//! transfer to or from it need not look its pages up and pin them. It begins to exist with the first ring and is never
//! given back, so what a ring has registered is always there.

use super::BUFFER_ALIGNMENT;
use parking_lot::Mutex;
use std::alloc::{self, Layout};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::OnceLock;

/// Bytes of the arena. It is pinned, so it must not be large: it holds 4,096 transfers of 4 KiB.
const BYTES: usize = 16 << 20;
/// Larger pieces come from elsewhere: pinning their pages costs little beside their transfer.
const PLACE_BYTES_MAX: usize = 16 << 10;

static ARENA: OnceLock<Arena> = OnceLock::new();

/// Invariant: `base` points to `BYTES` bytes that were initialised when they were allocated and are never freed. A place
/// of a class is either in its list, or beyond `unused`, or taken by exactly one region.
#[derive(Debug)]
pub(crate) struct Arena {
    base: NonNull<u8>,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// By class: places that were given back.
    lists: Vec<Vec<NonNull<u8>>>,
    /// Everything from here on was never taken.
    unused: usize,
}

// SAFETY: the arena is plain memory; each place has one owner at a time, which the mutex hands out.
unsafe impl Send for Arena {}
// SAFETY: as above; a shared arena gives access to no byte.
unsafe impl Sync for Arena {}
// SAFETY: a pointer in a list is a place that nobody has.
unsafe impl Send for Free {}

/// The arena; the first call makes it.
pub(crate) fn establish() -> &'static Arena {
    ARENA.get_or_init(Arena::new)
}

/// A place of `size` bytes, a power of two of pages, and whether its bytes are zero. Nothing when there is no arena, or
/// no room in it.
pub(super) fn take(size: usize) -> Option<(NonNull<u8>, bool)> {
    ARENA.get().filter(|_| size <= PLACE_BYTES_MAX).and_then(|arena| arena.take(size))
}

/// Takes a place back; false when it is none of the arena's.
pub(super) fn give_back(place: NonNull<u8>, size: usize) -> bool {
    let arena = ARENA.get().filter(|arena| arena.range().contains(&place.addr().get()));
    arena.is_some_and(|arena| {
        arena.give_back(place, size);
        true
    })
}

impl Arena {
    fn new() -> Self {
        let layout = Layout::from_size_align(BYTES, BUFFER_ALIGNMENT).expect("constants that fit");
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { alloc::handle_alloc_error(layout) };
        Self { base, free: Mutex::default() }
    }

    fn take(&self, size: usize) -> Option<(NonNull<u8>, bool)> {
        let mut free = self.free.lock();
        if let Some(place) = free.list(size).pop() {
            return Some((place, false));
        }
        let start = free.unused;
        free.unused = start.checked_add(size).filter(|end| *end <= BYTES)?;
        // SAFETY: `start` is inside the arena, since its end is.
        Some((unsafe { self.base.add(start) }, true))
    }

    fn give_back(&self, place: NonNull<u8>, size: usize) {
        self.free.lock().list(size).push(place);
    }

    /// Its first byte and its length, to tell the kernel.
    pub(crate) fn memory(&self) -> (*mut u8, usize) {
        (self.base.as_ptr(), BYTES)
    }

    fn range(&self) -> Range<usize> {
        let start = self.base.addr().get();
        start..start + BYTES
    }

    /// Whether all of these bytes are the arena's.
    pub(crate) fn holds(&self, start: *const u8, length: usize) -> bool {
        let range = self.range();
        range.contains(&start.addr()) && length <= range.end - start.addr()
    }
}

impl Free {
    fn list(&mut self, size: usize) -> &mut Vec<NonNull<u8>> {
        let class = usize::try_from(size.trailing_zeros()).expect("a bit number");
        if self.lists.len() <= class {
            self.lists.resize_with(class + 1, Vec::new);
        }
        &mut self.lists[class]
    }
}

#[cfg(test)]
mod tests {
    use super::{Arena, BYTES};
    use std::collections::BTreeSet;

    #[test]
    fn places_do_not_overlap_and_come_back() {
        let arena = Arena::new();
        let mut taken = BTreeSet::new();
        while let Some((place, fresh)) = arena.take(8192) {
            assert!(fresh);
            assert!(taken.insert(place.addr().get()));
        }
        assert_eq!(taken.len(), BYTES / 8192);
        assert!(taken.iter().zip(taken.iter().skip(1)).all(|(one, next)| next - one >= 8192));
        assert!(arena.take(4096).is_none(), "all of it is in use");
    }

    #[test]
    fn a_place_that_was_used_is_not_taken_for_zeros() {
        let arena = Arena::new();
        let (place, fresh) = arena.take(4096).expect("there is room");
        assert!(fresh);
        arena.give_back(place, 4096);
        assert_eq!(arena.take(4096), Some((place, false)));
    }

    #[test]
    fn only_whole_pieces_of_the_arena_are_held_by_it() {
        let arena = Arena::new();
        let elsewhere = [0_u8; 64];
        assert!(!arena.holds(elsewhere.as_ptr(), 64));
        let (base, length) = arena.memory();
        let last = base.wrapping_add(length - 1);
        assert!(arena.holds(base, length) && arena.holds(last, 1));
        assert!(!arena.holds(base, length + 1) && !arena.holds(last, 2));
    }
}
