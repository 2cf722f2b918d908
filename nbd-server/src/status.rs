//! Extents of a volume as block status descriptors of `base:allocation`.
//!
//! A block is reported as a hole only where the engine says it reads as zeros: a copier that trusts us must
//! never write zeros over data.

use crate::limits::STATUS_DESCRIPTORS_MAX;
use crate::proto::{STATE_HOLE, STATE_ZERO};
use crate::request::{Descriptors, Range};
use thinpool::{ExtentKind, ExtentStatus};

/// One descriptor: length in bytes, and the state flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) length: u32,
    pub(crate) flags: u32,
}

/// Descriptors from the start of `range` on, at least one, none empty, none behind the range, neighbours
/// different. `None` when the extents say nothing of the range's start.
pub(crate) fn describe(
    extents: &[ExtentStatus],
    range: Range,
    descriptors: Descriptors,
) -> Option<Vec<Descriptor>> {
    let most = match descriptors {
        Descriptors::One => 1,
        Descriptors::Many => STATUS_DESCRIPTORS_MAX,
    };
    let mut found: Vec<Descriptor> = Vec::with_capacity(extents.len().min(most));
    let mut left = range.length;
    for extent in extents {
        let length = u32::try_from(extent.length).map_or(left, |length| length.min(left));
        if length == 0 {
            continue;
        }
        let flags = match extent.kind {
            ExtentKind::Hole => STATE_HOLE | STATE_ZERO,
            ExtentKind::Own | ExtentKind::Shared => 0,
        };
        let is_full = found.len() == most;
        match found.last_mut() {
            Some(last) if last.flags == flags => last.length += length,
            _ if is_full => break,
            _ => found.push(Descriptor { length, flags }),
        }
        left -= length;
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::{Descriptor, describe};
    use crate::limits::STATUS_DESCRIPTORS_MAX;
    use crate::request::{Descriptors, Range};
    use proptest::prelude::{any, prop, proptest};
    use thinpool::{ExtentKind, ExtentStatus};

    fn extent(length: u64, kind: ExtentKind) -> ExtentStatus {
        ExtentStatus { length, kind }
    }

    #[test]
    fn own_and_shared_neighbours_are_one_descriptor() {
        let extents =
            [extent(4096, ExtentKind::Own), extent(8192, ExtentKind::Shared), extent(4096, ExtentKind::Hole)];
        let range = Range { offset: 0, length: 16384 };
        let (data, hole) = (Descriptor { length: 12288, flags: 0 }, Descriptor { length: 4096, flags: 3 });
        assert_eq!(describe(&extents, range, Descriptors::Many), Some(vec![data, hole]));
        assert_eq!(describe(&extents, range, Descriptors::One), Some(vec![data]));
        assert_eq!(describe(&[], range, Descriptors::One), None);
    }

    #[test]
    fn cve_2025_47711_and_47712_an_extent_longer_than_32_bits_is_cut_to_the_request() {
        for length in [u32::MAX - 511, 512, 1 << 31] {
            let range = Range { offset: 0, length };
            for whole in [u64::from(u32::MAX) + 1, u64::from(length), 1 << 62, u64::MAX] {
                let found = describe(&[extent(whole, ExtentKind::Hole)], range, Descriptors::Many);
                assert_eq!(found, Some(vec![Descriptor { length, flags: 3 }]));
            }
        }
    }

    #[test]
    fn a_reply_has_at_most_its_bound_of_descriptors() {
        let extents: Vec<_> = (0..STATUS_DESCRIPTORS_MAX + 5)
            .map(|i| extent(512, if i % 2 == 0 { ExtentKind::Own } else { ExtentKind::Hole }))
            .collect();
        let range = Range { offset: 0, length: u32::MAX - 511 };
        let found = describe(&extents, range, Descriptors::Many).expect("some");
        assert_eq!(found.len(), STATUS_DESCRIPTORS_MAX);
    }

    proptest! {
        #[test]
        fn descriptors_keep_the_promises_of_the_protocol(
            extents in prop::collection::vec((any::<u64>(), 0u8..3), 0..50), sectors in 1u32..8_388_607,
        ) {
            let range = Range { offset: 0, length: sectors * 512 };
            let extents: Vec<_> = extents.into_iter().map(|(length, kind)| extent(length, match kind {
                0 => ExtentKind::Hole,
                1 => ExtentKind::Own,
                _ => ExtentKind::Shared,
            })).collect();
            let found = describe(&extents, range, Descriptors::Many).unwrap_or_default();
            let total: u64 = found.iter().map(|one| u64::from(one.length)).sum();
            assert!(total <= u64::from(range.length));
            assert!(found.iter().all(|one| one.length > 0));
            assert!(found.windows(2).all(|pair| pair[0].flags != pair[1].flags));
        }
    }
}
