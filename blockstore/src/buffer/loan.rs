//! Memory of somebody else, such as a guest's, that operations may read and write where it is.

use super::{Buffer, Region};
use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

/// A stretch of memory that [`Buffer`]s may be ranges of, though it is not this process's alone. Its buffers may
/// overlap. Each buffer counts on the loan: what several threads use often is better lent once a thread.
#[derive(Clone)]
pub struct Loan(Arc<Region>);

impl Loan {
    /// Lends `length` bytes from `pointer` on, which exist as long as `owner` does.
    ///
    /// # Safety
    /// As long as `owner` or a clone of it exists, the bytes can be read and written, and nothing in this process has a
    /// reference to any of them. Others, also other processes, may change them by pointer at any time: a copy of
    /// bytes that change is any mixture of old and new ones, and nothing is concluded from it.
    pub unsafe fn new(pointer: NonNull<u8>, length: usize, owner: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Arc::new(Region::lent(pointer, length, owner)))
    }

    /// A buffer of `length` bytes from `start` on; nothing when they are not all in the loan, or none.
    pub fn buffer(&self, start: usize, length: usize) -> Option<Buffer> {
        let end = start.checked_add(length).filter(|end| length > 0 && *end <= self.0.size());
        end.map(|_| Buffer { region: Some(self.0.clone()), start, length })
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Loan({} bytes)", self.0.size())
    }
}
