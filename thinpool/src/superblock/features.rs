//! Feature flags: what a build must know before it may read or write a pool.

use std::fmt;

/// Three words of flags.
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
const KNOWN_INCOMPATIBLE: u64 = SEVERAL_DEVICES;

/// Incompatible bit 0: the pool has further devices.
const SEVERAL_DEVICES: u64 = 1;

impl Features {
    /// Bits for which the pool may only be read; 0 if it may be written.
    #[must_use]
    pub(crate) fn unknown_read_only_compatible(&self) -> u64 {
        self.read_only_compatible & !KNOWN_READ_ONLY_COMPATIBLE
    }

    pub(crate) fn set_several_devices(&mut self) {
        self.incompatible |= SEVERAL_DEVICES;
    }

    pub(super) fn has_several_devices(&self) -> bool {
        self.incompatible & SEVERAL_DEVICES != 0
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
