//! Which block a measured load asks for next.

use super::Chance;
use super::vhost_client::Ask;
use clap::ValueEnum;

/// What an overlay of others copies when a part of it is written first.
const CLUSTER_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Random reads
    Read,
    /// Random writes
    Write,
    /// Random, 70 reads to 30 writes
    Mix,
    /// Every block once: the first of each 64 KiB in an order without neighbours, then the second of each, and so on; ends
    /// with the last
    First,
    /// Reads in order
    SequentialRead,
    /// Writes in order
    SequentialWrite,
}

pub(crate) struct Generator {
    load: Load,
    block_bytes: usize,
    blocks: u64,
    issued: u64,
    chance: Chance,
}

impl Generator {
    /// On `blocks` of `block_bytes` each; there is one at least.
    pub(crate) fn new(load: Load, block_bytes: usize, blocks: u64) -> Self {
        Self { load, block_bytes, blocks, issued: 0, chance: Chance::new(0) }
    }

    /// Nothing when there is no more to do.
    pub(crate) fn next(&mut self) -> Option<Ask> {
        let length = self.block_bytes;
        let number = self.issued;
        self.issued += 1;
        let block = match self.load {
            Load::First => self.first(number)?,
            Load::SequentialRead | Load::SequentialWrite => number % self.blocks,
            Load::Read | Load::Write | Load::Mix => self.chance.below(self.blocks),
        };
        let offset = block * u64::try_from(length).expect("a usize");
        let is_read = match self.load {
            Load::Read | Load::SequentialRead => true,
            Load::Write | Load::First | Load::SequentialWrite => false,
            Load::Mix => self.chance.below(10) < 7,
        };
        Some(if is_read { Ask::Read { offset, length } } else { Ask::Write { offset, length } })
    }

    /// The block in this place of the order; of a disk whose clusters are not a power of two, only so many are used.
    fn first(&self, number: u64) -> Option<u64> {
        let in_cluster =
            u64::try_from(CLUSTER_BYTES / self.block_bytes).expect("a usize").clamp(1, self.blocks);
        let clusters = 1 << (self.blocks / in_cluster).ilog2();
        let turn = number / clusters;
        // An odd factor visits every number below a power of two once.
        let cluster = number.wrapping_mul(2_654_435_761) & (clusters - 1);
        (turn < in_cluster).then_some(cluster * in_cluster + turn)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask, Generator, Load};
    use std::collections::BTreeSet;

    #[test]
    fn first_writes_visit_every_cluster_before_any_twice_and_every_block_once() {
        // 40 clusters of 16 blocks, of which 32 are used.
        let mut generator = Generator::new(Load::First, 4096, 640);
        let mut blocks = BTreeSet::new();
        for _ in 0..16 {
            let mut clusters = BTreeSet::new();
            for _ in 0..32 {
                let Some(Ask::Write { offset, length: 4096 }) = generator.next() else { panic!("a write") };
                clusters.insert(offset >> 16);
                blocks.insert(offset / 4096);
            }
            assert_eq!(clusters, (0..32).collect());
        }
        assert_eq!(blocks, (0..512).collect());
        assert_eq!(generator.next(), None);
    }

    #[test]
    fn first_writes_that_are_larger_than_a_cluster_visit_every_block_once() {
        let mut generator = Generator::new(Load::First, 1 << 20, 8);
        let asks = std::iter::from_fn(|| generator.next());
        let blocks: BTreeSet<u64> = asks
            .map(|ask| match ask {
                Ask::Write { offset, .. } => offset >> 20,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(blocks, (0..8).collect());
    }
}
