//! Freed blocks on their way back (P2): the record durable, then a grace period, then free.

use super::Desk;
use crate::core::{Core, Quarantined};
use crate::ids::CommitNumber;
use crate::mutants::{self, Mutant};
use std::sync::atomic::Ordering;

/// Blocks released at a time.
const RUNS_MAX: usize = 1024;

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
    let mut groups = core.groups.lock();
    core.quarantine.lock().drain(..ready.len()).for_each(|freed| groups.release_kept(freed.run));
}

fn durable_front(core: &Core) -> Vec<Quarantined> {
    let durable = core.durable();
    let quarantine = core.quarantine.lock();
    quarantine.iter().take(RUNS_MAX).take_while(|freed| freed.sequence <= durable).copied().collect()
}
