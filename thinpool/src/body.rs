//! What a layer holds: its tree, its tags, and the running counts of its blocks.
//!
//! [`LayerBody::change`] is the one place where a live layer's map changes, at run time and at replay alike, and
//! [`LayerBody::let_go`] the one place that decides what becomes of a block a layer stops pointing at (rule 5).

use crate::ids::LayerId;
use crate::mutants::{self, Mutant};
use crate::ownership::{Ownership, Verdict};
use crate::record::Change;
use cow_tree::units::{BlockAddress, LogicalBlock, Tag};
use cow_tree::{Dropped, ExtentLeaf, Mapping, Missing, Nodes, Pointer, Tree};
use std::collections::BTreeMap;

/// Tags of other layers' blocks that a layer counts; with more of them it is not known what their deletion gives back.
const DROPPED_TAGS_MAX: usize = 65_536;

pub(crate) type ExtentTree = Tree<ExtentLeaf>;

/// The changing part of a layer. A live volume that somebody has open keeps it behind its own lock.
#[derive(Debug)]
pub(crate) struct LayerBody {
    pub(crate) id: LayerId,
    pub(crate) tree: ExtentTree,
    pub(crate) ownership: Ownership,
    /// Trees of the layers being absorbed, in step with `ownership.incoming`.
    pub(crate) incoming: BTreeMap<LayerId, ExtentTree>,
    /// Data blocks this layer owns, those of its incoming layers included.
    pub(crate) owned: u64,
    /// Data blocks of other layers that this one no longer maps, by their tag; `None` once that is not known.
    pub(crate) dropped: Option<BTreeMap<(u32, u32), u64>>,
    /// Differs from what the last frozen checkpoint holds.
    pub(crate) dirty: bool,
}

/// Blocks that became free by one change.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    pub(crate) data: Vec<(BlockAddress, u32)>,
    pub(crate) nodes: Vec<BlockAddress>,
}

impl Freed {
    pub(crate) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.nodes.is_empty()
    }
}

impl LayerBody {
    pub(crate) fn new(id: LayerId, tag: Tag, tree: ExtentTree) -> Self {
        Self {
            id,
            tree,
            ownership: Ownership::new(tag),
            incoming: BTreeMap::new(),
            owned: 0,
            dropped: Some(BTreeMap::new()),
            dirty: true,
        }
    }

    /// Moves the body out, and leaves one that holds nothing.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(self.id, self.ownership.tag, ExtentTree::empty());
        std::mem::replace(self, empty)
    }

    /// Whether every node the changes touch is resident; the number of nodes they may newly dirty.
    pub(crate) fn prepare(
        &self,
        nodes: &impl Nodes<ExtentLeaf>,
        changes: &[Change],
    ) -> Result<usize, Missing> {
        let mut dirtied = 0;
        for change in changes {
            dirtied += self.tree.prepare(nodes, change.range())?;
        }
        Ok(dirtied)
    }

    /// Applies changes. The blocks of `Map` changes become this layer's own.
    pub(crate) fn change(
        &mut self,
        nodes: &impl Nodes<ExtentLeaf>,
        changes: &[Change],
    ) -> Result<Freed, Missing> {
        let writer = self.ownership.tag;
        let mut dropped = Vec::new();
        for change in changes {
            match *change {
                Change::Map { start, length, address } => {
                    let mapping = Mapping {
                        start: LogicalBlock(start),
                        length,
                        address: BlockAddress(address),
                        tag: writer,
                        checksummed: false,
                    };
                    self.tree.insert(nodes, mapping, writer, &mut dropped)?;
                    self.owned += u64::from(length);
                }
                Change::Unmap { .. } => self.tree.remove(nodes, change.range(), writer, &mut dropped)?,
            }
        }
        self.dirty = true;
        Ok(self.let_go(dropped))
    }

    /// Rule 5, for everything a change stopped pointing at.
    pub(crate) fn let_go(&mut self, dropped: Vec<Dropped>) -> Freed {
        let mut freed = Freed::default();
        for item in dropped {
            match item {
                Dropped::Data(mapping) => self.let_go_data(mapping, &mut freed),
                Dropped::Node(pointer) => self.let_go_node(&pointer, &mut freed),
            }
        }
        freed
    }

    fn let_go_data(&mut self, mapping: Mapping, freed: &mut Freed) {
        let (start, end) = (mapping.start.0, mapping.start.0 + u64::from(mapping.length));
        let cut = self.ownership.split_key(mapping.tag).map_or(end, |key| key.clamp(start, end));
        for (from, to) in [(start, cut), (cut, end)] {
            if from == to {
                continue;
            }
            let length = u32::try_from(to - from).expect("a part of a mapping is no longer than the mapping");
            match self.ownership.verdict(mapping.tag, from) {
                Verdict::Free => {
                    self.owned -= u64::from(length);
                    freed.data.push((mapping.address.offset_by(from - start), length));
                }
                Verdict::Leave => self.count_dropped(mapping.tag, length),
            }
        }
    }

    fn let_go_node(&self, pointer: &Pointer, freed: &mut Freed) {
        let key = if mutants::active(Mutant::NodesByUpperBound) {
            pointer.low.saturating_add(64)
        } else {
            pointer.low
        };
        if self.ownership.verdict(pointer.tag, key) == Verdict::Free {
            freed.nodes.push(pointer.address);
        }
    }

    fn count_dropped(&mut self, tag: Tag, length: u32) {
        if let Some(dropped) = &mut self.dropped {
            *dropped.entry((tag.line, tag.sequence)).or_default() += u64::from(length);
            if dropped.len() > DROPPED_TAGS_MAX {
                self.dropped = None;
            }
        }
    }

    /// Blocks with tags of `intervals` that this layer has let go.
    pub(crate) fn dropped_of(&self, intervals: &[crate::ownership::Interval]) -> Option<u64> {
        let dropped = self.dropped.as_ref()?;
        let ours = dropped.iter().filter(|((line, sequence), _)| {
            crate::ownership::owns(intervals, Tag { line: *line, sequence: *sequence })
        });
        Some(ours.map(|(_, count)| count).sum())
    }

    /// A sweep freed a block this layer had let go.
    pub(crate) fn swept(&mut self, tag: Tag, length: u32) {
        self.owned -= u64::from(length);
        self.dirty = true;
        if let Some(dropped) = &mut self.dropped {
            let key = (tag.line, tag.sequence);
            let left = dropped.get(&key).copied().unwrap_or(0).checked_sub(u64::from(length));
            match left {
                Some(0) => drop(dropped.remove(&key)),
                Some(count) => drop(dropped.insert(key, count)),
                None => self.dropped = None,
            }
        }
    }
}

impl Change {
    /// The logical blocks it is about.
    pub(crate) fn range(&self) -> std::ops::Range<LogicalBlock> {
        match *self {
            Change::Map { start, length, .. } => LogicalBlock(start)..LogicalBlock(start + u64::from(length)),
            Change::Unmap { start, length } => LogicalBlock(start)..LogicalBlock(start + length),
        }
    }
}
