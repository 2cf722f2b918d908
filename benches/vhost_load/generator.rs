//! Which block a measured load asks for next.

use super::Chance;
use super::vhost_client::Ask;
use clap::ValueEnum;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Random reads
    Read,
    /// Random writes
    Write,
    /// Random, 70 reads to 30 writes
    Mix,
    /// Every block once, in an order without neighbours; ends with the last
    First,
    /// Reads in order
    Sequential,
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
            Load::Sequential => number % self.blocks,
            Load::Read | Load::Write | Load::Mix => self.chance.below(self.blocks),
        };
        let offset = block * u64::try_from(length).expect("a usize");
        let is_read = match self.load {
            Load::Read | Load::Sequential => true,
            Load::Write | Load::First => false,
            Load::Mix => self.chance.below(10) < 7,
        };
        Some(if is_read { Ask::Read { offset, length } } else { Ask::Write { offset, length } })
    }

    /// The block in this place of the order; only a power of two of them is used.
    fn first(&self, number: u64) -> Option<u64> {
        let blocks = 1 << self.blocks.ilog2();
        // An odd factor visits every number below a power of two once.
        (number < blocks).then_some(number.wrapping_mul(2_654_435_761) & (blocks - 1))
    }
}
