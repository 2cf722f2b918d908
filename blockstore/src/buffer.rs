//! Memory for transfers: owned, aligned to 4096 bytes, moved and never copied.
//!
//! A buffer is a range of a *region*. `split_off` cuts a buffer into two that share the region and never a byte, so
//! that a request may go to the device in pieces; `unsplit` joins neighbours again. The last buffer of a region gives
//! its memory to a small list of the thread, from which `zeroed` and `from_slice` take it, overwriting every byte
//! that becomes visible; `uncleared` leaves that to whoever asked for it.
//!
//! A region may also be a [`Loan`]: memory of somebody else, whose bytes change at any time. Nothing refers to lent
//! bytes; they are copied in and out. What must stay as it is while it is looked at is made the buffer's own first,
//! with [`Buffer::into_owned`].

pub(crate) mod arena;
mod loan;
mod region;

pub use loan::Loan;

use region::Region;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// Alignment of a buffer's memory in bytes, unless it was split elsewhere.
pub const BUFFER_ALIGNMENT: usize = 4096;

/// What an uncleared buffer is full of where assertions are on, so that a test sees a byte that nobody wrote.
const NOT_WRITTEN: u8 = 0xdb;

/// Owned aligned memory, or a loan. Invariant: `start + length` is inside the region, and unless that is lent, no other
/// buffer has a byte of it.
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

    /// A buffer of `length` bytes that are whatever they were before, for who overwrites them all before anybody looks: a
    /// read does, or fails. Clearing them first would cost as much as a read from memory.
    pub fn uncleared(length: usize) -> Self {
        if length == 0 {
            return Self::zeroed(0);
        }
        let (region, _) = Region::take(length);
        let mut buffer = Self { region: Some(region), start: 0, length };
        if cfg!(debug_assertions) {
            buffer.fill(NOT_WRITTEN);
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

    /// Whether its memory begins at a multiple of so many bytes, as a device may want it.
    pub fn is_aligned(&self, bytes: usize) -> bool {
        self.pointer_to(0, 0).addr().get().is_multiple_of(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether the memory is a [`Loan`]: its bytes cannot be referred to.
    pub fn is_lent(&self) -> bool {
        self.region.as_ref().is_some_and(|region| region.is_lent())
    }

    /// The same bytes in memory of the buffer's own: what is lent is copied, once.
    pub fn into_owned(self) -> Self {
        if self.is_lent() { self.copied() } else { self }
    }

    /// The same bytes once more, in memory of their own.
    pub(crate) fn copied(&self) -> Self {
        if self.is_empty() {
            return Self::zeroed(0);
        }
        // What lies behind them in the region belongs to no buffer and stays invisible.
        let (region, _) = Region::take(self.length);
        let mut copy = Self { region: Some(region), start: 0, length: self.length };
        self.copy_to(0, &mut copy);
        copy
    }

    /// Copies the bytes from `at` on out. Panics behind the end.
    pub fn copy_to(&self, at: usize, into: &mut [u8]) {
        let from = self.pointer_to(at, into.len());
        // SAFETY: `into.len()` bytes from `from` are inside the region. `into` is none of them: a buffer's own bytes
        // are borrowed through it only, and lent ones by nobody (promise of `Loan::new`).
        unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut *into).cast(), into.len()) }
    }

    /// Copies bytes in from `at` on. Panics behind the end.
    pub fn copy_from(&mut self, at: usize, from: &[u8]) {
        let into = self.pointer_to(at, from.len());
        // SAFETY: as above, the other way round; `&mut self` is the only way to bytes that are not lent.
        unsafe { into.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) }
    }

    /// Makes `length` bytes from `at` on zero. Panics behind the end.
    pub fn clear(&mut self, at: usize, length: usize) {
        let into = self.pointer_to(at, length);
        // SAFETY: `length` bytes from `into` are inside the region, and all bits zero is a byte.
        unsafe { into.write_bytes(0, length) }
    }

    /// Where the bytes from `at` on are, for whoever copies them by pointer. Panics unless `length` of them are there.
    pub(crate) fn pointer_to(&self, at: usize, length: usize) -> NonNull<u8> {
        let end = at.checked_add(length).expect("a range in memory");
        assert!(end <= self.length, "bytes {at}..{end} are not in a buffer of {} bytes", self.length);
        // SAFETY: `at` is inside the buffer or at its end.
        unsafe { self.start_pointer().add(at) }
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

/// Panics when the buffer is lent, both ways.
impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        assert!(!self.is_lent(), "{LENT}");
        let start = self.start_pointer();
        // SAFETY: the region's bytes are initialised, `length` bytes from `start` are inside it, and nobody else
        // writes them while this buffer is borrowed (invariant of the type).
        unsafe { slice::from_raw_parts(start.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        assert!(!self.is_lent(), "{LENT}");
        let start = self.start_pointer();
        // SAFETY: as above; `&mut self` is the only way to these bytes, since no other buffer has them.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), self.length) }
    }
}

const LENT: &str = "lent bytes change at any time: they are copied, not referred to";

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
