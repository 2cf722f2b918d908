//! One allocation that buffers are ranges of, and the thread's list of regions to use again.

use super::{BUFFER_ALIGNMENT, arena};
use std::alloc::{self, Layout};
use std::any::Any;
use std::cell::RefCell;
use std::ptr::NonNull;
use std::sync::Arc;

/// Regions larger than this go back to the allocator, in bytes.
const RECYCLED_BYTES_MAX: usize = 1 << 20;
/// Regions a thread keeps per size: with no more than so many bytes, and no more than so many; at most 24 MiB in all.
const RECYCLED_CLASS_BYTES_MAX: usize = 4 << 20;
const RECYCLED_COUNT_MAX: usize = 64;
/// 4, 8, 16, 32, 64, 128, 256, 512 KiB and 1 MiB.
const CLASSES: usize = 9;

thread_local! {
    static RECYCLED: RefCell<[Vec<Arc<Region>>; CLASSES]> = const { RefCell::new([const { Vec::new() }; CLASSES]) };
}

/// Initialised memory. Invariant: as its origin says.
pub(super) struct Region {
    pointer: NonNull<u8>,
    origin: Origin,
}

enum Origin {
    /// `pointer` was allocated with this layout, or is a place of that size in the arena; aligned to
    /// `BUFFER_ALIGNMENT`.
    Own(Layout),
    /// So many bytes from `pointer` on exist as long as their owner.
    Lent { length: usize, _owner: Arc<dyn Any + Send + Sync> },
}

// SAFETY: a region is plain memory of its own; who may touch which byte is settled by `Buffer`.
unsafe impl Send for Region {}
// SAFETY: as above; the region itself gives out no reference to its bytes.
unsafe impl Sync for Region {}

impl Region {
    /// A region of at least `length` bytes, and whether its bytes are zero.
    pub(super) fn take(length: usize) -> (Arc<Self>, bool) {
        let size = length.next_multiple_of(BUFFER_ALIGNMENT).max(BUFFER_ALIGNMENT);
        let Some(class) = class(size) else { return (Arc::new(Self::allocate(size)), true) };
        // A thread that is ending has no list any more.
        let old = RECYCLED.try_with(|lists| lists.borrow_mut()[class].pop()).ok().flatten();
        match old {
            Some(region) => (region, false),
            None => Self::anew(BUFFER_ALIGNMENT << class),
        }
    }

    /// Keeps the region for later if this was the last buffer of it.
    pub(super) fn give_back(mut region: Arc<Self>) {
        let Origin::Own(layout) = region.origin else { return };
        let Some(class) = class(layout.size()) else { return };
        if Arc::get_mut(&mut region).is_none() {
            return;
        }
        let keep = |lists: &RefCell<[Vec<Arc<Self>>; CLASSES]>| {
            let list = &mut lists.borrow_mut()[class];
            if list.len() < RECYCLED_COUNT_MAX.min(RECYCLED_CLASS_BYTES_MAX / (BUFFER_ALIGNMENT << class)) {
                list.push(region);
            }
        };
        // In an ending thread there is no list; the closure, and the region with it, is dropped unused.
        RECYCLED.try_with(keep).unwrap_or_default();
    }

    pub(super) fn pointer(&self) -> NonNull<u8> {
        self.pointer
    }

    /// In the arena if there is room.
    fn anew(size: usize) -> (Arc<Self>, bool) {
        match arena::take(size) {
            Some((pointer, fresh)) => (Arc::new(Self { pointer, origin: Origin::Own(layout(size)) }), fresh),
            None => (Arc::new(Self::allocate(size)), true),
        }
    }

    fn allocate(size: usize) -> Self {
        let layout = layout(size);
        // SAFETY: the layout's size is not zero, see `take`.
        let pointer = unsafe { alloc::alloc_zeroed(layout) };
        let Some(pointer) = NonNull::new(pointer) else { alloc::handle_alloc_error(layout) };
        Self { pointer, origin: Origin::Own(layout) }
    }

    /// Memory of somebody else; see [`Loan::new`](super::Loan::new).
    pub(super) fn lent(pointer: NonNull<u8>, length: usize, owner: Arc<dyn Any + Send + Sync>) -> Self {
        Self { pointer, origin: Origin::Lent { length, _owner: owner } }
    }

    pub(super) fn is_lent(&self) -> bool {
        matches!(self.origin, Origin::Lent { .. })
    }

    /// Bytes.
    pub(super) fn size(&self) -> usize {
        match &self.origin {
            Origin::Own(layout) => layout.size(),
            Origin::Lent { length, .. } => *length,
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let Origin::Own(layout) = self.origin else { return };
        if !arena::give_back(self.pointer, layout.size()) {
            // SAFETY: `pointer` came from `alloc_zeroed` with this layout, and this is the region's only drop.
            unsafe { alloc::dealloc(self.pointer.as_ptr(), layout) }
        }
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, BUFFER_ALIGNMENT).expect("a size in memory rounded to a page")
}

/// Which list a size belongs to: the smallest power of two that holds it.
fn class(size: usize) -> Option<usize> {
    if size > RECYCLED_BYTES_MAX {
        return None;
    }
    let pages = size.div_ceil(BUFFER_ALIGNMENT).next_power_of_two();
    Some(usize::try_from(pages.trailing_zeros()).expect("a bit number"))
}
