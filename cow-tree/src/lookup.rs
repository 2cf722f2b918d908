//! Questions about the map: what a block maps to, what comes next, what lies beside it.

use crate::descend::NO_BOUND;
use crate::extent_leaf::ExtentLeaf;
use crate::pointer::{Mapping, Missing};
use crate::tree::{Nodes, Tree};
use crate::units::LogicalBlock;

/// What lies at a logical block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The whole extent the block is in.
    Mapped(Mapping),
    /// The largest range around the block that maps nothing; `end` is `u64::MAX` behind the last extent.
    Hole { start: LogicalBlock, end: LogicalBlock },
}

impl Tree<ExtentLeaf> {
    /// What the block `at` maps to.
    ///
    /// # Errors
    /// [`Missing`] when a node on the way is not resident.
    pub fn lookup(
        &self,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        at: LogicalBlock,
    ) -> Result<Found, Missing> {
        self.lookup_counted(nodes, at).map(|(found, _)| found)
    }

    /// The same, and how many nodes were looked at.
    ///
    /// # Errors
    /// [`Missing`] when a node on the way is not resident.
    pub fn lookup_counted(
        &self,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        at: LogicalBlock,
    ) -> Result<(Found, usize), Missing> {
        let Some(spot) = self.spot(nodes, at.0)? else {
            return Ok((Found::Hole { start: LogicalBlock(0), end: LogicalBlock(NO_BOUND) }, 0));
        };
        let leaf = spot.leaf();
        let after = leaf.after(at.0);
        let before = after.checked_sub(1).map(|index| leaf.mapping(index));
        let found = match before {
            Some(mapping) if at < mapping.end() => Found::Mapped(mapping),
            _ => Found::Hole {
                start: before.map_or(LogicalBlock(0), |mapping| mapping.end()),
                end: leaf.get(after).map_or(LogicalBlock(spot.bound), |mapping| mapping.start),
            },
        };
        Ok((found, spot.visits))
    }

    /// The first mapping that ends behind `from`.
    ///
    /// # Errors
    /// [`Missing`] when a node on the way is not resident.
    pub fn next(
        &self,
        nodes: &(impl Nodes<ExtentLeaf> + ?Sized),
        from: LogicalBlock,
    ) -> Result<Option<Mapping>, Missing> {
        let mut at = from;
        loop {
            let Some(spot) = self.spot(nodes, at.0)? else { return Ok(None) };
            let leaf = spot.leaf();
            let after = leaf.after(at.0);
            let here = after.checked_sub(1).map(|index| leaf.mapping(index)).filter(|here| at < here.end());
            if let Some(found) = here.or_else(|| leaf.get(after)) {
                return Ok(Some(found));
            }
            if spot.bound == NO_BOUND {
                return Ok(None);
            }
            at = LogicalBlock(spot.bound);
        }
    }
}
