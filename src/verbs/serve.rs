//! `offshoot serve`: holds the pool, serves it over NBD, and answers other offshoot commands, until SIGTERM or SIGINT.

use crate::arguments::ServeArguments;
use crate::daemon::ControlServer;
use crate::doors::Doors;
use crate::failure::{Code, Failure, sentence};
use crate::handler::Held;
use crate::local_pool::{Demand, LocalPool};
use crate::output::{print, say};
use crate::pool_devices;
use crate::pool_file;
use crate::reach::PoolChoice;
use crate::run_directory::RunDirectory;
use crate::service_manager::{self, Watchdog};
use blockstore::Access;
use cow_tree::units::PoolId;
use nbd_server::{Listen, Server, ServerOptions, Tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

const WHAT: &str = "the pool is not served";

pub(super) fn run(pool: &PoolChoice, options: ServeArguments) -> Result<(), Failure> {
    let path = pool.path()?;
    let inherited = service_manager::inherited_sockets().map_err(|error| {
        let why = format!("a socket it was started with cannot be used: {error}");
        Failure::new(Code::Failed, WHAT, why, "sockets that accept streams, or none")
    })?;
    allow_descriptors();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| {
        Failure::new(
            Code::Failed,
            WHAT,
            format!("signals cannot be handled: {error}"),
            "the same command again",
        )
    })?;
    let pool_id = pool_file::identify(path)?;
    let directory = RunDirectory::choose()?;
    let devices = pool_devices::open(pool.places()?, Access::ReadWrite, pool.engine)?;
    let demand = Demand { read_only: false, accept_lost_writes: options.accept_lost_writes };
    let local = LocalPool::open(devices, pool_id, &directory, demand)?;
    say(&format!("note: control socket and crash tail are in {}", directory.path().display()));
    let served = serve(&local, pool_id, &directory, options, inherited, &mut signals);
    let closed = local.close();
    served?;
    closed?;
    say("closed");
    Ok(())
}

/// Each ring of a guest takes six descriptors, each region of its memory one: 30 machines are more than the usual limit.
fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is refused, the limit is what it was.
    let _as_before = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn serve(
    local: &LocalPool,
    pool_id: PoolId,
    directory: &RunDirectory,
    options: ServeArguments,
    inherited: Vec<OwnedFd>,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let doors = Arc::new(Doors::open(local.pool(), pool_id, directory)?);
    let held = Held { pool: local.pool().clone(), doors: Some(doors.clone()) };
    let control = ControlServer::start(&directory.control_socket(pool_id), held)?;
    let is_activated = !inherited.is_empty();
    let server = match start_nbd(local, pool_id, directory, options, inherited) {
        Ok(server) => server,
        Err(failure) => {
            control.stop();
            return Err(failure);
        }
    };
    let watchdog = Watchdog::start(local.pool()).map_err(|error| {
        let why = format!("no thread can be started that tells the service manager of it: {error}");
        Failure::new(Code::Failed, WHAT, why, "a higher TasksMax")
    });
    let (watchdog, ready) = match watchdog {
        Ok(watchdog) => (watchdog, announce(&server, is_activated)),
        Err(failure) => (None, Err(failure)),
    };
    if ready.is_ok() {
        service_manager::tell(&NotifyState::Ready);
        signals.forever().next();
        service_manager::tell(&NotifyState::Stopping);
        let machines = doors.exports().iter().filter(|export| export.connected).count();
        say(&format!("draining: {} clients", server.connections() + machines));
    }
    server.shutdown();
    control.stop();
    if let Some(watchdog) = watchdog {
        watchdog.stop();
    }
    drop(doors);
    ready
}

fn start_nbd(
    local: &LocalPool,
    pool_id: PoolId,
    directory: &RunDirectory,
    options: ServeArguments,
    inherited: Vec<OwnedFd>,
) -> Result<Server, Failure> {
    // Who was given sockets makes none unless it is told to.
    let usual = || inherited.is_empty().then(|| directory.nbd_socket(pool_id));
    let path = options.socket.or_else(usual);
    let mode = options.socket_mode;
    let mut listen: Vec<Listen> = path.map(|path| Listen::Unix { path, mode }).into_iter().collect();
    listen.extend(options.tcp.map(Listen::Tcp));
    let tls = options.tls.map(|directory| Tls::load(&directory, options.tls_allow)).transpose();
    let tls = tls.map_err(|error| {
        Failure::new(
            Code::Usage,
            WHAT,
            sentence(&error),
            "certtool or openssl, for certificates in PEM files",
        )
    })?;
    let server_options = ServerOptions {
        listen,
        default_export: options.default_export,
        tls,
        tls_required: options.tls_required,
        ..ServerOptions::default()
    };
    Server::start_on(local.pool(), server_options, inherited).map_err(|error| {
        let code = match error {
            nbd_server::Error::Socket(unix_socket::Error::InUse(_)) => Code::Conflict,
            nbd_server::Error::NotLoopback(_) => Code::Usage,
            _ => Code::Failed,
        };
        Failure::new(code, WHAT, sentence(&error), "offshoot serve --socket with another path")
    })
}

/// The line scripts wait for. Whoever gave the daemon its sockets knows where they are, and may have a use of its own for
/// what the daemon prints.
fn announce(server: &Server, is_activated: bool) -> Result<(), Failure> {
    let mut line = "ready".to_owned();
    for (address, is_secure) in server.addresses() {
        let scheme = if is_secure { "nbds" } else { "nbd" };
        match address {
            Listen::Unix { path, .. } => {
                let path = std::path::absolute(path).unwrap_or_else(|_| Path::new(path).to_owned());
                line.push_str(&format!(" {scheme}+unix:///?socket={}", path.display()));
            }
            Listen::Tcp(address) => line.push_str(&format!(" {scheme}://{address}")),
        }
    }
    if is_activated {
        say(&line);
        return Ok(());
    }
    line.push('\n');
    print(&line)
}
