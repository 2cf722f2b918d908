//! After a failed flush: which blocks must not be read any more.
//!
//! Blocks first mapped since the last durable batch may have lost their data, so reading them could show another
//! volume's bytes. They read as errors, through whichever volume; everything else reads on.

use crate::codec;
use crate::core::Core;
use crate::record::{Change, Record};
use cow_tree::units::{BLOCK_BYTES_U64, BlockAddress};
use std::ops::Range;

/// Bytes of the device in doubt.
pub(crate) type Doubtful = Vec<Range<u64>>;

/// Finds the blocks mapped by records that are not durable. The caller holds the gate.
pub(crate) fn mark_doubtful(core: &Core) {
    let mut doubtful = core.doubtful.lock();
    let staged = core.in_commit.lock().iter().cloned().chain(core.staging.pending()).collect::<Vec<_>>();
    for staged in staged {
        if let Ok(Record::Update { changes, .. }) = codec::decode_record(&staged.bytes) {
            doubtful.extend(changes.iter().filter_map(mapped));
        }
    }
}

fn mapped(change: &Change) -> Option<Range<u64>> {
    match *change {
        Change::Map { length, address, .. } => {
            let start = BlockAddress(address).byte_offset();
            Some(start..start + u64::from(length) * BLOCK_BYTES_U64)
        }
        Change::Unmap { .. } => None,
    }
}

/// Whether any byte of a range of the device is in doubt.
pub(crate) fn is_doubtful(core: &Core, range: &Range<u64>) -> bool {
    core.is_poisoned()
        && core.doubtful.lock().iter().any(|doubt| doubt.start < range.end && range.start < doubt.end)
}
