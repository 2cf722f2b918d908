//! The engine's bounds, each tested at the bound.

use std::time::Duration;

/// Bounds of one open pool. The defaults suit a server; simulations use tiny ones.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Nodes of 4 KiB kept in memory, clean and dirty.
    pub nodes_max: usize,
    /// Dirty nodes before a checkpoint must come.
    pub dirty_nodes_max: usize,
    /// Requests in flight on one channel.
    pub requests_max: usize,
    /// Operations in flight on one device channel.
    pub device_depth: usize,
    /// Longest time a staged record waits for its commit.
    pub commit_interval: Duration,
    /// Longest time a snapshot waits for writes in flight.
    pub drain_timeout: Duration,
    /// Keys and links of one node; smaller in tests, to see splits and merges.
    pub tree: cow_tree::Limits,
    /// Tree nodes one step of a sweep looks at: bounds the time a volume's lock is held.
    pub sweep_nodes: usize,
    /// Pages of a checkpoint that are made and written in one go; commits and commands come in between.
    pub checkpoint_pages: usize,
    /// Whether freed blocks are given back to the device.
    pub discard: bool,
    /// The engine is only ever polled: no descriptors are made.
    pub polled: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes_max: 65_536,
            dirty_nodes_max: 16_384,
            requests_max: 256,
            device_depth: 256,
            commit_interval: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
            tree: cow_tree::Limits::default(),
            sweep_nodes: 16,
            checkpoint_pages: 64,
            discard: true,
            polled: false,
        }
    }
}
