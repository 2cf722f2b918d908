//! The one place that decides whether an operation may reach a medium (B3). Every device asks it first, so that
//! they all refuse the same operations with the same errors, and what is refused has no effect.

use crate::error::IoError;
use crate::operation::Operation;

/// Every device has a size that is a multiple of this, in bytes, whatever the alignment of its transfers.
pub(crate) const SIZE_ALIGNMENT_BYTES: u64 = 4096;

/// What a device is at this moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// Bytes.
    pub(crate) size: u64,
    /// Bytes, a power of two.
    pub(crate) alignment: usize,
    pub(crate) read_only: bool,
    pub(crate) can_discard: bool,
}

/// Refuses what a device of this geometry cannot do.
pub(crate) fn check(operation: &Operation, geometry: &Geometry) -> Result<(), IoError> {
    if geometry.read_only && !matches!(operation, Operation::Read { .. } | Operation::Flush) {
        return Err(IoError::ReadOnly);
    }
    match operation {
        Operation::Read { offset, buffer } | Operation::Write { offset, buffer, .. } => {
            if !buffer.is_aligned(geometry.alignment) {
                return Err(IoError::Misaligned);
            }
            range(*offset, bytes(buffer.len()), geometry)
        }
        Operation::Discard { .. } if !geometry.can_discard => Err(IoError::Unsupported),
        Operation::Discard { offset, length }
        | Operation::WriteZeroes { offset, length }
        | Operation::Allocate { offset, length } => range(*offset, *length, geometry),
        Operation::Resize { length } if !length.is_multiple_of(SIZE_ALIGNMENT_BYTES) => {
            Err(IoError::Misaligned)
        }
        Operation::Resize { length } if i64::try_from(*length).is_err() => Err(IoError::OutOfRange),
        Operation::Resize { .. } | Operation::Flush => Ok(()),
    }
}

fn range(offset: u64, length: u64, geometry: &Geometry) -> Result<(), IoError> {
    let alignment = bytes(geometry.alignment);
    if length == 0 || !offset.is_multiple_of(alignment) || !length.is_multiple_of(alignment) {
        return Err(IoError::Misaligned);
    }
    match offset.checked_add(length) {
        Some(end) if end <= geometry.size => Ok(()),
        _ => Err(IoError::OutOfRange),
    }
}

/// A length in memory as a length on a device.
pub(crate) fn bytes(length: usize) -> u64 {
    u64::try_from(length).expect("a length in memory fits 64 bits")
}

/// A length on a device that was checked to fit memory.
pub(crate) fn memory(length: u64) -> usize {
    usize::try_from(length).expect("offshoot runs on 64-bit machines")
}
