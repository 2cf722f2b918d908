//! Checkpoints: freeze, write nodes and bitmaps to fresh places, flush, superblock, flush, release.
//!
//! A crash before the new superblock is durable finds the old one, and nothing it points to has been touched: nodes
//! go only to free blocks, bitmaps to the slot that does not count. A crash after it finds everything it points to.

use super::freeze::{Frozen, FrozenLayer, Thaw, freeze};
use super::io::{self, KeeperIo};
use super::{Desk, provision};
use crate::catalog::stored;
use crate::core::{Core, Quarantined};
use crate::error::Error;
use crate::groups::{GroupKind, Run};
use crate::meta::RecordNodes;
use crate::mutants::{self, Mutant};
use crate::node_cache;
use crate::superblock::{State, Superblock};
use blockstore::{Buffer, IoError};
use cow_tree::units::{BlockAddress, Generation};
use std::sync::atomic::Ordering;

/// Freezing is tried again after something was brought; this many times at most.
const THAWS_MAX: usize = 100_000;
/// What write errors are told to have interrupted.
const WRITING: &str = "writing a checkpoint";

pub(crate) async fn run(desk: Desk) {
    let core = &desk.core;
    loop {
        desk.until(|| core.closed.load(Ordering::SeqCst) || is_due(core)).await;
        if core.closed.load(Ordering::SeqCst) {
            return;
        }
        let number = core.checkpoints.started.load(Ordering::SeqCst) + 1;
        core.checkpoints.started.store(number, Ordering::SeqCst);
        let state = if core.closing.load(Ordering::SeqCst) { State::Clean } else { State::Serving };
        if checkpoint(core, &desk.io, state).await.is_err() {
            core.poison();
        }
        core.checkpoints.done.store(number, Ordering::SeqCst);
        core.announce();
        core.stepped();
    }
}

fn is_due(core: &Core) -> bool {
    if core.is_poisoned() {
        return false;
    }
    let asked =
        core.checkpoints.wanted.load(Ordering::SeqCst) > core.checkpoints.started.load(Ordering::SeqCst);
    let ring = core.ring.lock();
    let journal_half = ring.free_blocks() < ring.total_blocks() / 2;
    drop(ring);
    let credits = core.node_credits.load(Ordering::SeqCst);
    let low = credits < core.credits_max / 2;
    asked || journal_half || low || std::mem::take(&mut core.needs.lock().checkpoint)
}

/// Writes one checkpoint.
pub(crate) async fn checkpoint(core: &Core, io: &KeeperIo, state: State) -> Result<(), Error> {
    let frozen = freeze_patiently(core, io).await?;
    core.meta.lock().amending = true;
    write_trees(core, io, &frozen).await?;
    if !mutants::active(Mutant::NoFlushBeforeSuperblock) {
        io.flush("flushing a checkpoint").await?;
    }
    // Another task's flush may have failed meanwhile: then this one's success proves nothing.
    if core.is_poisoned() {
        return Err(Error::Poisoned);
    }
    let superblock = next_superblock(core, &frozen, state);
    write_superblock(io, &superblock).await?;
    finish(core, frozen, &superblock);
    Ok(())
}

async fn freeze_patiently(core: &Core, io: &KeeperIo) -> Result<Frozen, Error> {
    let mut thaws = 0;
    while thaws < THAWS_MAX {
        let thaw = match freeze(core) {
            Ok(frozen) => return Ok(frozen),
            Err(thaw) => thaw,
        };
        match thaw {
            // Nodes that the checkpoint before released come back as soon as nobody looks at them any more.
            Thaw::Full if core.is_node_coming_back() => {
                io::yield_now().await;
                continue;
            }
            Thaw::Full => return Err(Error::OutOfSpace),
            Thaw::Missing(missing) => {
                let fetched = RecordNodes::read(io, core.id, missing).await?;
                core.meta.lock().nodes.keep(fetched);
            }
            Thaw::Load(group) => provision::load_group(core, io, group).await?,
            // A file system that is full leaves what the pool has already.
            Thaw::Activate(group) => {
                match provision::activate_group(core, io, group, GroupKind::Metadata).await {
                    Err(Error::Io { source: IoError::OutOfSpace, .. }) => core.groups.lock().refuse(group),
                    other => other?,
                }
            }
        }
        thaws += 1;
    }
    Err(Error::Damage("a checkpoint cannot be frozen: what it misses never arrives".to_owned()))
}

/// Children before parents, so that parents hold their checksums; then the bitmaps.
async fn write_trees(core: &Core, io: &KeeperIo, frozen: &Frozen) -> Result<(), Error> {
    let generation = Generation(core.generation.load(Ordering::SeqCst) + 1);
    let mut writes: Vec<(BlockAddress, Buffer)> = Vec::new();
    for layer in &frozen.layers {
        for tree in &layer.trees {
            loop {
                let mut out = |address: BlockAddress, page: &[u8; 4096]| {
                    writes.push((address, Buffer::from_slice(page)));
                };
                let whole = tree.encode_some(core.id, generation, core.limits.checkpoint_pages, &mut out);
                if writes.len() >= core.limits.checkpoint_pages {
                    io.write_all(std::mem::take(&mut writes), WRITING).await?;
                }
                if whole {
                    break;
                }
            }
        }
        let roots: Vec<_> = layer.trees.iter().map(|tree| tree.root_pointer()).collect();
        core.meta.lock().catalog.amend(layer.key, &mut |piece| stored::fill_roots(piece, &roots));
    }
    encode_meta(core, frozen, generation, &mut writes);
    io.write_all(writes, WRITING).await
}

/// The catalog, the bitmaps and the group table, in this order: each names what was made before it.
fn encode_meta(
    core: &Core,
    frozen: &Frozen,
    generation: Generation,
    writes: &mut Vec<(BlockAddress, Buffer)>,
) {
    let mut out = |address: BlockAddress, page: &[u8; 4096]| writes.push((address, Buffer::from_slice(page)));
    let mut guard = core.meta.lock();
    let meta = &mut *guard;
    meta.catalog.encode(core.id, generation, &mut out);
    for group in &frozen.groups {
        let page = group.encode(core.id, generation, &core.geometry.read());
        let entry = group.entry(&page);
        let address = core.geometry.read().bitmap_slot(group.index, group.slot);
        out(address, &page);
        meta.groups.amend(u64::from(group.index.0), &mut |value| value.copy_from_slice(&entry.encode()));
    }
    meta.groups.encode(core.id, generation, &mut out);
    meta.amending = false;
}

fn next_superblock(core: &Core, frozen: &Frozen, state: State) -> Superblock {
    let meta = core.meta.lock();
    let mut superblock = core.superblock.lock().clone();
    superblock.generation = Generation(superblock.generation.0 + 1);
    superblock.state = state;
    superblock.journal = frozen.journal;
    superblock.last_sequence = frozen.last.0;
    superblock.catalog_root = meta.catalog.root_pointer();
    superblock.group_table_root = meta.groups.root_pointer();
    superblock.next_layer = frozen.next_layer;
    superblock.next_line = frozen.next_line;
    superblock.set_lengths(&core.geometry.read());
    superblock
}

/// Both copies, then a flush.
pub(crate) async fn write_superblock(io: &KeeperIo, superblock: &Superblock) -> Result<(), Error> {
    let writes =
        superblock.copies().into_iter().map(|(address, page)| (address, Buffer::from_slice(&page))).collect();
    io.write_all(writes, "writing the superblock").await?;
    io.flush("flushing the superblock").await
}

/// The new superblock is durable: everything before it is, and what only the old one needed is free.
fn finish(core: &Core, frozen: Frozen, superblock: &Superblock) {
    core.generation.store(superblock.generation.0, Ordering::SeqCst);
    *core.superblock.lock() = superblock.clone();
    core.durable.fetch_max(frozen.last.0, Ordering::SeqCst);
    core.tail.retire(frozen.last.0);
    core.staging.retire(frozen.last);
    core.groups.lock().settle();
    core.ring.lock().advance_start(frozen.journal);
    core.quarantine.lock().extend(
        frozen
            .released
            .iter()
            .map(|address| Quarantined { run: Run::single(*address), sequence: frozen.last }),
    );
    let mut guard = core.meta.lock();
    let meta = &mut *guard;
    let nodes = &mut meta.nodes;
    meta.catalog.settle(&mut |pointer, node| nodes.put(&pointer, node));
    meta.groups.settle(&mut |pointer, node| nodes.put(&pointer, node));
    drop(guard);
    settle_layers(core, frozen);
}

/// Lets live trees point to what was written instead of holding it.
fn settle_layers(core: &Core, frozen: Frozen) {
    for layer in frozen.layers {
        let FrozenLayer { id, trees, .. } = layer;
        drop(trees);
        let mut catalog = core.catalog.lock();
        if catalog.try_layer(id).is_some() {
            catalog.peek_mut(id).write(|body| {
                node_cache::settle(&mut body.tree, &core.cache);
                body.incoming.values_mut().for_each(|tree| node_cache::settle(tree, &core.cache));
            });
        }
    }
}
