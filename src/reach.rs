//! The way to a pool: the daemon that serves it, or, where there is none, this process itself.

use crate::daemon::Client;
use crate::failure::{Code, Failure};
use crate::handler::{Held, Unwatched, Watcher, handle};
use crate::history::{Author, History, failure_in};
use crate::interrupt::Interrupt;
use crate::local_pool::{Demand, LocalPool};
use crate::plan::plan;
use crate::pool_choice::Place;
use crate::pool_devices::{self, Whereabouts};
use crate::pool_file;
use crate::progress::Progress;
use crate::run_directory::RunDirectory;
use crate::wire::{Answer, Ask, EntryView, ExportView, PlanView, StatusView};
use blockstore::{Access, Engine};
use cow_tree::units::PoolId;
use std::path::PathBuf;
use thinpool::Command;

#[derive(Debug)]
pub(crate) enum Reach {
    Daemon(Client),
    Here(LocalPool),
}

impl Reach {
    /// `others` are further devices of the pool that are not where they were.
    pub(crate) fn connect(
        place: &Place,
        others: &[PathBuf],
        engine: Engine,
        demand: Demand,
    ) -> Result<Self, Failure> {
        match place {
            Place::Daemon { socket, pool } => match Client::connect(socket, pool)? {
                Some(client) => Ok(Reach::Daemon(client)),
                None => {
                    let why = format!("nobody answers on {}", socket.display());
                    Err(Failure::new(Code::Unreachable, "the pool was not reached", why, "offshoot serve"))
                }
            },
            Place::File(first) => Self::open(Whereabouts { first, others }, engine, demand),
        }
    }

    fn open(places: Whereabouts<'_>, engine: Engine, demand: Demand) -> Result<Self, Failure> {
        let pool_id = pool_file::identify(places.first)?;
        let directory = RunDirectory::choose()?;
        if let Some(client) = Self::find_daemon(pool_id, &directory)? {
            return Ok(Reach::Daemon(client));
        }
        Interrupt::watch()?;
        let access = if demand.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let devices = pool_devices::open(places, access, engine)?;
        LocalPool::open(devices, pool_id, &directory, demand).map(Reach::Here)
    }

    /// The daemon that holds the pool. A link of one that was killed may lead to another, which does not.
    pub(crate) fn find_daemon(pool_id: PoolId, directory: &RunDirectory) -> Result<Option<Client>, Failure> {
        let id = pool_id.to_string();
        let Some(client) = Client::connect(&directory.control_socket(pool_id), &id)? else { return Ok(None) };
        match client.get::<serde_json::Value>(&format!("/v1/pools/{id}")) {
            Ok(_) => Ok(Some(client)),
            Err(failure) if failure.code == Code::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub(crate) fn ask(&mut self, ask: Ask) -> Result<Answer, Failure> {
        self.ask_watched(ask, &mut Unwatched)
    }

    /// Shows how far it is, and cancels it when the operator interrupts.
    pub(crate) fn ask_patiently(&mut self, ask: Ask, interrupt: Interrupt) -> Result<Answer, Failure> {
        let mut progress = Progress::new(interrupt);
        let answer = self.ask_watched(ask, &mut progress);
        progress.end();
        answer
    }

    fn ask_watched(&mut self, ask: Ask, watcher: &mut dyn Watcher) -> Result<Answer, Failure> {
        match self {
            Reach::Daemon(client) => client.ask(&ask, watcher),
            Reach::Here(local) => {
                let held = Held { pool: local.pool().clone(), doors: None };
                if !ask.is_change() {
                    return handle(&held, ask, watcher);
                }
                let name = held.pool.status().pool;
                let run = || handle(&held, ask.clone(), watcher);
                History::open().of(&name, &Author::this_process(), &ask, run, failure_in)
            }
        }
    }

    /// Takes the room that metadata needs, so that nobody waits for it later. It changes nothing that anybody sees.
    pub(crate) fn make_ready(&self) {
        if let Reach::Here(local) = self {
            // What fails now is tried again when there is something to write.
            let _later_is_fine = local.pool().run(Command::Settle);
        }
    }

    /// What a change would do.
    pub(crate) fn plan(&mut self, ask: &Ask) -> Result<PlanView, Failure> {
        match self {
            Reach::Daemon(client) => match client.plan(ask)? {
                Answer::Planned(plan) => Ok(plan),
                other => Err(unexpected(&other)),
            },
            Reach::Here(local) => plan(&Held { pool: local.pool().clone(), doors: None }, ask),
        }
    }

    pub(crate) fn entries(&mut self) -> Result<Vec<EntryView>, Failure> {
        match self.ask(Ask::Entries)? {
            Answer::Entries(list) => Ok(list.items),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn exports(&mut self) -> Result<Vec<ExportView>, Failure> {
        match self.ask(Ask::Exports)? {
            Answer::Exports(list) => Ok(list.items),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn status(&mut self) -> Result<StatusView, Failure> {
        match self.ask(Ask::Status)? {
            Answer::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// The daemon that holds the pool, if one does.
    pub(crate) fn daemon(&self) -> Option<&Client> {
        match self {
            Reach::Daemon(client) => Some(client),
            Reach::Here(_) => None,
        }
    }

    pub(crate) fn close(self) -> Result<(), Failure> {
        match self {
            Reach::Daemon(_) => Ok(()),
            Reach::Here(local) => local.close(),
        }
    }
}

/// An answer to another question.
pub(crate) fn unexpected(answer: &Answer) -> Failure {
    let why = format!("the daemon gave an answer to another question: {answer:?}");
    Failure::new(Code::Unreachable, "the pool gave no answer", why, "offshoot --version")
}

/// To change something.
pub(crate) const CHANGE: Demand = Demand { read_only: false, accept_lost_writes: false };
/// To look only.
pub(crate) const LOOK: Demand = Demand { read_only: true, accept_lost_writes: false };
