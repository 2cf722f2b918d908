//! Memory of a tail: mapped, or the process's own.

use memmap2::MmapMut;
use std::fmt;
use std::ops::{Deref, DerefMut};

pub(super) enum Region {
    Mapped(MmapMut),
    Memory(Box<[u8]>),
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Region::Mapped(map) => map,
            Region::Memory(bytes) => bytes,
        }
    }
}

impl DerefMut for Region {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Region::Mapped(map) => map,
            Region::Memory(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Region({} bytes)", self.len())
    }
}
