//! Executing an operator's commands, one at a time, each as one record: all or nothing.

use super::plan::{Point, base_of, busy, plan, plan_property_of, plan_snapshot, vacant, volume};
use super::reclaim::{self, fetch};
use super::{Desk, give_back, provision};
use crate::catalog::sweep::Stop;
use crate::catalog::{Catalog, apply};
use crate::check;
use crate::command::{Command, Outcome};
use crate::core::Core;
use crate::error::Error;
use crate::ids::EntryId;
use crate::live::Live;
use crate::mutants::{self, Mutant};
use crate::name::Name;
use crate::record::{Record, legal_size};
use crate::ticket::Ticket;
use cow_tree::{ExtentLeaf, Nodes, Pinned};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) async fn run(desk: Desk) {
    let core = desk.core.clone();
    loop {
        desk.until(|| !core.commands.lock().is_empty()).await;
        let next = core.commands.lock().pop_front();
        let Some((command, ticket)) = next else { continue };
        let closing = matches!(command, Command::Close);
        let outcome = execute(&desk, command, &ticket).await;
        if closing {
            core.closed.store(true, Ordering::SeqCst);
            for (_, late) in core.commands.lock().drain(..) {
                late.settle(Err(Error::Closing));
            }
        }
        ticket.settle(outcome);
        core.stepped();
        if closing {
            return;
        }
    }
}

async fn execute(desk: &Desk, command: Command, ticket: &Ticket) -> Result<Outcome, Error> {
    let core = &desk.core;
    match command {
        Command::Check => return check::run(desk, ticket).await.map(Outcome::Checked),
        Command::Close => return close(desk).await.map(|()| Outcome::Done),
        _ if core.read_only => return Err(Error::ReadOnly),
        Command::Commit => commit(desk).await?,
        Command::Checkpoint => checkpoint(desk).await?,
        Command::Settle => settle(desk).await?,
        Command::Grow => super::grow::grow(desk).await?,
        Command::Extend { bytes } => super::grow::extend(desk, bytes).await?,
        Command::Thin => reclaim::thin_all(desk).await?,
        Command::Snapshot { names } => snapshot(desk, &names).await?,
        Command::SetProperty { names, key, value } => {
            set_property(desk, &names, &key, value.as_deref()).await?
        }
        Command::Resize { name, size } => resize(desk, &name, size).await?,
        other => stage(desk, |catalog| plan(core, catalog, &other)).await?,
    }
    Ok(Outcome::Done)
}

/// Plans, stages and applies one record, then makes it durable: a command that has answered survives power loss.
async fn stage(desk: &Desk, plan: impl Fn(&mut Catalog) -> Result<Record, Error>) -> Result<(), Error> {
    stage_with(desk, |catalog| plan(catalog).map(Some)).await?;
    commit(desk).await
}

/// Refused as a whole, before anything is staged; one commit makes it durable, as a rule: a crash before the answer may leave some.
async fn set_property(desk: &Desk, names: &[Name], key: &str, value: Option<&str>) -> Result<(), Error> {
    let plan = |catalog: &Catalog, name| plan_property_of(catalog, name, key, value);
    desk.core.with_catalog(|catalog| names.iter().try_for_each(|name| plan(catalog, name).map(drop)))?;
    for name in names {
        stage_with(desk, |catalog| plan(catalog, name).map(Some)).await?;
    }
    commit(desk).await
}

/// Waits for room in the tail, then plans, stages and applies a record in one go, so that what the plan was made from is
/// what the record meets. A plan of `None` is nothing to do. Says whether something was done.
pub(crate) async fn stage_with(
    desk: &Desk,
    plan: impl Fn(&mut Catalog) -> Result<Option<Record>, Error>,
) -> Result<bool, Error> {
    loop {
        match desk.core.change_catalog(&plan) {
            Err(Error::TailFull) => {
                let number = desk.core.want_commit();
                desk.until(|| desk.core.is_committed(number) || desk.core.is_poisoned()).await;
            }
            other => return other,
        }
    }
}

pub(crate) async fn commit(desk: &Desk) -> Result<(), Error> {
    let core = &desk.core;
    let number = core.want_commit();
    desk.until(|| core.is_committed(number) || core.is_poisoned()).await;
    if core.is_poisoned() { Err(Error::Poisoned) } else { Ok(()) }
}

pub(crate) async fn checkpoint(desk: &Desk) -> Result<(), Error> {
    let core = &desk.core;
    let number = core.want_checkpoint();
    desk.until(|| core.checkpoints.done.load(Ordering::SeqCst) >= number.0 || core.is_poisoned()).await;
    if core.is_poisoned() { Err(Error::Poisoned) } else { Ok(()) }
}

/// Until nothing is left to reclaim, everything freed until then is free, and the device has its space. What guests free
/// meanwhile is not waited for.
async fn settle(desk: &Desk) -> Result<(), Error> {
    let core = &desk.core;
    let busy = || core.with_catalog(|catalog| reclaim::has_work(catalog));
    while busy() {
        // What can only go on when something is durable must not wait for the next commit by the clock.
        commit(desk).await?;
        let stuck = || core.with_catalog(|catalog| reclaim::is_stuck(catalog, core.durable()));
        desk.until(|| core.is_poisoned() || !busy() || stuck()).await;
    }
    // Without it there is no room for data; that there is none for it is for whoever wants some.
    let _has_room = provision::secure_metadata(core, &desk.io).await;
    commit(desk).await?;
    checkpoint(desk).await?;
    let last = core.durable();
    let waits = || core.quarantine.lock().iter().any(|freed| freed.sequence <= last);
    desk.until(|| core.is_poisoned() || !waits()).await;
    give_back::all(core, &desk.io).await;
    if core.is_poisoned() { Err(Error::Poisoned) } else { Ok(()) }
}

/// A last commit and a checkpoint that says so: the next opening replays nothing.
async fn close(desk: &Desk) -> Result<(), Error> {
    let core = &desk.core;
    if core.read_only {
        return Ok(());
    }
    core.closing.store(true, Ordering::SeqCst);
    if core.is_poisoned() {
        return Err(Error::Poisoned);
    }
    checkpoint(desk).await?;
    give_back::closing(desk).await;
    Ok(())
}

/// Volumes that are open have their writes drained first; one opened meanwhile is drained in another round.
async fn snapshot(desk: &Desk, names: &[Name]) -> Result<(), Error> {
    let core = &desk.core;
    loop {
        let lives = core.with_catalog(|catalog| lives_of(catalog, names))?;
        let gates = drain(desk, lives).await?;
        let plan = |catalog: &mut Catalog| {
            let open = lives_of(catalog, names)?;
            let is_drained = |live: &Arc<Live>| gates.lives.iter().any(|drained| Arc::ptr_eq(live, drained));
            if !open.iter().all(is_drained) {
                return Ok(None);
            }
            plan_snapshot(core, catalog, names).map(Some)
        };
        if stage_with(desk, plan).await? {
            drop(gates);
            return commit(desk).await;
        }
    }
}

/// The volumes among the named snapshots' that somebody has open.
fn lives_of(catalog: &Catalog, names: &[Name]) -> Result<Vec<Arc<Live>>, Error> {
    let mut lives = Vec::new();
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.base()) {
            return Err(Error::Invalid(format!("{} is named twice", name.base())));
        }
        vacant(catalog, name, Point::Yes)?;
        let (_, entry) = volume(catalog, &base_of(name))?;
        lives.extend(catalog.layer(entry.layer).live().cloned());
    }
    Ok(lives)
}

async fn resize(desk: &Desk, name: &Name, size: u64) -> Result<(), Error> {
    let core = &desk.core;
    legal_size(size)?;
    let nodes = Pinned::new(&*core.cache);
    loop {
        let _hold = core.hold_releases();
        match resize_once(core, name, size, &nodes) {
            Ok(()) => return commit(desk).await,
            Err(Stop::Missing(missing)) => fetch(desk, missing).await?,
            Err(Stop::Refused(Error::TailFull)) => commit(desk).await?,
            Err(Stop::Refused(error)) => return Err(error),
            Err(Stop::Gone | Stop::NotStored) => return Err(Error::NotFound(name.to_string())),
        }
    }
}

fn resize_once(
    core: &Core,
    name: &Name,
    size: u64,
    nodes: &impl Nodes<ExtentLeaf>,
) -> Result<(), Stop<Error>> {
    let _gate = core.gate.read().expect("no thread panics inside the gate");
    let mut catalog = core.catalog.lock();
    let (id, entry) = volume(&catalog, name).map_err(Stop::Refused)?;
    let live = catalog.layer(entry.layer).live().cloned();
    if size < entry.size && live.as_ref().is_some_and(|live| live.is_attached()) {
        let why = "it is open, and a guest does not expect its disk to shrink; close it first";
        return Err(Stop::Refused(busy(name, why)));
    }
    let record = Record::Resize { entry: id.0, size };
    let mut staged = None;
    let freed = catalog.resize(id, size, nodes, || {
        staged = Some(core.stage_control(&record)?);
        Ok(())
    })?;
    if let Some(live) = live {
        live.set_size(size);
    }
    core.account(&[], freed, staged.expect("a resize that happened was staged"));
    Ok(())
}

/// Volumes whose writes are held back; opened again when dropped.
struct ClosedGates {
    lives: Vec<Arc<Live>>,
    core: Arc<Core>,
}

impl Drop for ClosedGates {
    fn drop(&mut self) {
        self.lives.iter().for_each(|live| live.set_gate_closed(false));
        self.core.announce();
    }
}

/// Closes the gates of open volumes and waits until the writes in flight have ended.
async fn drain(desk: &Desk, lives: Vec<Arc<Live>>) -> Result<ClosedGates, Error> {
    let core = &desk.core;
    lives.iter().for_each(|live| live.set_gate_closed(true));
    let gates = ClosedGates { lives, core: core.clone() };
    if gates.lives.is_empty() || mutants::active(Mutant::SnapshotWithoutDrain) {
        return Ok(gates);
    }
    let deadline = desk.now() + core.limits.drain_timeout;
    let number = core.grace.want(core);
    desk.until(|| core.grace.is_over(number) || desk.now() >= deadline).await;
    if core.grace.is_over(number) { Ok(gates) } else { Err(Error::DrainTimeout) }
}

impl Core {
    /// Looks at the catalog or plans a change of it.
    pub(crate) fn with_catalog<R>(&self, look: impl FnOnce(&mut Catalog) -> R) -> R {
        look(&mut self.catalog.lock())
    }

    /// Plans, stages and applies one record: whole or not at all.
    fn change_catalog(
        &self,
        plan: &impl Fn(&mut Catalog) -> Result<Option<Record>, Error>,
    ) -> Result<bool, Error> {
        let _gate = self.gate.read().expect("no thread panics inside the gate");
        let mut catalog = self.catalog.lock();
        let Some(record) = plan(&mut catalog)? else { return Ok(false) };
        let sequence = self.stage_control(&record)?;
        apply::apply(&mut catalog, &record, sequence, self.limits.tree)
            .expect("a record made from the catalog fits the catalog");
        self.follow(&catalog, &record);
        Ok(true)
    }

    /// What open volumes must know of a change.
    fn follow(&self, catalog: &Catalog, record: &Record) {
        if let Record::Rename { entry, name } = record {
            let entry = catalog.entry(EntryId(*entry));
            if let Some(live) = catalog.layer(entry.layer).live() {
                name.clone_into(&mut live.name.lock());
            }
        }
    }
}
