//! How far above a layer the owners of its foreign blocks are.

use super::Catalog;
use crate::ids::LayerId;
use crate::ownership::Interval;
use cow_tree::units::Tag;

/// The layers a layer depends on, as their tags tell them: a copy, true of the moment it was made.
#[derive(Debug, Default)]
pub(crate) struct Lineage {
    /// By line and first tag; none overlap. With each, its owner's depth: 2 for the nearest.
    owners: Vec<(Interval, u32)>,
}

impl Catalog {
    /// A layer is made later than what it depends on, so the nearest has the highest number.
    pub(crate) fn lineage(&self, id: LayerId) -> Lineage {
        let mut owners = Vec::new();
        let mut above = self.try_layer(id).map(|layer| layer.deps.clone()).unwrap_or_default();
        let mut depth = 2;
        while let Some(nearest) = above.pop_last() {
            let Some(layer) = self.try_layer(nearest) else { continue };
            layer.read(|body| {
                owners.extend(body.ownership.all_intervals().map(|interval| (interval, depth)));
            });
            above.extend(&layer.deps);
            depth += 1;
        }
        owners.sort_unstable_by_key(|(interval, _)| (interval.line, interval.low));
        Lineage { owners }
    }
}

impl Lineage {
    /// Of whom owns a foreign block. A layer that was just absorbed by another counts as the nearest.
    pub(crate) fn depth_of(&self, tag: Tag) -> u32 {
        let upto = self
            .owners
            .partition_point(|(interval, _)| (interval.line, interval.low) <= (tag.line, tag.sequence));
        let owner = upto.checked_sub(1).map(|index| &self.owners[index]);
        owner.filter(|(interval, _)| interval.contains(tag)).map_or(2, |(_, depth)| *depth)
    }
}
