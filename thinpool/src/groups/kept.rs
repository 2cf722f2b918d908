//! Free blocks for which the device still holds space: kept for whoever needs blocks next, as space that is there already
//! costs a write nothing, and given back once nobody has needed any for a while.
//!
//! Blocks on their way back to the device are quarantined: nobody gets them, and whoever finds nothing else waits for them.

use super::books::Step;
use super::shelves::Shelf;
use super::{GroupIndex, Groups, Run, index_at, number_of};
use cow_tree::units::{self, BlockCount};

impl Groups {
    /// The groups of data with kept blocks in which nobody took or released any since this was asked last.
    pub(crate) fn calm_kept(&mut self) -> Vec<GroupIndex> {
        let kept: Vec<usize> = self.shelves.all(Shelf::Kept).collect();
        kept.into_iter().filter(|number| self.groups[*number].calm()).map(index_at).collect()
    }

    /// The groups of data with kept blocks.
    pub(crate) fn all_kept(&self) -> Vec<GroupIndex> {
        self.shelves.all(Shelf::Kept).map(index_at).collect()
    }

    /// Quarantines kept blocks of a group of data: up to `runs_max` runs of at most `longest`. The device may take their
    /// space back until they are [released](Groups::release). Fewer runs: there are no more.
    pub(crate) fn recall(&mut self, index: GroupIndex, runs_max: usize, longest: BlockCount) -> Vec<Run> {
        let number = number_of(index);
        let longest = usize::try_from(longest.0).unwrap_or(usize::MAX);
        let mut runs = Vec::new();
        while runs.len() < runs_max && self.shelves.is_on(Shelf::Kept, number) {
            let range =
                self.groups[number].first_kept(longest).expect("a group on the shelf has kept blocks");
            let address = self.geometry.first_block(index).offset_by(units::length_of(range.start));
            runs.push(Run { address, length: BlockCount(units::length_of(range.len())) });
            let recalled = self.change(number, |group| group.apply(range, Step::RECALL));
            recalled.expect("kept blocks are free");
        }
        runs
    }
}
