//! Carries out what a command asks, on an open pool. The daemon and a command that opens the pool itself both use
//! this, so both do the same and say the same.

use crate::doors::Doors;
use crate::explain;
use crate::failure::{Code, Failure};
use crate::image_export;
use crate::import;
use crate::wire::{Answer, Ask, EntryView, StatusView};
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
    fn doors(&self, what: String) -> Result<&Doors, Failure> {
        self.doors.as_deref().ok_or_else(|| {
            let why = "only a daemon exports, and none holds this pool";
            Failure::new(Code::Unreachable, what, why, "offshoot serve, then the same command again")
        })
    }
}

/// Hears of the progress of a long request and may end it.
pub(crate) trait Watcher {
    /// Bytes done of bytes in total. False cancels.
    fn progress(&mut self, done: u64, total: u64) -> bool;
}

pub(crate) fn handle(held: &Held, ask: Ask, watcher: &mut dyn Watcher) -> Result<Answer, Failure> {
    let pool = &held.pool;
    match ask {
        Ask::Entries => Ok(Answer::Entries { items: pool.entries().iter().map(EntryView::from).collect() }),
        Ask::Status => Ok(Answer::Status(StatusView::from(&pool.status()))),
        Ask::Import(order) => import::run(pool, &order, watcher).map(Answer::Imported),
        Ask::ExportImage(order) => image_export::run(pool, &order, watcher).map(Answer::ImageExported),
        Ask::Export(ref order) => {
            held.doors(describe(&ask))?.export(order).map(Box::new).map(Answer::Exported)
        }
        Ask::Unexport { ref name } => held.doors(describe(&ask))?.unexport(name).map(|()| Answer::Done),
        Ask::Exports => {
            let items = held.doors.as_deref().map(Doors::exports).unwrap_or_default();
            Ok(Answer::Exports { items })
        }
        other => {
            let what = describe(&other);
            let command = lower(other, &what)?;
            let resized = match &command {
                Command::Resize { name, .. } => Some(name.clone()),
                _ => None,
            };
            let outcome = run(pool, command, watcher).map_err(|error| explain::engine(what, &error))?;
            if let (Some(name), Some(doors)) = (resized, &held.doors) {
                doors.resized(&name);
            }
            match outcome {
                Outcome::Checked(report) => Ok(Answer::Checked(report.into())),
                Outcome::Done => Ok(Answer::Done),
            }
        }
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
        if total > 0 && !watcher.progress(done, total) {
            ticket.cancel();
        }
    }
}

/// What the failure of a request means, for its first line.
fn describe(ask: &Ask) -> String {
    match ask {
        Ask::Entries | Ask::Status | Ask::Exports => "the pool was not read".to_owned(),
        Ask::CreateVolume { name, .. } => format!("volume {name} was not created"),
        Ask::Clone { source, names, .. } => match names.as_slice() {
            [name] => format!("{name} was not cloned from {source}"),
            _ => format!("none of {} clones of {source} was made", names.len()),
        },
        Ask::Snapshot { names } => match names.as_slice() {
            [name] => format!("snapshot {name} was not taken"),
            _ => format!("none of {} snapshots was taken", names.len()),
        },
        Ask::Rollback { to } => format!("nothing was rolled back to {to}"),
        Ask::Remove { name, .. } => format!("{name} was not removed"),
        Ask::Resize { name, .. } => format!("{name} was not resized"),
        Ask::Settle => "the pool did not settle".to_owned(),
        Ask::Thin => "the pool was not thinned".to_owned(),
        Ask::Grow { .. } => "the pool was not grown".to_owned(),
        Ask::Check => "the pool was not checked".to_owned(),
        Ask::Import(order) => format!("{} was not imported", order.version),
        Ask::ExportImage(order) => format!("{} was not exported", order.name),
        Ask::Export(order) => format!("{} was not exported", order.name),
        Ask::Unexport { name } => format!("{name} is exported as before"),
    }
}

/// Checks the names and turns a request into the engine's command.
fn lower(ask: Ask, what: &str) -> Result<Command, Failure> {
    let name = |text: String| parse_name(&text, what);
    let names =
        |texts: Vec<String>| texts.iter().map(|text| parse_name(text, what)).collect::<Result<_, _>>();
    Ok(match ask {
        Ask::CreateVolume { name: text, size } => Command::CreateVolume { name: name(text)?, size },
        Ask::Clone { source, names: texts, size } => {
            Command::Clone { source: name(source)?, names: names(texts)?, size }
        }
        Ask::Snapshot { names: texts } => Command::Snapshot { names: names(texts)? },
        Ask::Rollback { to } => Command::Rollback { to: name(to)? },
        Ask::Remove { name: text, recursive } => Command::Remove { name: name(text)?, recursive },
        Ask::Resize { name: text, size } => Command::Resize { name: name(text)?, size },
        Ask::Settle => Command::Settle,
        Ask::Thin => Command::Thin,
        Ask::Grow { size } => Command::Extend { bytes: size },
        Ask::Check => Command::Check,
        Ask::Entries
        | Ask::Status
        | Ask::Import(_)
        | Ask::ExportImage(_)
        | Ask::Export(_)
        | Ask::Unexport { .. }
        | Ask::Exports => {
            unreachable!("these are no commands of the engine")
        }
    })
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
