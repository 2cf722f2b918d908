//! Memory for transfers: owned, aligned to 4096 bytes, moved and never copied.
//!
//! A buffer is a range of a *region*. `split_off` cuts a buffer into two that share the region and never a byte, so
//! that a request may go to the device in pieces; `unsplit` joins neighbours again. The last buffer of a region gives
//! its memory to a small list of the thread, from which `zeroed` and `from_slice` take it, overwriting every byte
//! that becomes visible.

pub(crate) mod arena;
mod region;

use region::Region;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// Alignment of a buffer's memory in bytes, unless it was split elsewhere.
pub const BUFFER_ALIGNMENT: usize = 4096;

/// Owned aligned memory. Invariant: `start + length` is inside the region, and no other buffer has a byte of it.
pub struct Buffer {
    /// `None` only for a buffer made empty.
    region: Option<Arc<Region>>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// A buffer of `length` zero bytes.
    pub fn zeroed(length: usize) -> Self {
        if length == 0 {
            return Self { region: None, start: 0, length: 0 };
        }
        let (region, fresh) = Region::take(length);
        let mut buffer = Self { region: Some(region), start: 0, length };
        if !fresh {
            buffer.fill(0);
        }
        buffer
    }

    /// A buffer with a copy of these bytes.
    pub fn from_slice(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::zeroed(0);
        }
        // What lies behind the slice in the region belongs to no buffer and stays invisible.
        let (region, _) = Region::take(bytes.len());
        let mut buffer = Self { region: Some(region), start: 0, length: bytes.len() };
        buffer.copy_from_slice(bytes);
        buffer
    }

    /// Cuts the buffer at byte `at`: it keeps what is before, the result has the rest. Panics behind the end.
    pub fn split_off(&mut self, at: usize) -> Self {
        assert!(at <= self.length, "a buffer of {} bytes cannot be split at {at}", self.length);
        let tail = Self { region: self.region.clone(), start: self.start + at, length: self.length - at };
        self.length = at;
        tail
    }

    /// Joins a buffer with the neighbour it was split from. Panics unless `tail` begins where this one ends.
    pub fn unsplit(&mut self, tail: Self) {
        if self.region.is_none() {
            *self = tail;
            return;
        }
        if tail.region.is_none() {
            return;
        }
        let same = match (&self.region, &tail.region) {
            (Some(mine), Some(other)) => Arc::ptr_eq(mine, other),
            _ => false,
        };
        assert!(
            same && self.start + self.length == tail.start,
            "only neighbours of one region can be joined"
        );
        self.length += tail.length;
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether all bytes are zero.
    pub fn is_zero(&self) -> bool {
        is_zero(self)
    }

    fn start_pointer(&self) -> NonNull<u8> {
        match &self.region {
            // SAFETY: `start` is inside the region or at its end (invariant of the type).
            Some(region) => unsafe { region.pointer().add(self.start) },
            None => NonNull::dangling(),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let start = self.start_pointer();
        // SAFETY: the region's bytes are initialised, `length` bytes from `start` are inside it, and nobody else
        // writes them while this buffer is borrowed (invariant of the type).
        unsafe { slice::from_raw_parts(start.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let start = self.start_pointer();
        // SAFETY: as above; `&mut self` is the only way to these bytes, since no other buffer has them.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), self.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(region) = self.region.take() {
            Region::give_back(region);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Buffer({} bytes)", self.length)
    }
}

/// Whether all bytes are zero; looks at whole cache lines and stops at the first that is not.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (lines, rest) = bytes.as_chunks::<64>();
    lines.iter().all(|line| line.iter().fold(0, |or, byte| or | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests;
