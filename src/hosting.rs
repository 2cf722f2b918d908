//! One pool of a daemon: held, with its doors to virtual machines and its NBD server.

use crate::config::NbdConfig;
use crate::doors::Doors;
use crate::failure::{Code, Failure, sentence};
use crate::local_pool::{Demand, LocalPool};
use crate::pool_devices::{self, Whereabouts};
use crate::pool_file;
use crate::run_directory::RunDirectory;
use blockstore::{Access, Engine};
use cow_tree::units::PoolId;
use nbd_server::{Listen, Server, ServerOptions, Tls};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thinpool::Pool;

#[derive(Debug)]
pub(crate) struct Hosting {
    local: LocalPool,
    path: PathBuf,
    pool_id: PoolId,
    name: String,
    doors: Option<Arc<Doors>>,
    nbd: Option<Server>,
}

impl Hosting {
    /// Opens the pool; `others` are further devices that are not where they were. Nobody is served yet. `spin`: see [`Doors::open`].
    pub(crate) fn open(
        path: &Path,
        others: &[PathBuf],
        engine: Engine,
        demand: Demand,
        directory: &RunDirectory,
        spin: Option<Duration>,
    ) -> Result<Self, Failure> {
        let pool_id = pool_file::identify(path)?;
        let places = Whereabouts { first: path, others };
        let devices = pool_devices::open(places, Access::ReadWrite, engine)?;
        let local = LocalPool::open(devices, pool_id, directory, demand)?;
        match Doors::open(local.pool(), pool_id, directory, spin) {
            Ok(doors) => {
                let name = local.pool().status().pool;
                let doors = Some(Arc::new(doors));
                Ok(Self { local, path: path.to_owned(), pool_id, name, doors, nbd: None })
            }
            Err(failure) => {
                local.close()?;
                Err(failure)
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn pool_id(&self) -> PoolId {
        self.pool_id
    }

    pub(crate) fn pool(&self) -> &Pool {
        self.local.pool()
    }

    pub(crate) fn doors(&self) -> &Arc<Doors> {
        self.doors.as_ref().expect("they are there until the end")
    }

    /// Clients and virtual machines that are connected.
    pub(crate) fn clients(&self) -> usize {
        let machines = self.doors().exports().iter().filter(|export| export.connected).count();
        machines + self.nbd.as_ref().map_or(0, Server::connections)
    }

    pub(crate) fn start_nbd(
        &mut self,
        settings: &NbdConfig,
        directory: &RunDirectory,
        tls: Option<Tls>,
        tls_required: bool,
        inherited: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        // Who was given sockets makes none unless it is told to.
        let usual = || inherited.is_empty().then(|| directory.nbd_socket(self.pool_id));
        let path = settings.socket.clone().or_else(usual);
        let mode = settings.mode.unwrap_or(0o600);
        let mut listen: Vec<Listen> = path.map(|path| Listen::Unix { path, mode }).into_iter().collect();
        listen.extend(settings.tcp.map(Listen::Tcp));
        let options = ServerOptions {
            listen,
            default_export: settings.default_export.clone(),
            rate_limits: settings.limit.iter().cloned().map(|limit| (limit.name, limit.limits)).collect(),
            tls,
            tls_required,
            ..ServerOptions::default()
        };
        let server = Server::start_on(self.pool(), options, inherited).map_err(|error| {
            let code = match error {
                nbd_server::Error::Socket(unix_socket::Error::InUse(_)) => Code::Conflict,
                nbd_server::Error::NotLoopback(_) => Code::Usage,
                _ => Code::Failed,
            };
            let what = format!("the pool {} is not served", self.name);
            Failure::new(code, what, sentence(&error), "offshoot serve --socket with another path")
        })?;
        self.nbd = Some(server);
        self.doors().tell_nbd(self.addresses());
        Ok(())
    }

    /// Where NBD clients find it.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let all = self.nbd.as_ref().map(|server| server.addresses().collect::<Vec<_>>()).unwrap_or_default();
        let address = |(address, is_secure): &(&Listen, bool)| {
            let scheme = if *is_secure { "nbds" } else { "nbd" };
            match address {
                Listen::Unix { path, .. } => {
                    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                    format!("{scheme}+unix:///?socket={}", path.display())
                }
                Listen::Tcp(address) => format!("{scheme}://{address}"),
            }
        };
        all.iter().map(address).collect()
    }

    /// Lets NBD clients finish and hangs up on them.
    pub(crate) fn end_nbd(&mut self) {
        if let Some(server) = self.nbd.take() {
            server.shutdown();
        }
    }

    /// Disconnects virtual machines.
    pub(crate) fn end_doors(&mut self) {
        self.doors = None;
    }

    /// The pool ends clean, or the failure says why not.
    pub(crate) fn close(mut self) -> Result<(), Failure> {
        self.end_nbd();
        self.end_doors();
        self.local.close()
    }
}
