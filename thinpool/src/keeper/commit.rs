//! Commits: cut the batch, flush the data it maps, append it to the journal, make it durable.
//!
//! The cut comes first, so that a mapping published while the device flush runs, whose data that flush may have
//! missed, is not in the batch (A1). One commit is in flight: a bad batch with a good later one is damage, never
//! reordering. `started` counts up at the cut, before the flush is submitted, so a flush that arrives later waits for
//! the next commit.

use super::Desk;
use crate::core::Core;
use crate::error::Error;
use crate::ids::Sequence;
use crate::journal;
use crate::mutants::{self, Mutant};
use crate::staging::Staged;
use blockstore::Buffer;
use cow_tree::units::BlockAddress;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) async fn run(desk: Desk) {
    let mut last = desk.now();
    let mut offered = last;
    loop {
        desk.until(|| is_due(&desk, last)).await;
        if desk.core.closed.load(Ordering::SeqCst) {
            return;
        }
        last = desk.now();
        // The file system may have room again. Not each time: whoever looks for room has to come to an end.
        if last >= offered + desk.core.limits.commit_interval {
            offered = last;
            desk.core.groups.lock().offer_refused();
        }
        match commit(&desk).await {
            Ok(()) => {}
            Err(_) => desk.core.poison(),
        }
        desk.core.stepped();
    }
}

fn is_due(desk: &Desk, last: Duration) -> bool {
    let core = &desk.core;
    if core.closed.load(Ordering::SeqCst) {
        return true;
    }
    if core.is_poisoned() {
        return false;
    }
    let asked = core.commits.wanted.load(Ordering::SeqCst) > core.commits.started.load(Ordering::SeqCst);
    let half_full = core.tail.is_half_full();
    let old = core.staging.framed_bytes() > 0 && desk.now() >= last + core.limits.commit_interval;
    (asked || half_full || old) && journal_has_room(core)
}

/// Whether everything staged fits the journal; asks for a checkpoint when it does not.
fn journal_has_room(core: &Core) -> bool {
    let ring = core.ring.lock();
    let room = ring.blocks_for(core.staging.framed_bytes()) <= ring.free_blocks();
    drop(ring);
    if !room {
        core.needs.lock().checkpoint = true;
    }
    room
}

async fn commit(desk: &Desk) -> Result<(), Error> {
    let core = &desk.core;
    let Some((number, mut batch)) = cut(core) else { return Ok(()) };
    if !mutants::active(Mutant::NoFlushBeforeJournal) {
        flush(desk, "flushing the data of a commit").await?;
    }
    if mutants::active(Mutant::CutAfterFlush) {
        let _gate = core.gate.write().expect("no thread panics inside the gate");
        batch.extend(core.staging.cut());
    }
    if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
        let (first, last) = (first.sequence, last.sequence);
        append(desk, first, last, &batch).await?;
        flush(desk, "flushing the journal").await?;
        core.durable.fetch_max(last.0, Ordering::SeqCst);
        core.tail.retire(last.0);
    }
    core.in_commit.lock().clear();
    core.commits.done.store(number, Ordering::SeqCst);
    core.announce();
    Ok(())
}

/// Closes the gate for a moment: what is staged now is the batch. Nothing is cut when it does not fit the journal.
fn cut(core: &Core) -> Option<(u64, Vec<Staged>)> {
    let _gate = core.gate.write().expect("no thread panics inside the gate");
    if !journal_has_room(core) {
        return None;
    }
    let number = core.commits.started.load(Ordering::SeqCst) + 1;
    core.commits.started.store(number, Ordering::SeqCst);
    let batch = core.staging.cut();
    *core.in_commit.lock() = batch.clone();
    Some((number, batch))
}

async fn flush(desk: &Desk, doing: &'static str) -> Result<(), Error> {
    match desk.io.flush(doing).await {
        // Whatever the second one says is believed.
        Err(_) if mutants::active(Mutant::BelieveSecondFlush) => desk.io.flush(doing).await.or(Ok(())),
        other => other,
    }
}

async fn append(desk: &Desk, first: Sequence, last: Sequence, batch: &[Staged]) -> Result<(), Error> {
    let core = &desk.core;
    let mut payload = Vec::new();
    for staged in batch {
        journal::frame(&mut payload, staged.sequence.0, &staged.bytes);
    }
    let generation = core.generation.load(Ordering::SeqCst);
    let placement = core.ring.lock().place(core.id, generation, first.0, last.0, &payload);
    let placement = placement.map_err(|error| Error::Invalid(error.to_string()))?;
    let start = core.geometry.read().journal_start();
    let writes = placement
        .writes
        .into_iter()
        .map(|(block, bytes)| (BlockAddress(start + u64::from(block)), Buffer::from_slice(&bytes)))
        .collect();
    desk.io.write_all(writes, "writing the journal").await
}
