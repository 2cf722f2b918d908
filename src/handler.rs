//! Carries out what a command asks, on an open pool. The daemon and a command that opens the pool itself both use
//! this, so both do the same and say the same.

use crate::doors::Doors;
use crate::explain;
use crate::failure::{Code, Failure, after};
use crate::image_export;
use crate::import;
use crate::labels;
use crate::plan;
use crate::seed::{self, Seeds};
use crate::wire::{
    Answer, Ask, CloneOrder, EntryList, EntryView, ExportList, LabelOrder, ON_FULL, OnFull, PoolOrder,
    RemoveOrder, RemovedView, StatusView, THRESHOLDS, Thresholds, VolumeOrder,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thinpool::{Command, Name, Outcome, Pool};

/// How often a long command is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// What commands are carried out on.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) pool: Pool,
    /// Only a daemon has them.
    pub(crate) doors: Option<Arc<Doors>>,
}

impl Held {
    pub(crate) fn doors(&self, what: String) -> Result<&Doors, Failure> {
        self.doors.as_deref().ok_or_else(|| {
            let why = "only a daemon exports, and none holds this pool";
            Failure::new(Code::Unreachable, what, why, "offshoot serve, then the same command again")
        })
    }

    pub(crate) fn status(&self) -> StatusView {
        let nbd = self.doors.as_deref().map(|doors| doors.nbd().to_vec()).unwrap_or_default();
        StatusView { nbd, ..StatusView::from(&self.pool.status()) }
    }

    fn run(&self, command: Command, watcher: &mut dyn Watcher, what: &str) -> Result<Outcome, Failure> {
        run(&self.pool, command, watcher).map_err(|error| explain::engine(what, &error))
    }
}

/// Hears of the progress of a long request and may end it.
pub(crate) trait Watcher {
    /// Bytes done of bytes in total. False cancels.
    fn progress(&mut self, done: u64, total: u64) -> bool;
}

/// Nobody waits for progress.
#[derive(Debug)]
pub(crate) struct Unwatched;

impl Watcher for Unwatched {
    fn progress(&mut self, _done: u64, _total: u64) -> bool {
        true
    }
}

pub(crate) fn handle(held: &Held, ask: Ask, watcher: &mut dyn Watcher) -> Result<Answer, Failure> {
    let pool = &held.pool;
    let what = describe(&ask);
    match ask {
        Ask::Entries => {
            Ok(Answer::Entries(EntryList { items: pool.entries().iter().map(EntryView::from).collect() }))
        }
        Ask::Status => Ok(Answer::Status(held.status())),
        Ask::Import(order) => import::run(pool, &order, watcher).map(Answer::Imported),
        Ask::ExportImage(order) => image_export::run(pool, &order, watcher).map(Answer::ImageExported),
        Ask::Export(order) => held.doors(what)?.export(&order).map(Box::new).map(Answer::Exported),
        Ask::SetExport { name, change } => {
            held.doors(what)?.change(&name, &change).map(Box::new).map(Answer::Exported)
        }
        Ask::Unexport { name } => held.doors(what)?.unexport(&name).map(|()| Answer::Done),
        Ask::Exports => {
            let items = held.doors.as_deref().map(Doors::exports).unwrap_or_default();
            Ok(Answer::Exports(ExportList { items }))
        }
        Ask::CreateVolumes(order) => create_volumes(held, &order, watcher),
        Ask::Remove(order) => remove(held, &order, watcher),
        Ask::Label(order) => label(held, &order, watcher, &what).map(|()| Answer::Done),
        Ask::Clone(order) => clone_volumes(held, &order, watcher, &what),
        Ask::Resize(order) => {
            let name = parse_name(&order.name, &what)?;
            held.run(Command::Resize { name: name.clone(), size: order.size }, watcher, &what)?;
            if let Some(doors) = &held.doors {
                doors.resized(&name);
            }
            Ok(Answer::Done)
        }
        Ask::Snapshot(order) => {
            let names = parse_names(&order.names, &what)?;
            held.run(Command::Snapshot { names }, watcher, &what).map(answer)
        }
        Ask::Rollback(order) => {
            let to = parse_name(&order.to, &what)?;
            held.run(Command::Rollback { to }, watcher, &what).map(answer)
        }
        Ask::Settle => held.run(Command::Settle, watcher, &what).map(answer),
        Ask::Thin => held.run(Command::Thin, watcher, &what).map(answer),
        Ask::Grow(order) => held.run(Command::Extend { bytes: order.size }, watcher, &what).map(answer),
        Ask::SetPool(order) => {
            set_pool(held, &order, watcher, &what)?;
            Ok(Answer::Status(held.status()))
        }
        Ask::Check => held.run(Command::Check, watcher, &what).map(answer),
    }
}

fn set_pool(held: &Held, order: &PoolOrder, watcher: &mut dyn Watcher, what: &str) -> Result<(), Failure> {
    let mut set = |key: &str, value: String| {
        let command = Command::SetPoolProperty { key: key.to_owned(), value: Some(value) };
        held.run(command, watcher, what)
    };
    let thresholds = thresholds(&held.pool, order, what)?;
    if order.has_thresholds() {
        let value = serde_json::to_string(&thresholds)
            .map_err(|error| Failure::new(Code::Failed, what, error.to_string(), "the same command again"))?;
        set(THRESHOLDS, value)?;
    }
    if let Some(on_full) = order.on_full {
        set(ON_FULL, on_full.to_string())?;
        // As it is now: somebody else may have set it at the same time.
        held.pool.hold_when_full(OnFull::of(&held.pool.status().properties).longest());
    }
    Ok(())
}

/// Those the pool has once the order is carried out.
pub(crate) fn thresholds(pool: &Pool, order: &PoolOrder, what: &str) -> Result<Thresholds, Failure> {
    let refused = |why: String| Err(Failure::new(Code::Usage, what, why, "--warn 80 --critical 90"));
    if *order == PoolOrder::default() {
        return refused("nothing is given that would be different".to_owned());
    }
    let thresholds = Thresholds::of(&pool.status().properties).with(order);
    thresholds.refusal().map_or(Ok(thresholds), refused)
}

fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Checked(report) => Answer::Checked(report.into()),
        Outcome::Done => Answer::Done,
    }
}

/// Tells how far a long command is, and cancels it when nobody wants it any more.
fn run(pool: &Pool, command: Command, watcher: &mut dyn Watcher) -> Result<Outcome, thinpool::Error> {
    let ticket = pool.submit(command);
    loop {
        if let Some(outcome) = ticket.wait_for(LOOK) {
            return outcome;
        }
        let (done, total) = ticket.progress();
        if !watcher.progress(done, total) && total > 0 {
            ticket.cancel();
        }
    }
}

/// One after the other, up to the first that fails; what was made until then stays.
fn create_volumes(held: &Held, order: &VolumeOrder, watcher: &mut dyn Watcher) -> Result<Answer, Failure> {
    let what = "no volume was created";
    check_labels(&order.labels, what)?;
    let names = parse_names(&order.names, what)?;
    for (created, name) in names.iter().enumerate() {
        let what = match created {
            0 => format!("volume {name} was not created"),
            _ => format!("volume {name} was not created, after {created} of {}", names.len()),
        };
        let command = Command::CreateVolume { name: name.clone(), size: order.size };
        held.run(command, watcher, &what).map_err(after(created))?;
    }
    set_labels(held, &names, &order.labels, watcher)?;
    Ok(Answer::Done)
}

/// All clones are one commit. Their seeds are there before it, and are removed again if it is not made.
fn clone_volumes(
    held: &Held,
    order: &CloneOrder,
    watcher: &mut dyn Watcher,
    what: &str,
) -> Result<Answer, Failure> {
    let names = parse_names(&order.names, what)?;
    check_labels(&order.labels, what)?;
    let source = parse_name(&order.source, what)?;
    let made = match &order.seed {
        Some(seed) => {
            plan::cloning(held, order, what)?;
            Some(Seeds::check(seed, &names, what)?.make(&held.pool, what)?)
        }
        None => None,
    };
    let command = Command::Clone { source, names: names.clone(), size: order.size };
    if let Err(failure) = held.run(command, watcher, what) {
        return Err(match made {
            Some(seeds) => seeds.abandon(failure),
            None => failure,
        });
    }
    set_labels(held, &names, &order.labels, watcher)?;
    Ok(Answer::Done)
}

/// Goes on after a failure: each name is its own command.
fn remove(held: &Held, order: &RemoveOrder, watcher: &mut dyn Watcher) -> Result<Answer, Failure> {
    let mut removed = RemovedView { names: Vec::new(), failures: Vec::new() };
    for text in seed::without_those_of(&order.names, &held.pool) {
        let what = format!("{text} was not removed");
        let one =
            parse_name(text, &what).and_then(|name| remove_one(held, name, order.recursive, watcher, &what));
        match one {
            Ok(names) => removed.names.extend(names),
            Err(failure) => removed.failures.push(failure),
        }
    }
    Ok(Answer::Removed(removed))
}

/// Returns what went: the name, and the seed of a clone with it.
fn remove_one(
    held: &Held,
    name: Name,
    recursive: bool,
    watcher: &mut dyn Watcher,
    what: &str,
) -> Result<Vec<String>, Failure> {
    let seed = seed::of(&held.pool, &name);
    if let Some(seed) = seed.as_ref().filter(|seed| seed.attached) {
        let (name, why) = (seed.name.to_string(), "it is open; close its exports first".to_owned());
        return Err(explain::engine(what, &thinpool::Error::Busy { name, why }));
    }
    let text = name.to_string();
    held.run(Command::Remove { name, recursive }, watcher, what)?;
    let Some(seed) = seed else { return Ok(vec![text]) };
    let what = format!("{text} was removed, and its seed {} was not", seed.name);
    seed::remove(&held.pool, &seed.name).map_err(|error| after(1)(explain::engine(what, &error)))?;
    Ok(vec![text, seed.name.to_string()])
}

fn label(held: &Held, order: &LabelOrder, watcher: &mut dyn Watcher, what: &str) -> Result<(), Failure> {
    let names = parse_names(&order.names, what)?;
    for (key, value) in &order.labels {
        refuse_label(key, value.as_deref(), what)?;
    }
    if let Some(missing) = names.iter().find(|name| held.pool.entry(name).is_none()) {
        return Err(explain::engine(what, &thinpool::Error::NotFound(missing.to_string())));
    }
    for (done, (key, value)) in order.labels.iter().enumerate() {
        let key = labels::property(key);
        let change = Command::SetProperty { names: names.clone(), key, value: value.clone() };
        held.run(change, watcher, what).map_err(after(done))?;
    }
    Ok(())
}

fn check_labels(labels: &BTreeMap<String, String>, what: &str) -> Result<(), Failure> {
    labels.iter().try_for_each(|(key, value)| refuse_label(key, Some(value), what))
}

fn refuse_label(key: &str, value: Option<&str>, what: &str) -> Result<(), Failure> {
    let refusal = labels::refusal(key, value);
    refusal.map_or(Ok(()), |why| Err(Failure::new(Code::Usage, what, why, "a label such as env=lab")))
}

/// The first labels of what was just made.
fn set_labels(
    held: &Held,
    names: &[Name],
    labels: &BTreeMap<String, String>,
    watcher: &mut dyn Watcher,
) -> Result<(), Failure> {
    for (key, value) in labels {
        let what = match names {
            [name] => format!("{name} is there, without its label {key}"),
            names => format!("all {} are there, without their label {key}", names.len()),
        };
        let (key, value) = (labels::property(key), Some(value.clone()));
        held.run(Command::SetProperty { names: names.to_vec(), key, value }, watcher, &what)
            .map_err(after(names.len()))?;
    }
    Ok(())
}

/// What the failure of a request means, for its first line.
pub(crate) fn describe(ask: &Ask) -> String {
    match ask {
        Ask::Entries | Ask::Status | Ask::Exports => "the pool was not read".to_owned(),
        Ask::CreateVolumes(order) => match order.names.as_slice() {
            [name] => format!("volume {name} was not created"),
            _ => "no volume was created".to_owned(),
        },
        Ask::Clone(order) => match order.names.as_slice() {
            [name] => format!("{name} was not cloned from {}", order.source),
            names => format!("none of {} clones of {} was made", names.len(), order.source),
        },
        Ask::Snapshot(order) => match order.names.as_slice() {
            [name] => format!("snapshot {name} was not taken"),
            names => format!("none of {} snapshots was taken", names.len()),
        },
        Ask::Rollback(order) => format!("nothing was rolled back to {}", order.to),
        Ask::Remove(_) => "nothing was removed".to_owned(),
        Ask::Resize(order) => format!("{} was not resized", order.name),
        Ask::Label(_) => "not all labels were changed".to_owned(),
        Ask::Settle => "the pool did not settle".to_owned(),
        Ask::Thin => "the pool was not thinned".to_owned(),
        Ask::Grow(_) => "the pool was not grown".to_owned(),
        Ask::SetPool(_) => "the pool was not changed".to_owned(),
        Ask::Check => "the pool was not checked".to_owned(),
        Ask::Import(order) => format!("{} was not imported", order.version),
        Ask::ExportImage(order) => format!("{} was not exported", order.name),
        Ask::Export(order) => format!("{} was not exported", order.name),
        Ask::SetExport { name, .. } | Ask::Unexport { name } => format!("{name} is exported as before"),
    }
}

pub(crate) fn parse_names(texts: &[String], what: &str) -> Result<Vec<Name>, Failure> {
    texts.iter().map(|text| parse_name(text, what)).collect()
}

/// A name as it was typed; `what` is the first line of the failure.
pub(crate) fn parse_name(text: &str, what: &str) -> Result<Name, Failure> {
    let shown: String = text.chars().take(40).collect();
    text.parse().map_err(|error: thinpool::NameError| {
        Failure::new(
            Code::Usage,
            what,
            format!("{shown:?} is no name: {error}"),
            "a name such as desk-01 or golden@v1",
        )
    })
}
