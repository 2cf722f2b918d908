//! Freed blocks on their way back (P2): the record durable, then a grace period, then a discard, then free.

use super::Desk;
use crate::core::{Core, Quarantined};
use crate::groups::Run;
use crate::ids::CommitNumber;
use crate::mutants::{self, Mutant};
use blockstore::{Operation, Token};
use std::sync::atomic::Ordering;

/// Blocks released at a time.
const RUNS_MAX: usize = 1024;

/// Discards in flight; the keeper does other things between them.
const DISCARDS_AT_ONCE: usize = 8;

/// Bytes of one discard. A file system keeps everybody else from the file meanwhile.
const DISCARD_BYTES_MAX: u64 = 4 << 20;

/// Turns epochs for whoever asked, one grace period at a time.
pub(crate) async fn grace_periods(desk: Desk) {
    let core = &desk.core;
    let closed = || core.closed.load(Ordering::SeqCst);
    loop {
        let grace = &core.grace;
        desk.until(|| closed() || grace.wanted.load(Ordering::SeqCst) > grace.started.load(Ordering::SeqCst))
            .await;
        if closed() {
            return;
        }
        let number = grace.started.load(Ordering::SeqCst) + 1;
        grace.started.store(number, Ordering::SeqCst);
        let old = core.epochs.turn();
        let drained = || core.channels.lock().iter().all(|channel| channel.epochs.is_drained(old));
        desk.until(|| closed() || drained()).await;
        grace.over.store(number, Ordering::SeqCst);
        core.announce();
    }
}

/// Waits for a grace period that begins now.
pub(crate) async fn grace_period(desk: &Desk) -> CommitNumber {
    let number = desk.core.grace.want(&desk.core);
    desk.until(|| desk.core.grace.is_over(number)).await;
    number
}

pub(crate) async fn run(desk: Desk) {
    let core = &desk.core;
    loop {
        desk.until(|| core.closed.load(Ordering::SeqCst) || is_ready(core)).await;
        if core.closed.load(Ordering::SeqCst) {
            return;
        }
        release_some(&desk).await;
        core.announce();
        core.stepped();
    }
}

fn is_ready(core: &Core) -> bool {
    let durable = core.durable();
    let held = core.release_holds.load(Ordering::SeqCst) > 0;
    !held
        && !core.is_poisoned()
        && core.quarantine.lock().front().is_some_and(|freed| freed.sequence <= durable)
}

/// What is released stays in the quarantine until it is free: whoever looks there sees all that is on its way.
async fn release_some(desk: &Desk) {
    let core = &desk.core;
    let ready = durable_front(core);
    if !mutants::active(Mutant::ReuseBeforeDrained) {
        grace_period(desk).await;
    }
    if core.limits.discard && core.device.discard_granularity().is_some() {
        discard(desk, &ready).await;
    }
    let mut groups = core.groups.lock();
    core.quarantine.lock().drain(..ready.len()).for_each(|freed| groups.release(freed.run));
}

fn durable_front(core: &Core) -> Vec<Quarantined> {
    let durable = core.durable();
    let quarantine = core.quarantine.lock();
    quarantine.iter().take(RUNS_MAX).take_while(|freed| freed.sequence <= durable).copied().collect()
}

/// A discard that fails, or is left out because somebody waits for the blocks, gives nothing back; they are reusable all
/// the same.
async fn discard(desk: &Desk, runs: &[Quarantined]) {
    let pieces: Vec<(u64, u64)> = data_of(&desk.core, runs).into_iter().flat_map(pieces).collect();
    for some in pieces.chunks(DISCARDS_AT_ONCE) {
        if std::mem::take(&mut desk.core.needs.lock().space) {
            return;
        }
        let start = |(offset, length): &(u64, u64)| {
            desk.io.start(Operation::Discard { offset: *offset, length: *length })
        };
        let tokens: Vec<Token> = some.iter().map(start).collect();
        for token in tokens {
            if desk.io.finish(token).await.is_err() {
                desk.core.discard_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Offsets and lengths in bytes, none longer than what is discarded in one operation.
fn pieces(run: Run) -> impl Iterator<Item = (u64, u64)> {
    let (start, length) = (run.address.byte_offset(), run.length.bytes());
    let from_start = (0..length).step_by(usize::try_from(DISCARD_BYTES_MAX).expect("a few MiB"));
    from_start.map(move |from| (start + from, DISCARD_BYTES_MAX.min(length - from)))
}

/// Metadata is never punched.
fn data_of(core: &Core, runs: &[Quarantined]) -> Vec<Run> {
    let groups = core.groups.lock();
    runs.iter().map(|freed| freed.run).filter(|run| groups.is_data(run.address)).collect()
}
