//! Thin pools: layers, the allocator, the journal, checkpoints, recovery, volumes, snapshots and clones.
mod geometry;
mod groups;
mod journal;
mod label;
mod superblock;
mod tail;
