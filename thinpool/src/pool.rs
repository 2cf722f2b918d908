//! A pool that is open: ask it, open volumes of it, get channels to it.

use crate::attachment::{Access, Attachment};
use crate::catalog::figures;
use crate::channel::Channel;
use crate::command::{Command, Entry, EntryKind, Outcome, Status};
use crate::core::Core;
use crate::error::Error;
use crate::live::Live;
use crate::name::Name;
use crate::ticket::Ticket;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An open pool. Clones are handles to the same one.
#[derive(Clone)]
pub struct Pool {
    core: Arc<Core>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Pool({})", self.core.name)
    }
}

impl Pool {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// What the opener should tell the operator: what was recovered, or given up.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.core.notes
    }

    /// The date that new names get; seconds since 1970. The engine has no clock.
    pub fn tell_time(&self, now_unix: u64) {
        self.core.unix_time.store(now_unix, Ordering::Relaxed);
    }

    /// Says how long writes of patient attachments wait when the pool is full, before they fail, also those that wait already. At
    /// first they do not wait.
    pub fn hold_when_full(&self, longest: Duration) {
        self.core.space_waits.set_longest(longest);
        self.core.announce();
    }

    /// Opens a volume, snapshot or image version.
    ///
    /// # Errors
    /// When there is none, it is open read-write already, or it never changes and read-write is asked.
    pub fn attach(&self, name: &Name, access: Access) -> Result<Attachment, Error> {
        let core = &self.core;
        if core.closing.load(Ordering::SeqCst) {
            return Err(Error::Closing);
        }
        if access == Access::ReadWrite && core.is_poisoned() {
            return Err(Error::Poisoned);
        }
        if access == Access::ReadWrite && core.read_only {
            return Err(Error::ReadOnly);
        }
        let mut catalog = core.catalog.lock();
        let (_, entry) = catalog.find(&name.to_string()).ok_or_else(|| Error::NotFound(name.to_string()))?;
        let entry = entry.clone();
        if access == Access::ReadWrite && entry.kind != EntryKind::Volume {
            return Err(Error::Invalid(format!("{name} never changes; it can be opened for reading only")));
        }
        let layer = catalog.peek_mut(entry.layer);
        let live = layer.open(|body| Live::new(body, &entry, core.staging.last()));
        live.attach(access).map_err(|()| Error::Busy {
            name: name.to_string(),
            why: "it is open for writing already, and two writers would not know of each other".to_owned(),
        })?;
        let pinned = (entry.kind != EntryKind::Volume).then_some(entry.layer);
        layer.pins += u32::from(pinned.is_some());
        drop(catalog);
        if access == Access::ReadWrite {
            core.need(|needs| needs.metadata = true);
        }
        Ok(Attachment::new(core.clone(), live, access, pinned))
    }

    /// A way to send guest requests. Each thread has its own.
    ///
    /// # Errors
    /// When as many are open as the crash tail has lanes.
    pub fn channel(&self) -> Result<Channel, Error> {
        Channel::open(self.core.clone())
    }

    /// Everything that has a name, in order of creation.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.core.with_catalog(|catalog| figures::entries(catalog))
    }

    /// One name.
    #[must_use]
    pub fn entry(&self, name: &Name) -> Option<Entry> {
        self.core.with_catalog(|catalog| figures::entry(catalog, &name.to_string()))
    }

    /// What stands behind the '@' of the snapshots of a volume, or of the snapshots or versions before one: the newest
    /// first.
    #[must_use]
    pub fn points_before(&self, name: &Name) -> Vec<String> {
        self.core.with_catalog(|catalog| {
            let own = catalog.find(&name.to_string()).filter(|_| name.point().is_some()).map(|(id, _)| id);
            let points = catalog.points_of(name.base()).into_iter().rev();
            points
                .filter(|id| own.is_none_or(|own| *id < own))
                .filter_map(|id| catalog.entry(id).name.point().map(str::to_owned))
                .collect()
        })
    }

    /// The pool's figures.
    #[must_use]
    pub fn status(&self) -> Status {
        figures::status(&self.core)
    }

    /// Hands a command to the keeper. Somebody must be running it.
    #[must_use]
    pub fn submit(&self, command: Command) -> Arc<Ticket> {
        submit(&self.core, command)
    }

    /// Carries out a command and waits for its outcome.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn run(&self, command: Command) -> Result<Outcome, Error> {
        self.submit(command).wait()
    }
}

/// Nothing waits for ever: a command that comes after the keeper's end is answered here.
pub(crate) fn submit(core: &Arc<Core>, command: Command) -> Arc<Ticket> {
    let ticket = Arc::new(Ticket::default());
    let mut commands = core.commands.lock();
    if core.closed.load(Ordering::SeqCst) {
        ticket.settle(Err(Error::Closing));
    } else {
        commands.push_back((command, ticket.clone()));
    }
    drop(commands);
    core.keeper.ring();
    ticket
}
