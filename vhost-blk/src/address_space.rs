//! The address space that the maps of all connections share. A process has only so much of it, and one that asks for
//! memory and finds none ends: so what monitors may have is bounded, however little of it they fill.

use crate::limits::MAPPED_BYTES_MAX;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clones are the same space.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressSpace {
    /// Bytes.
    taken: Arc<AtomicU64>,
}

/// A part of the space, given back when it is dropped. To be dropped after its map.
#[derive(Debug)]
pub(crate) struct Share {
    space: AddressSpace,
    bytes: u64,
}

impl AddressSpace {
    /// Nothing when not so much is left.
    pub(crate) fn take(&self, bytes: u64) -> Option<Share> {
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= MAPPED_BYTES_MAX);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Share { space: self.clone(), bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.space.taken.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressSpace, MAPPED_BYTES_MAX};

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let space = AddressSpace::default();
        let most = space.take(MAPPED_BYTES_MAX - 4096).expect("an empty space");
        assert!(space.take(8192).is_none() && space.take(u64::MAX).is_none());
        let rest = space.clone().take(4096).expect("the rest");
        drop(most);
        assert!(space.take(MAPPED_BYTES_MAX).is_none(), "the rest is taken");
        drop(rest);
        assert!(space.take(MAPPED_BYTES_MAX).is_some());
    }
}
