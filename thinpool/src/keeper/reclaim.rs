//! Reclaim: layers nobody needs are freed, or absorbed into their only dependent; sweeps do both (rules 6 to 10).
//!
//! Before the first step of a sweep the dying tree is on the device as a whole: see `cow_tree::Tree::sweep`.

use super::{Desk, command, io};
use crate::catalog::Catalog;
use crate::catalog::stored::INCOMING_MAX;
use crate::catalog::sweep::{Reach, Stop, Sweep};
use crate::core::Core;
use crate::error::Error;
use crate::ids::{LayerId, Sequence};
use crate::mutants::{self, Mutant};
use crate::record::Record;
use cow_tree::{ExtentLeaf, Missing, Node, Nodes, Pinned};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Nodes that thinning one leaf may make.
const THIN_CREDITS: i64 = 64;
/// Data runs one record frees.
const RUNS_A_STEP: usize = 512;

/// What can be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Free(LayerId),
    Absorb { layer: LayerId, into: LayerId },
    Sweep { layer: LayerId, into: LayerId },
    EndAbsorb { layer: LayerId, into: LayerId },
    EndFree(LayerId),
}

pub(crate) async fn run(desk: Desk) {
    let core = &desk.core;
    loop {
        let mut action = None;
        let mut seen = None;
        desk.until(|| {
            if core.closing.load(Ordering::SeqCst) || core.closed.load(Ordering::SeqCst) {
                return true;
            }
            action = look(core, &mut seen);
            action.is_some()
        })
        .await;
        let Some(action) = action else { return };
        match perform(&desk, action).await {
            Ok(()) | Err(Error::Closing | Error::Poisoned) => {}
            Err(_) => core.poison(),
        }
        core.stepped();
        io::yield_now().await;
    }
}

/// The next action, unless nothing has changed since the last look.
fn look(core: &Core, seen: &mut Option<(u64, Sequence)>) -> Option<Action> {
    if core.is_poisoned() {
        return None;
    }
    let durable = core.durable();
    core.with_catalog(|catalog| {
        let now = Some((catalog.revision(), durable));
        if std::mem::replace(seen, now) == now {
            return None;
        }
        next_action(catalog, durable)
    })
}

/// Whether anything is being, or can be, reclaimed.
pub(crate) fn has_work(catalog: &Catalog) -> bool {
    catalog.sweeping().next().is_some() || next_action(catalog, Sequence(u64::MAX)).is_some()
}

/// Whether there is work, none of which can go on before something else is durable.
pub(crate) fn is_stuck(catalog: &Catalog, durable: Sequence) -> bool {
    next_action(catalog, durable).is_none() && has_work(catalog)
}

fn next_action(catalog: &Catalog, durable: Sequence) -> Option<Action> {
    catalog
        .sweeping()
        .find_map(|id| sweep_action(catalog, id, durable))
        .or_else(|| catalog.unnamed().find_map(|id| begin_action(catalog, id)))
}

fn sweep_action(catalog: &Catalog, id: LayerId, durable: Sequence) -> Option<Action> {
    let layer = catalog.layer(id);
    match layer.freeing {
        Some(u64::MAX) => return Some(Action::EndFree(id)),
        Some(_) => return Some(Action::Sweep { layer: id, into: id }),
        None => {}
    }
    layer.read(|body| {
        body.ownership.incoming.iter().find_map(|mark| match mark.cursor {
            Some(_) => Some(Action::Sweep { layer: mark.layer, into: id }),
            // Rule 10: only when the record that began the absorb is durable.
            None if mark.begun <= durable || mutants::active(Mutant::InPlaceBeforeDurable) => {
                Some(Action::EndAbsorb { layer: mark.layer, into: id })
            }
            None => None,
        })
    })
}

/// Rule 6. Free is preferred to absorb.
fn begin_action(catalog: &Catalog, id: LayerId) -> Option<Action> {
    let layer = catalog.layer(id);
    let receiving = layer.read(|body| !body.ownership.incoming.is_empty());
    let blocked = receiving && !mutants::active(Mutant::AbsorbReceiving);
    if layer.freeing.is_some() || layer.pins > 0 || blocked {
        return None;
    }
    let mut dependents = catalog.dependents(id);
    let Some(first) = dependents.next() else {
        return (!receiving).then_some(Action::Free(id));
    };
    if dependents.next().is_some() && !mutants::active(Mutant::AbsorbOneOfTwo) {
        return None;
    }
    let into = catalog.layer(first);
    let busy = into.read(|body| body.ownership.incoming.len()) >= INCOMING_MAX;
    (into.freeing.is_none() && !busy).then_some(Action::Absorb { layer: id, into: first })
}

async fn perform(desk: &Desk, action: Action) -> Result<(), Error> {
    let record = match action {
        Action::Free(layer) => Record::BeginFree { layer: layer.0 },
        Action::Absorb { layer, into } => Record::BeginAbsorb { layer: layer.0, into: into.0 },
        Action::EndFree(layer) => Record::EndFree { layer: layer.0 },
        Action::EndAbsorb { layer, into } => Record::EndAbsorb { layer: layer.0, into: into.0 },
        Action::Sweep { layer, into } => return sweep(desk, Sweep { layer, into }).await,
    };
    // The catalog may have changed since: a clone of a snapshot that was about to be absorbed, say.
    let still = |catalog: &mut Catalog| {
        let next = next_action(catalog, desk.core.durable());
        Ok((next == Some(action)).then(|| record.clone()))
    };
    command::stage_with(desk, still).await.map(drop)
}

/// One step of a sweep: a few nodes, one record.
async fn sweep(desk: &Desk, sweep: Sweep) -> Result<(), Error> {
    let core = &desk.core;
    // What was read stays until the step is done, however small the cache is.
    let nodes = Pinned::new(&*core.cache);
    loop {
        let hold = core.hold_releases();
        match sweep_once(core, sweep, &nodes) {
            Ok(()) | Err(Stop::Gone) => return Ok(()),
            Err(Stop::Missing(missing)) => fetch(desk, missing).await?,
            Err(Stop::NotStored) => {
                drop(hold);
                command::checkpoint(desk).await?;
            }
            Err(Stop::Refused(Error::TailFull)) => {
                core.want_commit();
                io::yield_now().await;
            }
            Err(Stop::Refused(error)) => return Err(error),
        }
    }
}

fn sweep_once(core: &Core, sweep: Sweep, nodes: &impl Nodes<ExtentLeaf>) -> Result<(), Stop<Error>> {
    let reach = Reach { nodes_max: core.limits.sweep_nodes, runs_max: RUNS_A_STEP, upto: None };
    let _gate = core.gate.read().expect("no thread panics inside the gate");
    let mut catalog = core.catalog.lock();
    let mut staged = None;
    let freed = catalog.sweep(sweep, nodes, &reach, |cursor| {
        let record = Record::Sweep { layer: sweep.layer.0, into: sweep.into.0, cursor };
        staged = Some(core.stage_control(&record)?);
        Ok(())
    })?;
    core.account(&[], freed, staged.expect("a sweep that changed something was staged"));
    Ok(())
}

/// Reads a clean node of an extent tree and keeps it.
pub(crate) async fn fetch(desk: &Desk, Missing(pointer): Missing) -> Result<(), Error> {
    let page = desk.io.read(pointer.address, 1, "reading a node").await?;
    desk.core.cache.put(&pointer, Arc::new(Node::decode(&page, &pointer, desk.core.id)?));
    Ok(())
}

/// Rule 14 for every waiting layer.
pub(crate) async fn thin_all(desk: &Desk) -> Result<(), Error> {
    let core = &desk.core;
    for id in core.with_catalog(|catalog| catalog.thinnable()) {
        let mut from = Some(0);
        while let Some(cursor) = from {
            from = thin(desk, id, cursor).await?;
        }
    }
    command::commit(desk).await
}

/// One part of a waiting layer; where the next one begins.
async fn thin(desk: &Desk, id: LayerId, from: u64) -> Result<Option<u64>, Error> {
    let core = &desk.core;
    let nodes = Pinned::new(&*core.cache);
    loop {
        if core.node_credits.load(Ordering::SeqCst) < THIN_CREDITS.min(core.credits_max) {
            command::checkpoint(desk).await?;
        }
        let _hold = core.hold_releases();
        match thin_once(core, id, from, &nodes) {
            Ok(upto) => return Ok(upto),
            Err(Stop::Missing(missing)) => fetch(desk, missing).await?,
            Err(Stop::Refused(Error::TailFull)) => {
                core.want_commit();
                io::yield_now().await;
            }
            Err(Stop::Gone | Stop::NotStored) => return Ok(None),
            Err(Stop::Refused(error)) => return Err(error),
        }
    }
}

fn thin_once(
    core: &Core,
    id: LayerId,
    from: u64,
    nodes: &impl Nodes<ExtentLeaf>,
) -> Result<Option<u64>, Stop<Error>> {
    let _gate = core.gate.read().expect("no thread panics inside the gate");
    let mut catalog = core.catalog.lock();
    if !catalog.thinnable().contains(&id) {
        return Err(Stop::Gone);
    }
    let thinned = catalog.thin_beside(id, from, nodes).map_err(Stop::Missing)?;
    let upto = thinned.upto;
    let record = Record::Thin { layer: id.0, from, upto };
    let sequence = core.stage_control(&record).map_err(Stop::Refused)?;
    let freed = catalog.take_thinned(id, thinned);
    core.account(&[], freed, sequence);
    Ok(upto)
}
