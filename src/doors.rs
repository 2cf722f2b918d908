//! What a daemon serves to virtual machines: the exports of its vhost-user-blk door.

use crate::explain;
use crate::failure::{Code, Failure, sentence};
use crate::handler::parse_name;
use crate::output::say;
use crate::run_directory::RunDirectory;
use crate::seed;
use crate::state_directory::StateDirectory;
use crate::users;
use crate::wire::{ExportChange, ExportOrder, ExportView, IoView};
use cow_tree::units::PoolId;
use rate_limit::RateLimits;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use thinpool::{Access, Command, Name, Pool};
use unix_socket::{Error as SocketError, Owner};
use vhost_blk::{Error, ExportOptions, ExportStatus, Server, ServerOptions};

/// The property that has an export's order, so that it comes back.
const PROPERTY: &str = "offshoot.export";

/// Dropping it disconnects every virtual machine and waits for what is in flight.
#[derive(Debug)]
pub(crate) struct Doors {
    vhost: Server,
    pool: Pool,
    /// What is started and what is noted change together.
    changing: Mutex<()>,
    directory: RunDirectory,
    pool_id: PoolId,
    /// Where the NBD server of the same pool listens, once it does.
    nbd: OnceLock<Vec<String>>,
}

impl Doors {
    /// `spin`: how long workers look for work before they sleep, if not as long as usual.
    pub(crate) fn open(
        pool: &Pool,
        pool_id: PoolId,
        directory: &RunDirectory,
        spin: Option<Duration>,
    ) -> Result<Self, Failure> {
        let usual = ServerOptions::default();
        let options = ServerOptions { spin: spin.unwrap_or(usual.spin), ..usual };
        let vhost = Server::start(pool, &options)
            .map_err(|error| failure("the pool is not served".to_owned(), &error))?;
        Ok(Self {
            vhost,
            pool: pool.clone(),
            changing: Mutex::default(),
            directory: directory.clone(),
            pool_id,
            nbd: OnceLock::new(),
        })
    }

    /// The NBD server listens there from now on.
    pub(crate) fn tell_nbd(&self, addresses: Vec<String>) {
        self.nbd.set(addresses).expect("a daemon starts one NBD server for a pool");
    }

    pub(crate) fn nbd(&self) -> &[String] {
        self.nbd.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// When this returns, a virtual machine can connect. The export comes back when the pool is served again.
    pub(crate) fn export(&self, order: &ExportOrder) -> Result<ExportView, Failure> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = self.standing(order) {
            return Ok(view);
        }
        let view = self.start(order)?;
        self.remember(&order.name, Some(order)).map_err(|mut failure| {
            if let Err(error) = self.stop(&order.name) {
                failure.why.push_str(&format!("; and it is exported still: {}", error.why));
            }
            failure
        })?;
        Ok(view)
    }

    /// The export that the very same order has made before.
    fn standing(&self, order: &ExportOrder) -> Option<ExportView> {
        let entry = self.pool.entry(&order.name.parse().ok()?)?;
        let noted: ExportOrder = serde_json::from_str(entry.properties.get(PROPERTY)?).ok()?;
        let found = || self.exports().into_iter().find(|export| export.name == order.name);
        (noted == *order).then(found).flatten()
    }

    /// Counts at once for whoever is connected, and when the export comes back.
    pub(crate) fn change(&self, name: &str, change: &ExportChange) -> Result<ExportView, Failure> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = self.noted(name, change)?;
        let order = noted.with(change);
        self.limit(name, &order)?;
        self.remember(name, Some(&order)).map_err(|mut failure| {
            if let Err(error) = self.limit(name, &noted) {
                failure.why.push_str(&format!("; and it has its new limits: {}", error.why));
            }
            failure
        })?;
        self.found(name)
    }

    /// The order that an export to be changed was made by.
    pub(crate) fn noted(&self, name: &str, change: &ExportChange) -> Result<ExportOrder, Failure> {
        let what = format!("{name} is exported as before");
        if *change == ExportChange::default() {
            let why = "nothing is given that would be different";
            return Err(Failure::new(Code::Usage, what, why, "--iops COUNT, or --bandwidth SIZE"));
        }
        let entry = self.pool.entry(&parse_name(name, &what)?);
        let noted = entry.and_then(|entry| serde_json::from_str(entry.properties.get(PROPERTY)?).ok());
        let is_started = self.exports().iter().any(|export| export.name == name);
        let missing = || failure(what, &Error::NotExported(name.to_owned()));
        noted.filter(|_| is_started).ok_or_else(missing)
    }

    fn limit(&self, name: &str, order: &ExportOrder) -> Result<(), Failure> {
        let what = format!("{name} is exported as before");
        let limits = self.vhost.set_rate_limits(&parse_name(name, &what)?, rate_limits(order));
        limits.map_err(|error| failure(what, &error))
    }

    /// Starts what was exported when the pool was last served. What cannot be exported any more is said, and stays noted.
    pub(crate) fn restore(&self, pool: &Pool) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in pool.entries() {
            let Some(text) = entry.properties.get(PROPERTY) else { continue };
            if let Err(why) = self.start_again(&entry.name.to_string(), text) {
                say(&format!("note: {} is not exported as it was: {why}", entry.name));
            }
        }
    }

    /// A pool may come from anybody: where its sockets lie and who may open them it says only if this machine has noted the same.
    fn start_again(&self, name: &str, text: &str) -> Result<(), String> {
        let order: ExportOrder = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let order = ExportOrder { name: name.to_owned(), ..order };
        let is_usual = order.socket.is_none() && order.mode == 0o600;
        let ours = self.note_path(name).and_then(|path| std::fs::read_to_string(path).ok());
        if !is_usual && ours.as_deref() != Some(text) {
            let why = "the pool names a socket or a mode that was not asked for on this machine";
            return Err(format!("{why}; offshoot export start {name} asks for it"));
        }
        self.start(&order).map(drop).map_err(|failure| format!("{}; try {}", failure.why, failure.next))
    }

    /// Where this machine notes what was asked for here.
    fn note_path(&self, name: &str) -> Option<PathBuf> {
        let directory = StateDirectory::choose().ok()?.exports();
        Some(directory.join(format!("{}.{name}", self.pool_id)))
    }

    fn remember(&self, name: &str, order: Option<&ExportOrder>) -> Result<(), Failure> {
        let what = format!("that {name} is exported was not noted");
        let value = order.map(serde_json::to_string).transpose().map_err(|error| {
            Failure::new(Code::Failed, what.clone(), error.to_string(), "offshoot export start again")
        })?;
        let path = self.note_path(name);
        // Without it, it does not come back as it was, which is said then.
        let _noted = match (&value, path) {
            (Some(text), Some(path)) => std::fs::write(path, text),
            (None, Some(path)) => std::fs::remove_file(path),
            (_, None) => Ok(()),
        };
        let name = parse_name(name, &what)?;
        let note = Command::SetProperty { names: vec![name], key: PROPERTY.to_owned(), value };
        self.pool.run(note).map(drop).map_err(|error| explain::engine(what, &error))
    }

    fn start(&self, order: &ExportOrder) -> Result<ExportView, Failure> {
        let what = format!("{} was not exported", order.name);
        let name = parse_name(&order.name, &what)?;
        let is_seed = self.pool.entry(&name).is_some_and(|entry| seed::clone_of(&entry.properties).is_some());
        let never_changes = name.point().is_some() || is_seed;
        let access = if order.read_only || never_changes { Access::ReadOnly } else { Access::ReadWrite };
        let socket =
            order.socket.clone().unwrap_or_else(|| self.directory.vhost_socket(self.pool_id, &order.name));
        let rate_limits = rate_limits(order);
        let (mode, queues) = (order.mode, order.queues);
        let owner = owner_of(order, &what)?;
        let options = ExportOptions { name, socket, mode, owner, access, queues, rate_limits };
        self.vhost.export(&options).map_err(|error| failure(what, &error))?;
        self.found(&order.name)
    }

    fn found(&self, name: &str) -> Result<ExportView, Failure> {
        self.exports().into_iter().find(|export| export.name == name).ok_or_else(|| {
            let why = "it was removed at the same moment";
            Failure::new(Code::Conflict, format!("{name} is not exported"), why, "offshoot export ls")
        })
    }

    /// What is noted and could not be started again is forgotten just as well.
    pub(crate) fn unexport(&self, name: &str) -> Result<(), Failure> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let parsed = parse_name(name, &format!("{name} is exported as before"))?;
        let is_noted = self.pool.entry(&parsed).is_some_and(|entry| entry.properties.contains_key(PROPERTY));
        if is_noted {
            self.remember(name, None)?;
        }
        let is_started = self.exports().iter().any(|export| export.name == name);
        if is_noted && !is_started { Ok(()) } else { self.stop(name) }
    }

    fn stop(&self, name: &str) -> Result<(), Failure> {
        let what = format!("{name} is exported as before");
        let parsed = parse_name(name, &what)?;
        self.vhost.unexport(&parsed).map_err(|error| failure(what, &error))
    }

    /// A volume has another size.
    pub(crate) fn resized(&self, name: &Name) {
        self.vhost.resized(name);
    }

    pub(crate) fn exports(&self) -> Vec<ExportView> {
        self.vhost.exports().into_iter().map(|status| self.view(status)).collect()
    }

    fn view(&self, status: ExportStatus) -> ExportView {
        let ExportStatus { name, socket, read_only, connected, rate_limits, counts } = status;
        let RateLimits { iops, bytes_per_second, .. } = rate_limits;
        let nbd = self.nbd().iter().map(|address| nbd_export(address, &name)).collect();
        let io = IoView::from(&counts);
        ExportView { name, socket, nbd, read_only, connected, iops, bytes_per_second, io }
    }
}

/// Whose the socket is to be. One in the daemon's own directory would be out of his reach.
pub(crate) fn owner_of(order: &ExportOrder, what: &str) -> Result<Owner, Failure> {
    let refused = |why: String, next| Failure::new(Code::Usage, what, why, next);
    match &order.owner {
        None => Ok(Owner::default()),
        Some(owner) if order.socket.is_none() => {
            let why =
                format!("nobody but the daemon may enter the directory of its sockets, {owner} neither");
            Err(refused(why, "--socket PATH in a directory that the owner may enter"))
        }
        Some(owner) => {
            let next = "--socket-owner with a user or group of this machine";
            users::owner(owner).map_err(|why| refused(why, next))
        }
    }
}

fn rate_limits(order: &ExportOrder) -> RateLimits {
    let (iops, bytes_per_second) = (order.iops, order.bytes_per_second);
    RateLimits { iops, bytes_per_second, ..RateLimits::NONE }
}

/// The address of an export on the server with this one (the NBD project's uri.md).
fn nbd_export(server: &str, name: &str) -> String {
    match server.split_once("///?") {
        Some((scheme, rest)) => format!("{scheme}///{name}?{rest}"),
        None => format!("{server}/{name}"),
    }
}

fn failure(what: String, error: &Error) -> Failure {
    let (code, next) = match error {
        Error::Engine(error) => return explain::engine(what, error),
        Error::Socket(SocketError::InUse(_)) => (Code::Conflict, "--socket with another path"),
        Error::Socket(SocketError::Owner { .. }) => {
            (Code::Failed, "a daemon that is root, or --socket-owner :GROUP with a group it is in")
        }
        Error::Socket(SocketError::ForeignSocket(_)) => {
            (Code::Failed, "--socket with another path, or remove it if its server is gone")
        }
        Error::Socket(_) => (Code::Failed, "--socket with another path"),
        Error::Exported(_) => (Code::Conflict, "offshoot export ls"),
        Error::NotExported(_) => (Code::NotFound, "offshoot export ls"),
        Error::Queues { .. } => (Code::Usage, "--queues with another number"),
        Error::Thread(_) => (Code::Failed, "the same command again"),
    };
    Failure::new(code, what, sentence(error), next)
}
