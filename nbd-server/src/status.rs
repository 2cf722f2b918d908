//! Runs of a volume as block status descriptors of one metadata context.
//!
//! A block is reported as a hole only where the engine says it reads as zeros: a copier that trusts us must
//! never write zeros over data.

use crate::contexts::{self, Context};
use crate::limits::STATUS_DESCRIPTORS_MAX;
use crate::request::{Descriptors, Range};
use thinpool::{ChangeStatus, ExtentStatus};

/// One descriptor: length in bytes, and the flags of its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) length: u64,
    pub(crate) flags: u32,
}

/// What extents say in a context that is made of them.
pub(crate) fn of_extents(
    extents: &[ExtentStatus],
    context: &Context,
    range: Range,
    descriptors: Descriptors,
) -> Option<Vec<Descriptor>> {
    let run = |extent: &ExtentStatus| Descriptor { length: extent.length, flags: context.flags(extent.kind) };
    describe(extents.iter().map(run), range, descriptors)
}

/// What has changed since a snapshot.
pub(crate) fn of_changes(
    changes: &[ChangeStatus],
    range: Range,
    descriptors: Descriptors,
) -> Option<Vec<Descriptor>> {
    let run = |change: &ChangeStatus| Descriptor {
        length: change.length,
        flags: contexts::changed(change.changed),
    };
    describe(changes.iter().map(run), range, descriptors)
}

/// Descriptors from the start of `range` on, at least one, none empty, none behind the range, neighbours
/// different. `None` when the runs say nothing of the range's start.
fn describe(
    runs: impl Iterator<Item = Descriptor>,
    range: Range,
    descriptors: Descriptors,
) -> Option<Vec<Descriptor>> {
    let most = match descriptors {
        Descriptors::One => 1,
        Descriptors::Many => STATUS_DESCRIPTORS_MAX,
    };
    let mut found: Vec<Descriptor> = Vec::new();
    let mut left = range.length;
    for run in runs {
        let length = run.length.min(left);
        if length == 0 {
            continue;
        }
        let is_full = found.len() == most;
        match found.last_mut() {
            Some(last) if last.flags == run.flags => last.length += length,
            _ if is_full => break,
            _ => found.push(Descriptor { length, flags: run.flags }),
        }
        left -= length;
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::{Descriptor, of_changes, of_extents};
    use crate::contexts::Context;
    use crate::limits::STATUS_DESCRIPTORS_MAX;
    use crate::request::{Descriptors, Range};
    use proptest::prelude::{any, prop, proptest};
    use thinpool::{ChangeStatus, ExtentKind, ExtentStatus};

    fn describe(extents: &[ExtentStatus], range: Range, descriptors: Descriptors) -> Option<Vec<Descriptor>> {
        of_extents(extents, &Context::Allocation, range, descriptors)
    }

    fn extent(length: u64, kind: ExtentKind) -> ExtentStatus {
        ExtentStatus { length, kind }
    }

    #[test]
    fn own_and_shared_neighbours_are_one_descriptor() {
        let extents = [
            extent(4096, ExtentKind::Own),
            extent(8192, ExtentKind::Shared { depth: 2 }),
            extent(4096, ExtentKind::Hole),
        ];
        let range = Range { offset: 0, length: 16384 };
        let (data, hole) = (Descriptor { length: 12288, flags: 0 }, Descriptor { length: 4096, flags: 3 });
        assert_eq!(describe(&extents, range, Descriptors::Many), Some(vec![data, hole]));
        assert_eq!(describe(&extents, range, Descriptors::One), Some(vec![data]));
        assert_eq!(describe(&[], range, Descriptors::One), None);
    }

    #[test]
    fn each_context_joins_what_is_the_same_in_it() {
        let extents = [
            extent(4096, ExtentKind::Own),
            extent(4096, ExtentKind::Shared { depth: 2 }),
            extent(4096, ExtentKind::Shared { depth: 3 }),
        ];
        let range = Range { offset: 0, length: 1 << 40 };
        let flags = |context| {
            let found = of_extents(&extents, &context, range, Descriptors::Many).expect("some");
            found.iter().map(|one| (one.length / 4096, one.flags)).collect::<Vec<_>>()
        };
        assert_eq!(flags(Context::Allocation), [(3, 0)]);
        assert_eq!(flags(Context::Shared), [(1, 0), (2, 1)]);
        assert_eq!(flags(Context::Depth), [(1, 1), (1, 2), (1, 3)]);
        let changes = [(512, false), (512, true), (1024, true)]
            .map(|(length, changed)| ChangeStatus { length, changed });
        let found = of_changes(&changes, Range { offset: 0, length: 1536 }, Descriptors::Many);
        let expected = [(512, 0), (1024, 1)].map(|(length, flags)| Descriptor { length, flags });
        assert_eq!(found, Some(expected.to_vec()));
    }

    #[test]
    fn cve_2025_47711_and_47712_an_extent_longer_than_32_bits_is_cut_to_the_request() {
        for length in [u64::from(u32::MAX) - 511, 512, 1 << 31] {
            let range = Range { offset: 0, length };
            for whole in [u64::from(u32::MAX) + 1, length, 1 << 62, u64::MAX] {
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
        let range = Range { offset: 0, length: u64::from(u32::MAX) - 511 };
        let found = describe(&extents, range, Descriptors::Many).expect("some");
        assert_eq!(found.len(), STATUS_DESCRIPTORS_MAX);
    }

    proptest! {
        #[test]
        fn descriptors_keep_the_promises_of_the_protocol(
            extents in prop::collection::vec((any::<u64>(), 0u8..5), 0..50), sectors in 1u64..8_388_607,
        ) {
            let range = Range { offset: 0, length: sectors * 512 };
            let extents: Vec<_> = extents.into_iter().map(|(length, kind)| extent(length, match kind {
                0 => ExtentKind::Hole,
                1 => ExtentKind::Own,
                _ => ExtentKind::Shared { depth: u32::from(kind) },
            })).collect();
            let found = describe(&extents, range, Descriptors::Many).unwrap_or_default();
            let total: u64 = found.iter().map(|one| one.length).sum();
            assert!(total <= range.length);
            assert!(found.iter().all(|one| one.length > 0));
            assert!(found.windows(2).all(|pair| pair[0].flags != pair[1].flags));
        }
    }
}
