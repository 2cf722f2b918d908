//! Giving the space of freed blocks back to the device, once nobody has needed it for a while (A4): blocks are out of reach
//! while the device takes their space.

use super::Desk;
use super::io::KeeperIo;
use crate::core::Core;
use crate::geometry::GroupIndex;
use crate::groups::Run;
use blockstore::{Operation, Token};
use cow_tree::units::BlockCount;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Between two looks for groups of which nobody has taken or released a block since the look before.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// Discards in flight; the keeper does other things between them, and nobody waits for blocks longer than these take.
const DISCARDS_AT_ONCE: usize = 8;

/// Blocks of one discard, 4 MiB: a file system keeps everybody else from the file meanwhile.
const DISCARD_BLOCKS_MAX: BlockCount = BlockCount(1024);

/// Longest time that closing a pool gives space back.
const CLOSING: Duration = Duration::from_secs(1);

pub(crate) async fn run(desk: Desk) {
    let core = &desk.core;
    let mut next = desk.now() + LOOK_INTERVAL;
    loop {
        let closed = || core.closed.load(Ordering::SeqCst);
        desk.until(|| closed() || desk.now() >= next).await;
        if closed() || !is_wanted(core) {
            return;
        }
        let calm = core.groups.lock().calm_kept();
        give_back(core, &desk.io, calm, || !closed()).await;
        next = desk.now() + LOOK_INTERVAL;
    }
}

/// All there is at this moment.
pub(crate) async fn all(core: &Core, io: &KeeperIo) {
    let groups = core.groups.lock().all_kept();
    give_back(core, io, groups, || true).await;
}

/// As much as there is time for when a pool is closed: what is left out comes back when it has been used and freed again.
pub(crate) async fn closing(desk: &Desk) {
    let deadline = desk.now() + CLOSING;
    let groups = desk.core.groups.lock().all_kept();
    give_back(&desk.core, &desk.io, groups, || desk.now() < deadline).await;
}

/// What these groups have, as long as `go_on`.
async fn give_back(core: &Core, io: &KeeperIo, groups: Vec<GroupIndex>, go_on: impl Fn() -> bool) {
    for group in groups {
        while go_on() && some(core, io, group).await {}
    }
}

/// Whether the device takes space back at all.
fn is_wanted(core: &Core) -> bool {
    core.limits.discard && core.device.discard_granularity().is_some()
}

/// Some of a group's; tells whether there may be more. A discard that fails gives nothing back; the blocks are reusable all
/// the same.
async fn some(core: &Core, io: &KeeperIo, group: GroupIndex) -> bool {
    if !is_wanted(core) || core.is_poisoned() {
        return false;
    }
    let runs = core.groups.lock().recall(group, DISCARDS_AT_ONCE, DISCARD_BLOCKS_MAX);
    let start = |run: &Run| {
        io.start(Operation::Discard { offset: run.address.byte_offset(), length: run.length.bytes() })
    };
    let tokens: Vec<Token> = runs.iter().map(start).collect();
    for token in tokens {
        if io.finish(token).await.is_err() {
            core.discard_failures.fetch_add(1, Ordering::Relaxed);
        }
    }
    let mut groups = core.groups.lock();
    runs.iter().for_each(|run| groups.release(*run));
    drop(groups);
    core.announce();
    core.stepped();
    runs.len() == DISCARDS_AT_ONCE
}
