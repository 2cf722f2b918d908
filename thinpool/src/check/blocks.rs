//! A set of blocks of device 0, one bit each.

use super::CheckReport;
use crate::groups::Run;
use cow_tree::units::{BlockAddress, BlockCount};
use std::ops::Range;

const WORD_BITS: u64 = 64;

#[derive(Debug)]
pub(super) struct Blocks {
    words: Vec<u64>,
    end: u64,
    reached: u64,
}

impl Blocks {
    pub(super) fn new(device_blocks: u64) -> Self {
        let words = usize::try_from(device_blocks.div_ceil(WORD_BITS)).expect("a set of blocks fits memory");
        Self { words: vec![0; words], end: device_blocks, reached: 0 }
    }

    fn place(block: u64) -> (usize, u64) {
        (usize::try_from(block / WORD_BITS).expect("within the words"), 1 << (block % WORD_BITS))
    }

    fn contains(&self, block: u64) -> bool {
        let (word, bit) = Self::place(block);
        self.words[word] & bit != 0
    }

    pub(super) fn insert(&mut self, run: Run) {
        for address in run.blocks() {
            let (word, bit) = Self::place(address.0);
            self.words[word] |= bit;
        }
    }

    /// Somebody owns these blocks; nobody else may.
    pub(super) fn reach(
        &mut self,
        first: BlockAddress,
        length: u64,
        who: impl Fn() -> String,
        report: &mut CheckReport,
    ) {
        if first.0.checked_add(length).is_none_or(|end| end > self.end) {
            report.error(format!("{} reaches blocks from {first} on, which the device does not have", who()));
            return;
        }
        for block in first.0..first.0 + length {
            let (word, bit) = Self::place(block);
            if self.words[word] & bit != 0 {
                report.error(format!("{} owns block {block}, and so does somebody else", who()));
            }
            self.words[word] |= bit;
        }
        self.reached += length;
    }

    /// Blocks whose owners have been seen.
    pub(super) fn reached(&self) -> BlockCount {
        BlockCount(self.reached)
    }

    pub(super) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Runs of blocks that are here and not there.
    pub(super) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Range<u64>> + 'a {
        let mut at = 0;
        std::iter::from_fn(move || {
            let is_in = |block: u64| self.contains(block) && !other.contains(block);
            while at < self.end {
                if at % WORD_BITS == 0 {
                    let (word, _) = Self::place(at);
                    if self.words[word] & !other.words[word] == 0 {
                        at += WORD_BITS;
                        continue;
                    }
                }
                if is_in(at) {
                    let start = at;
                    while at < self.end && is_in(at) {
                        at += 1;
                    }
                    return Some(start..at);
                }
                at += 1;
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Blocks, CheckReport};
    use crate::groups::Run;
    use cow_tree::units::{BlockAddress, BlockCount};

    #[test]
    fn what_two_owners_reach_is_an_error_and_what_one_lacks_is_listed() {
        let mut reached = Blocks::new(1000);
        let mut report = CheckReport::default();
        reached.reach(BlockAddress(60), 10, || "a".to_owned(), &mut report);
        assert!(report.is_clean());
        reached.reach(BlockAddress(69), 1, || "b".to_owned(), &mut report);
        reached.reach(BlockAddress(995), 10, || "c".to_owned(), &mut report);
        assert_eq!(report.errors.len(), 2, "{report:?}");
        let mut held = Blocks::new(1000);
        held.insert(Run { address: BlockAddress(64), length: BlockCount(200) });
        assert_eq!(reached.without(&held).collect::<Vec<_>>(), vec![60..64]);
        assert_eq!(held.without(&reached).collect::<Vec<_>>(), vec![70..264]);
        assert_eq!(reached.count(), 10);
    }
}
