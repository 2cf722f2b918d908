//! A set of blocks of a pool, one bit each: the blocks of one device behind those of the device before.

use super::CheckReport;
use crate::groups::Run;
use cow_tree::units::{BlockAddress, BlockCount};
use std::ops::Range;

const WORD_BITS: u64 = 64;

#[derive(Debug)]
pub(super) struct Blocks {
    words: Vec<u64>,
    /// Blocks of each device.
    devices: Vec<u64>,
    end: u64,
    reached: u64,
}

impl Blocks {
    pub(super) fn new(devices: &[u64]) -> Self {
        let end = devices.iter().sum::<u64>();
        let words = usize::try_from(end.div_ceil(WORD_BITS)).expect("a set of blocks fits memory");
        Self { words: vec![0; words], devices: devices.to_vec(), end, reached: 0 }
    }

    /// The number of the first of `length` blocks, if the pool has them.
    fn number_of(&self, first: BlockAddress, length: u64) -> Option<u64> {
        let device = usize::from(first.device());
        let has = *self.devices.get(device).filter(|_| first.can_hold(length))?;
        let end = first.in_device().checked_add(length)?;
        (end <= has).then(|| self.devices[..device].iter().sum::<u64>() + first.in_device())
    }

    /// How people find a block again: by its number, and where there are several devices by device and number.
    pub(super) fn name_of(&self, number: u64) -> String {
        let mut rest = number;
        for (device, blocks) in self.devices.iter().enumerate() {
            if rest < *blocks && self.devices.len() > 1 {
                return format!("{device}:{rest}");
            }
            rest = rest.saturating_sub(*blocks);
        }
        number.to_string()
    }

    fn place(block: u64) -> (usize, u64) {
        (usize::try_from(block / WORD_BITS).expect("within the words"), 1 << (block % WORD_BITS))
    }

    fn contains(&self, block: u64) -> bool {
        let (word, bit) = Self::place(block);
        self.words[word] & bit != 0
    }

    pub(super) fn insert(&mut self, run: Run) {
        let first = self.number_of(run.address, run.length.0).expect("the allocator knows its devices");
        for number in first..first + run.length.0 {
            let (word, bit) = Self::place(number);
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
        let Some(number) = self.number_of(first, length) else {
            report.error(format!("{} reaches blocks from {first} on, which the device does not have", who()));
            return;
        };
        for block in number..number + length {
            let (word, bit) = Self::place(block);
            if self.words[word] & bit != 0 {
                let block = self.name_of(block);
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
        let mut reached = Blocks::new(&[1000]);
        let mut report = CheckReport::default();
        reached.reach(BlockAddress(60), 10, || "a".to_owned(), &mut report);
        assert!(report.is_clean());
        reached.reach(BlockAddress(69), 1, || "b".to_owned(), &mut report);
        reached.reach(BlockAddress(995), 10, || "c".to_owned(), &mut report);
        assert_eq!(report.errors.len(), 2, "{report:?}");
        let mut held = Blocks::new(&[1000]);
        held.insert(Run { address: BlockAddress(64), length: BlockCount(200) });
        assert_eq!(reached.without(&held).collect::<Vec<_>>(), vec![60..64]);
        assert_eq!(held.without(&reached).collect::<Vec<_>>(), vec![70..264]);
        assert_eq!(reached.count(), 10);
    }

    #[test]
    fn blocks_of_two_devices_are_told_apart() {
        let second = |block| BlockAddress::new(1, block).expect("few blocks");
        let mut reached = Blocks::new(&[100, 50]);
        let mut report = CheckReport::default();
        reached.reach(BlockAddress(10), 5, || "a".to_owned(), &mut report);
        reached.reach(second(10), 5, || "b".to_owned(), &mut report);
        assert!(report.is_clean());
        assert_eq!(
            (reached.count(), reached.name_of(99), reached.name_of(110)),
            (10, "0:99".into(), "1:10".into())
        );
        for (first, length) in [(BlockAddress(98), 3), (second(48), 3), (BlockAddress(2 << 40), 1)] {
            reached.reach(first, length, || "c".to_owned(), &mut report);
        }
        assert_eq!(report.errors.len(), 3, "{report:?}");
        reached.reach(second(14), 1, || "d".to_owned(), &mut report);
        assert_eq!(report.errors[3], "d owns block 1:14, and so does somebody else");
    }
}
