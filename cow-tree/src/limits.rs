//! How many entries a node holds before it splits. Pages decide in production; tests and the crash explorer use two to
//! eight, so that every split and merge happens on trees one can look at.

use crate::page::{INNER_ENTRIES_MAX, RECORDS_MAX};

/// Fan-out of a tree. A page written under other limits is read all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    leaf: usize,
    inner: usize,
}

impl Limits {
    /// At most `leaf` entries in a leaf and `inner` links in an inner node, and never more than fit a page.
    ///
    /// # Panics
    /// If one of them is below two.
    #[must_use]
    pub fn new(leaf: usize, inner: usize) -> Self {
        assert!(leaf >= 2 && inner >= 2, "a node that splits leaves something in both halves");
        Self { leaf: leaf.min(RECORDS_MAX), inner: inner.min(INNER_ENTRIES_MAX) }
    }

    /// The same small fan-out at all levels.
    #[must_use]
    pub fn small(fan_out: usize) -> Self {
        Self::new(fan_out, fan_out)
    }

    pub(crate) fn leaf(self) -> usize {
        self.leaf
    }

    pub(crate) fn inner(self) -> usize {
        self.inner
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { leaf: RECORDS_MAX, inner: INNER_ENTRIES_MAX }
    }
}
