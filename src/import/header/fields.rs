//! Numbers at fixed places of a header.

/// The bytes end before the field does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooShort;

/// The bytes of a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], TooShort> {
        self.0.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(TooShort)
    }

    pub(super) fn slice(self, at: usize, length: usize) -> Result<&'a [u8], TooShort> {
        let end = at.checked_add(length).ok_or(TooShort)?;
        self.0.get(at..end).ok_or(TooShort)
    }

    pub(super) fn be_u32(self, at: usize) -> Result<u32, TooShort> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(super) fn be_u64(self, at: usize) -> Result<u64, TooShort> {
        self.array(at).map(u64::from_be_bytes)
    }

    pub(super) fn le_u16(self, at: usize) -> Result<u16, TooShort> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn le_u32(self, at: usize) -> Result<u32, TooShort> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn le_u64(self, at: usize) -> Result<u64, TooShort> {
        self.array(at).map(u64::from_le_bytes)
    }
}

/// A count from a file as an index; one that no memory holds is the largest.
pub(super) fn index(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}
