//! Who owns a block, judged from its tag alone.
//!
//! A tag is (line, sequence): a lineage and a counter bumped at each seal. A layer owns a few intervals of tags;
//! absorbing a snapshot into its successor merges two neighbouring intervals, so the list stays short. While a
//! layer is being absorbed, its intervals are *incoming*: they already count as this layer's, but a block above
//! the sweep's cursor is left to the sweep (rule 5), and none may be overwritten in place before the record that
//! began the absorb is durable (rule 4).

use crate::ids::{LayerId, Sequence};
use cow_tree::units::Tag;

/// Tags `low..=high` of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) line: u32,
    pub(crate) low: u32,
    pub(crate) high: u32,
}

impl Interval {
    pub(crate) fn single(tag: Tag) -> Self {
        Self { line: tag.line, low: tag.sequence, high: tag.sequence }
    }

    pub(crate) fn contains(self, tag: Tag) -> bool {
        self.line == tag.line && self.low <= tag.sequence && tag.sequence <= self.high
    }
}

/// The layer being absorbed, as the layer that absorbs it sees it.
#[derive(Debug, Clone)]
pub(crate) struct IncomingMark {
    pub(crate) layer: LayerId,
    pub(crate) intervals: Vec<Interval>,
    /// Blocks of keys below it have been swept. `None`: the sweep has ended.
    pub(crate) cursor: Option<u64>,
    /// The record that began the absorb.
    pub(crate) begun: Sequence,
}

/// How a layer stands to a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Mine,
    Incoming(usize),
    Foreign,
}

/// What a layer that stops pointing at a block does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Free,
    Leave,
}

/// The tags of one layer.
#[derive(Debug, Clone)]
pub(crate) struct Ownership {
    /// What new blocks are tagged with.
    pub(crate) tag: Tag,
    pub(crate) intervals: Vec<Interval>,
    pub(crate) incoming: Vec<IncomingMark>,
}

impl Ownership {
    pub(crate) fn new(tag: Tag) -> Self {
        Self { tag, intervals: vec![Interval::single(tag)], incoming: Vec::new() }
    }

    /// Everything it owns, incoming blocks included.
    pub(crate) fn all_intervals(&self) -> impl Iterator<Item = Interval> + '_ {
        let incoming = self.incoming.iter().flat_map(|mark| mark.intervals.iter());
        self.intervals.iter().chain(incoming).copied()
    }

    pub(crate) fn standing(&self, tag: Tag) -> Standing {
        if tag == self.tag || owns(&self.intervals, tag) {
            return Standing::Mine;
        }
        match self.incoming.iter().position(|mark| owns(&mark.intervals, tag)) {
            Some(index) => Standing::Incoming(index),
            None => Standing::Foreign,
        }
    }

    /// Rule 4. `durable` is the last sequence known to survive power loss.
    pub(crate) fn may_overwrite(&self, tag: Tag, durable: Sequence) -> bool {
        if tag == self.tag {
            return true;
        }
        match self.standing(tag) {
            Standing::Mine => true,
            Standing::Incoming(index) => {
                self.incoming[index].begun <= durable
                    || crate::mutants::active(crate::mutants::Mutant::InPlaceBeforeDurable)
            }
            Standing::Foreign => false,
        }
    }

    /// Rule 5 for one key: the logical block of a data block, the low key of a node.
    pub(crate) fn verdict(&self, tag: Tag, key: u64) -> Verdict {
        match self.standing(tag) {
            Standing::Mine => Verdict::Free,
            Standing::Incoming(index) if self.passed(index, key) => Verdict::Free,
            Standing::Incoming(_) | Standing::Foreign => Verdict::Leave,
        }
    }

    /// The key at which the verdict for an incoming tag changes from free to leave; `None` when it does not.
    pub(crate) fn split_key(&self, tag: Tag) -> Option<u64> {
        match self.standing(tag) {
            Standing::Incoming(index) => self.incoming[index].cursor,
            Standing::Mine | Standing::Foreign => None,
        }
    }

    fn passed(&self, index: usize, key: u64) -> bool {
        if crate::mutants::active(crate::mutants::Mutant::TrimFreesNow) {
            return true;
        }
        self.incoming[index].cursor.is_none_or(|cursor| {
            key < cursor || (key == cursor && crate::mutants::active(crate::mutants::Mutant::NodesInclusive))
        })
    }

    /// Rule 10: the sweep has ended and is durable; the incoming tags are this layer's for ever.
    pub(crate) fn adopt(&mut self, layer: LayerId) {
        if let Some(index) = self.incoming.iter().position(|mark| mark.layer == layer) {
            let mark = self.incoming.remove(index);
            mark.intervals.into_iter().for_each(|interval| add(&mut self.intervals, interval));
        }
    }
}

/// Whether `tag` lies in one of `intervals`.
pub(crate) fn owns(intervals: &[Interval], tag: Tag) -> bool {
    intervals.iter().any(|interval| interval.contains(tag))
}

/// Adds an interval, merging it with neighbours of the same line.
fn add(intervals: &mut Vec<Interval>, mut new: Interval) {
    intervals.retain(|old| {
        let touches = old.line == new.line
            && old.low <= new.high.saturating_add(1)
            && new.low <= old.high.saturating_add(1);
        if touches {
            new.low = new.low.min(old.low);
            new.high = new.high.max(old.high);
        }
        !touches
    });
    intervals.push(new);
}

#[cfg(test)]
mod tests {
    use super::{IncomingMark, Interval, Ownership, Verdict};
    use crate::ids::{LayerId, Sequence};
    use cow_tree::units::Tag;

    fn tag(line: u32, sequence: u32) -> Tag {
        Tag { line, sequence }
    }

    fn absorbing(cursor: Option<u64>) -> Ownership {
        let mut ownership = Ownership::new(tag(7, 5));
        ownership.incoming.push(IncomingMark {
            layer: LayerId(3),
            intervals: vec![Interval::single(tag(7, 4))],
            cursor,
            begun: Sequence(10),
        });
        ownership
    }

    #[test]
    fn own_blocks_are_freed_and_foreign_ones_left() {
        let ownership = Ownership::new(tag(7, 5));
        assert_eq!(ownership.verdict(tag(7, 5), 0), Verdict::Free);
        assert_eq!(ownership.verdict(tag(7, 4), 0), Verdict::Leave);
        assert_eq!(ownership.verdict(tag(8, 5), 0), Verdict::Leave);
    }

    #[test]
    fn an_incoming_block_is_freed_only_below_the_cursor() {
        let ownership = absorbing(Some(100));
        assert_eq!(ownership.verdict(tag(7, 4), 99), Verdict::Free);
        assert_eq!(ownership.verdict(tag(7, 4), 100), Verdict::Leave);
        assert_eq!(absorbing(None).verdict(tag(7, 4), 100), Verdict::Free);
    }

    #[test]
    fn an_incoming_block_is_overwritten_in_place_only_once_the_absorb_is_durable() {
        let ownership = absorbing(Some(0));
        assert!(!ownership.may_overwrite(tag(7, 4), Sequence(9)));
        assert!(ownership.may_overwrite(tag(7, 4), Sequence(10)));
    }

    #[test]
    fn adopting_a_predecessor_merges_two_intervals_into_one() {
        let mut ownership = absorbing(None);
        ownership.adopt(LayerId(3));
        assert_eq!(ownership.intervals, vec![Interval { line: 7, low: 4, high: 5 }]);
        assert!(ownership.incoming.is_empty());
    }
}
