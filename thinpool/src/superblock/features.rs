//! Feature flags: what a build must know before it may read or write a pool.

use std::fmt;

/// Three words of flags. This build knows none yet, so every bit set is an unknown one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Features {
    /// May be ignored, even by writers, which zero what such a feature keeps in reserved bytes.
    pub compatible: u64,
    /// May be ignored by readers only.
    pub read_only_compatible: u64,
    /// May not be ignored.
    pub incompatible: u64,
}

const KNOWN_READ_ONLY_COMPATIBLE: u64 = 0;
const KNOWN_INCOMPATIBLE: u64 = 0;

impl Features {
    /// Bits for which the pool may only be read; 0 if it may be written.
    #[must_use]
    pub(crate) fn unknown_read_only_compatible(&self) -> u64 {
        self.read_only_compatible & !KNOWN_READ_ONLY_COMPATIBLE
    }

    pub(super) fn unknown_incompatible(&self) -> u64 {
        self.incompatible & !KNOWN_INCOMPATIBLE
    }
}

/// Numbers of the bits set in a word, as a message lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits(pub u64);

impl fmt::Display for Bits {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for bit in (0..u64::BITS).filter(|bit| self.0 >> bit & 1 == 1) {
            write!(out, "{separator}{bit}")?;
            separator = ", ";
        }
        Ok(())
    }
}
