//! Giving a volume another size. What a smaller one cuts off is unmapped by the same record, so that a later larger one
//! shows zeros there.

use super::Catalog;
use super::sweep::Stop;
use crate::body::{Freed, LayerBody};
use crate::ids::EntryId;
use crate::record::Change;
use cow_tree::units::{BLOCK_BYTES_U64, LogicalBlock};
use cow_tree::{ExtentLeaf, Nodes};

impl Catalog {
    /// `stage` records the change before it happens, and may refuse.
    pub(crate) fn resize<E>(
        &mut self,
        id: EntryId,
        size: u64,
        nodes: &impl Nodes<ExtentLeaf>,
        stage: impl FnOnce() -> Result<(), E>,
    ) -> Result<Freed, Stop<E>> {
        let layer = self.try_entry(id).ok_or(Stop::Gone)?.layer;
        let freed = self.layer_mut(layer).write(|body| cut(body, size, nodes, stage))?;
        self.entry_mut(id).size = size;
        Ok(freed)
    }
}

fn cut<E>(
    body: &mut LayerBody,
    size: u64,
    nodes: &impl Nodes<ExtentLeaf>,
    stage: impl FnOnce() -> Result<(), E>,
) -> Result<Freed, Stop<E>> {
    let start = LogicalBlock(size.div_ceil(BLOCK_BYTES_U64));
    let mut end = start;
    while let Some(mapping) = body.tree.next(nodes, end).map_err(Stop::Missing)? {
        end = mapping.end();
    }
    let change = Change::Unmap { start: start.0, length: end.blocks_since(start) };
    if end == start {
        stage().map_err(Stop::Refused)?;
        return Ok(Freed::default());
    }
    body.prepare(nodes, &[change]).map_err(Stop::Missing)?;
    stage().map_err(Stop::Refused)?;
    body.change(nodes, &[change]).map_err(Stop::Missing)
}
