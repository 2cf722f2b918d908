//! The way to a pool: the daemon that serves it, or, where there is none, this process itself.

use crate::daemon::Client;
use crate::failure::{Code, Failure};
use crate::handler::{Held, Watcher, handle};
use crate::interrupt::Interrupt;
use crate::local_pool::{Demand, LocalPool};
use crate::pool_devices::{self, Whereabouts};
use crate::pool_file;
use crate::progress::Progress;
use crate::run_directory::RunDirectory;
use crate::wire::{Answer, Ask, EntryView, StatusView};
use blockstore::{Access, Engine};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) enum Reach {
    Daemon(Client),
    Here(LocalPool),
}

/// Nobody waits for progress.
#[derive(Debug)]
pub(crate) struct Unwatched;

impl Watcher for Unwatched {
    fn progress(&mut self, _done: u64, _total: u64) -> bool {
        true
    }
}

impl Reach {
    fn connect(choice: &PoolChoice, demand: Demand) -> Result<Self, Failure> {
        let places = choice.places()?;
        let pool_id = pool_file::identify(places.first)?;
        let directory = RunDirectory::choose()?;
        if let Some(client) = Client::connect(&directory.control_socket(pool_id))? {
            return Ok(Reach::Daemon(client));
        }
        Interrupt::watch()?;
        let access = if demand.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let devices = pool_devices::open(places, access, choice.engine)?;
        LocalPool::open(devices, pool_id, &directory, demand).map(Reach::Here)
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
            Reach::Here(local) => handle(&Held { pool: local.pool().clone(), doors: None }, ask, watcher),
        }
    }

    pub(crate) fn entries(&mut self) -> Result<Vec<EntryView>, Failure> {
        match self.ask(Ask::Entries)? {
            Answer::Entries { items } => Ok(items),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn status(&mut self) -> Result<StatusView, Failure> {
        match self.ask(Ask::Status)? {
            Answer::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    fn close(self) -> Result<(), Failure> {
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

/// The pool the operator named, and the way to its bytes.
#[derive(Debug, Clone)]
pub(crate) struct PoolChoice {
    pub(crate) path: Option<PathBuf>,
    /// Its other devices, where they are not where they were.
    pub(crate) others: Vec<PathBuf>,
    pub(crate) engine: Engine,
}

impl PoolChoice {
    pub(crate) fn path(&self) -> Result<&Path, Failure> {
        self.path.as_deref().filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
            let why = "no pool is named";
            Failure::new(Code::Usage, "nothing was done", why, "--pool PATH, or export OFFSHOOT_POOL=PATH")
        })
    }

    pub(crate) fn places(&self) -> Result<Whereabouts<'_>, Failure> {
        Ok(Whereabouts { first: self.path()?, others: &self.others })
    }

    /// Runs a command against the pool and closes it, whatever came of the command.
    pub(crate) fn with<T>(
        &self,
        demand: Demand,
        run: impl FnOnce(&mut Reach) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut reach = Reach::connect(self, demand)?;
        let result = run(&mut reach);
        let closed = reach.close();
        let value = result?;
        closed.map(|()| value)
    }
}

/// To change something.
pub(crate) const CHANGE: Demand = Demand { read_only: false, accept_lost_writes: false };
/// To look only.
pub(crate) const LOOK: Demand = Demand { read_only: true, accept_lost_writes: false };
