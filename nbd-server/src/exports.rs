//! The exports of a pool, and who has them open.
//!
//! A volume may have one read-write attachment in the whole pool. All connections of this server that use the
//! volume share it (W6); it is given back when the last of them closes. Readers of what never changes do not share:
//! whoever comes later gets what the name means then.

use crate::acceptor::{Place, Places};
use crate::handshake::{Description, Exports, Listed, Refusal};
use crate::limiters::Limiters;
use crate::limits::POINTS_MAX;
use crate::tls;
use rate_limit::{RateLimiter, RateLimits};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thinpool::{Access, Attachment, Entry, EntryKind, Name, Pool};

/// A pool as clients see it.
#[derive(Debug)]
pub(crate) struct ExportTable {
    pool: Pool,
    /// What the empty name means.
    default: Option<String>,
    /// Volumes open read-write.
    shared: Mutex<Vec<Shared>>,
    limiters: Limiters,
    seats: Places,
}

#[derive(Debug)]
struct Shared {
    attachment: Attachment,
    connections: usize,
    id: u64,
}

/// One connection's hold on an export.
#[derive(Debug)]
pub(crate) struct OpenExport {
    /// Empty only while it is dropped.
    attachment: Option<Attachment>,
    share: Option<Share>,
    /// Snapshots that changes are counted from.
    since: Vec<Attachment>,
    limiter: Arc<RateLimiter>,
    /// One of the connections that may have an export.
    _seat: Place,
}

/// A connection's part in a [`Shared`].
#[derive(Debug)]
struct Share {
    table: Arc<ExportTable>,
    id: u64,
}

impl ExportTable {
    pub(crate) fn new(
        pool: Pool,
        default: Option<String>,
        connections_max: usize,
        limits: BTreeMap<String, RateLimits>,
    ) -> Self {
        Self {
            pool,
            default,
            shared: Mutex::new(Vec::new()),
            limiters: Limiters::new(limits),
            seats: Places::new(connections_max),
        }
    }

    pub(crate) fn limiters(&self) -> &Limiters {
        &self.limiters
    }

    fn open(self: &Arc<Self>, entry: &Entry) -> Result<OpenExport, Refusal> {
        let too_many = || Refusal::Policy(format!("{} clients have an export already", self.seats.taken()));
        let seat = self.seats.take().ok_or_else(too_many)?;
        let limiter = self.limiters.of(&entry.name.to_string());
        if entry.kind == EntryKind::Volume {
            match self.open_shared(&entry.name) {
                Err(thinpool::Error::ReadOnly | thinpool::Error::Poisoned) => {}
                Err(error) => return Err(refusal(error)),
                Ok((attachment, share)) => {
                    return Ok(OpenExport::new(attachment, Some(share), limiter, seat));
                }
            }
        }
        let attachment = self.pool.attach(&entry.name, Access::ReadOnly).map_err(refusal)?;
        Ok(OpenExport::new(attachment, None, limiter, seat))
    }

    fn open_shared(self: &Arc<Self>, name: &Name) -> Result<(Attachment, Share), thinpool::Error> {
        let text = name.to_string();
        let mut shared = self.lock();
        let place = match shared.iter().position(|shared| shared.attachment.name() == text) {
            Some(place) => place,
            None => {
                let attachment = self.pool.attach(name, Access::ReadWrite)?;
                let id = shared.iter().map(|shared| shared.id + 1).max().unwrap_or(0);
                shared.push(Shared { attachment, connections: 0, id });
                shared.len() - 1
            }
        };
        let Shared { attachment, connections, id } = &mut shared[place];
        *connections += 1;
        let share = Share { table: self.clone(), id: *id };
        Ok((attachment.for_thread(), share))
    }

    /// The list stays whole even if a thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenExport {
    fn new(attachment: Attachment, share: Option<Share>, limiter: Arc<RateLimiter>, seat: Place) -> Self {
        if share.is_some() {
            attachment.be_patient();
        }
        Self { attachment: Some(attachment), share, since: Vec::new(), limiter, _seat: seat }
    }

    pub(crate) fn limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    pub(crate) fn attachment(&self) -> &Attachment {
        self.attachment.as_ref().expect("taken only by drop")
    }

    /// One of the snapshots, in the order in which they were selected.
    pub(crate) fn since(&self, index: usize) -> &Attachment {
        &self.since[index]
    }
}

/// Everything is given back under the lock: a client that comes back at once must find the volume either shared
/// or free.
impl Drop for OpenExport {
    fn drop(&mut self) {
        let Some(Share { table, id }) = self.share.take() else { return };
        let mut shared = table.lock();
        self.attachment = None;
        if let Some(place) = shared.iter().position(|shared| shared.id == id) {
            shared[place].connections -= 1;
            if shared[place].connections == 0 {
                shared.swap_remove(place);
            }
        }
    }
}

fn refusal(error: thinpool::Error) -> Refusal {
    match error {
        thinpool::Error::NotFound(_) => Refusal::Unknown,
        thinpool::Error::Closing => Refusal::ShuttingDown,
        error => Refusal::Policy(error.to_string()),
    }
}

/// The exports as one handshake sees them; holds what it opened.
#[derive(Debug)]
pub(crate) struct PoolExports {
    pub(crate) table: Arc<ExportTable>,
    pub(crate) opened: Option<OpenExport>,
    /// What this client may have, and know of.
    pub(crate) access: tls::Access,
}

impl PoolExports {
    /// Snapshots that changes may be counted from: those this client might as well open.
    fn points(&self, entry: &Entry) -> Vec<String> {
        let mut points = self.table.pool.points_before(&entry.name);
        points.retain(|point| self.access.allows(&format!("{}@{point}", entry.name.base())));
        points.truncate(POINTS_MAX);
        points
    }

    /// What an export is, for people; not what the client must not know of.
    fn text(&self, entry: &Entry) -> String {
        let kind = match entry.kind {
            EntryKind::Volume => "volume",
            EntryKind::Snapshot => "snapshot",
            EntryKind::Version => "image version",
        };
        match entry.origin.as_ref().filter(|origin| self.access.allows(origin)) {
            Some(origin) => format!("{kind}, made from {origin}"),
            None => kind.to_owned(),
        }
    }

    fn description(&self, entry: &Entry, size: u64, read_only: bool) -> Description {
        let (text, points) = (self.text(entry), self.points(entry));
        Description { name: entry.name.to_string(), text, size, read_only, points }
    }

    fn entry(&self, name: &str) -> Result<Entry, Refusal> {
        let name = match (name, &self.table.default) {
            ("", Some(default)) => default,
            (name, _) => name,
        };
        if !self.access.allows(name) {
            return Err(Refusal::Policy("the client's certificate gives it no such export".to_owned()));
        }
        let name: Name = name.parse().map_err(|_| Refusal::Unknown)?;
        self.table.pool.entry(&name).ok_or(Refusal::Unknown)
    }
}

impl Exports for PoolExports {
    fn list(&self) -> Result<Vec<Listed>, Refusal> {
        let listed = |entry: &Entry| Listed { name: entry.name.to_string(), text: self.text(entry) };
        let entries = self.table.pool.entries();
        Ok(entries.iter().map(listed).filter(|export| self.access.allows(&export.name)).collect())
    }

    fn describe(&self, name: &str) -> Result<Description, Refusal> {
        let entry = self.entry(name)?;
        let pool = self.table.pool.status();
        let read_only = entry.kind != EntryKind::Volume || pool.read_only || pool.poisoned;
        Ok(self.description(&entry, entry.size, read_only))
    }

    fn open(&mut self, name: &str, points: &[&str]) -> Result<Description, Refusal> {
        let entry = self.entry(name)?;
        let mut open = self.table.open(&entry)?;
        for point in points {
            let name: Name =
                format!("{}@{point}", entry.name.base()).parse().map_err(|_| Refusal::Unknown)?;
            open.since.push(self.table.pool.attach(&name, Access::ReadOnly).map_err(refusal)?);
        }
        let (size, read_only) = (open.attachment().size(), open.attachment().is_read_only());
        let description = self.description(&entry, size, read_only);
        self.opened = Some(open);
        Ok(description)
    }
}
