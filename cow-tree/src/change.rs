//! Changes of a map of blocks: mapping a run, unmapping a range, and asking beforehand what that takes.

use crate::edit::{Change, Merging};
use crate::extent_leaf::ExtentLeaf;
use crate::pointer::{Dropped, Mapping, Missing};
use crate::tree::{Nodes, Tree};
use crate::units::{LogicalBlock, Tag};
use std::ops::Range;

impl Tree<ExtentLeaf> {
    /// Whether everything a change of `range` must read is resident; an upper bound of the nodes one
    /// [`insert`](Self::insert) or [`remove`](Self::remove) over it can make.
    ///
    /// # Errors
    /// The first node that is not resident.
    pub fn prepare(
        &self,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        range: Range<LogicalBlock>,
    ) -> Result<usize, Missing> {
        let survey = self.survey(nodes, &(range.start.0..range.end.0))?;
        Ok(self.made_at_most(survey.visits))
    }

    /// Maps a run of blocks, in place of whatever its range maps. Pieces of older mappings, cut exactly at the
    /// range, are reported in `dropped`, and so is every node with a block that the tree no longer links to. A piece
    /// that maps the very blocks it mapped before is not reported: its blocks are still in use.
    ///
    /// # Errors
    /// [`Missing`] when a node is not resident; then nothing has changed.
    ///
    /// # Panics
    /// If the mapping is empty, or leaves the address space on either side.
    pub fn insert(
        &mut self,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        mapping: Mapping,
        writer: Tag,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), Missing> {
        assert!(mapping.length > 0, "a mapping maps something");
        assert!(mapping.address.can_hold(u64::from(mapping.length)), "mapped blocks lie on a device");
        let range = mapping.start.0..mapping.end().0;
        let change = Change { range, writer, merging: Merging::Allowed };
        let before = dropped.len();
        self.change(nodes, &change, Some(mapping), dropped)?;
        keep_used(&mapping, before, dropped);
        Ok(())
    }

    /// Unmaps `range`; what goes is reported as for [`insert`](Self::insert). A range that maps nothing changes
    /// nothing.
    ///
    /// # Errors
    /// [`Missing`] when a node is not resident; then nothing has changed.
    pub fn remove(
        &mut self,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        range: Range<LogicalBlock>,
        writer: Tag,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), Missing> {
        let range = range.start.0..range.end.0;
        if range.is_empty() {
            return Ok(());
        }
        self.change(nodes, &Change { range, writer, merging: Merging::Allowed }, None, dropped)
    }
}

/// Takes back what was reported from `before` on although `new` maps it to the same blocks.
fn keep_used(new: &Mapping, before: usize, dropped: &mut Vec<Dropped>) {
    let is_used = |item: &Dropped| match item {
        Dropped::Data(piece) => new.address_of(piece.start) == piece.address,
        Dropped::Node(_) => false,
    };
    let mut end = before;
    for index in before..dropped.len() {
        if !is_used(&dropped[index]) {
            dropped.swap(end, index);
            end += 1;
        }
    }
    dropped.truncate(end);
}
