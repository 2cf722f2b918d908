//! After a failed flush: which ranges must not be read any more.
//!
//! Blocks first mapped since the last durable batch may have lost their data, so reading them could show another
//! volume's bytes. They read as errors; everything else reads on.

use crate::core::Core;
use crate::record::{Change, Record};
use crate::{codec, ids::LayerId};
use std::collections::BTreeMap;
use std::ops::Range;

/// Logical blocks in doubt, by layer.
pub(crate) type Doubtful = BTreeMap<LayerId, Vec<Range<u64>>>;

/// Finds the ranges mapped by records that are not durable.
pub(crate) fn mark_doubtful(core: &Core) {
    let mut doubtful = core.doubtful.lock();
    let staged = core.in_commit.lock().iter().cloned().chain(core.staging.pending()).collect::<Vec<_>>();
    for staged in staged {
        if let Ok(Record::Update { layer, changes }) = codec::decode_record(&staged.bytes) {
            let ranges = doubtful.entry(LayerId(layer)).or_default();
            ranges.extend(changes.iter().filter_map(mapped));
        }
    }
}

fn mapped(change: &Change) -> Option<Range<u64>> {
    match *change {
        Change::Map { start, length, .. } => Some(start..start + u64::from(length)),
        Change::Unmap { .. } => None,
    }
}

/// Whether any byte of the range is in doubt.
pub(crate) fn is_doubtful(core: &Core, offset: u64, length: usize) -> bool {
    if !core.is_poisoned() {
        return false;
    }
    let first = offset / 4096;
    let end = (offset + u64::try_from(length).expect("a length")).div_ceil(4096);
    // A clone or snapshot shares the doubtful blocks of the layer it came from, so every layer's ranges count.
    core.doubtful.lock().values().flatten().any(|range| range.start < end && first < range.end)
}
