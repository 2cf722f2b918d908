//! `offshoot serve`: holds pools, serves them to guests, and answers other offshoot commands, until SIGTERM or SIGINT.

use crate::arguments::ServeArguments;
use crate::config::{Config, NbdConfig, PoolConfig};
use crate::daemon::{Access, Api, ControlServer, Hosted, Role};
use crate::failure::{Code, Failure, sentence};
use crate::handler::Held;
use crate::history::History;
use crate::hosting::Hosting;
use crate::local_pool::Demand;
use crate::output::{print, say};
use crate::pool_choice::PoolChoice;
use crate::registry::{Entered, Registry};
use crate::run_directory::RunDirectory;
use crate::service_manager::{self, Watchdog};
use nbd_server::{Grant, Tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use unix_socket::SocketFile;

const WHAT: &str = "the pools are not served";

pub(super) fn run(pool: &PoolChoice, options: ServeArguments) -> Result<(), Failure> {
    let inherited = service_manager::inherited_sockets().map_err(|error| {
        let why = format!("a socket it was started with cannot be used: {error}");
        Failure::new(Code::Failed, WHAT, why, "sockets that accept streams, or none")
    })?;
    let config = settle(Config::read(options.config.as_deref())?, pool, &options)?;
    allow_descriptors();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| {
        let why = format!("signals cannot be handled: {error}");
        Failure::new(Code::Failed, WHAT, why, "the same command again")
    })?;
    let directory = RunDirectory::choose()?;
    say(&format!("note: control socket and crash tail are in {}", directory.path().display()));
    let mut access = Access::default();
    access.grant(Role::Admin, &config.access.admin)?;
    access.grant(Role::Operator, &config.access.operator)?;
    access.grant(Role::ReadOnly, &config.access.read_only)?;
    let grants = options.tls_allow.clone();
    let demand = Demand { read_only: false, accept_lost_writes: options.accept_lost_writes };
    let mut hostings = Vec::new();
    let opened = config.pools.iter().try_for_each(|settings| {
        let path = pool.or(Some(&settings.path)).path()?;
        let engine = settings.io.map_or(pool.engine, Into::into);
        let spin = settings.spin.map(Into::into);
        hostings.push(Hosting::open(&path, &pool.others, engine, demand, &directory, spin)?);
        Ok(())
    });
    let served = opened
        .and_then(|()| serve(&mut hostings, &config, access, &directory, inherited, grants, &mut signals));
    let mut closed = Ok(());
    for hosting in hostings {
        closed = closed.and(hosting.close());
    }
    served?;
    closed?;
    say("closed");
    Ok(())
}

/// What is typed goes before what is written in the file.
fn settle(mut config: Config, pool: &PoolChoice, options: &ServeArguments) -> Result<Config, Failure> {
    let plain =
        |path: &Path| PoolConfig { path: path.to_owned(), io: None, spin: None, nbd: NbdConfig::default() };
    if !options.pools.is_empty() {
        let written = std::mem::take(&mut config.pools);
        let settings = |path: &PathBuf| written.iter().find(|pool| pool.path == *path).cloned();
        config.pools =
            options.pools.iter().map(|path| settings(path).unwrap_or_else(|| plain(path))).collect();
    } else if let Some(path) = pool.pool.as_ref().filter(|_| options.config.is_none()) {
        config.pools = vec![plain(path)];
    } else if config.pools.is_empty() {
        config.pools = vec![plain(&pool.path()?)];
    }
    config.api.socket = options.api_socket.clone().or(config.api.socket);
    config.api.mode = options.api_mode.or(config.api.mode);
    config.tls.directory = options.tls.clone().or(config.tls.directory);
    config.tls.required |= options.tls_required;
    if config.tls.required && config.tls.directory.is_none() {
        let why = "TLS is required, and there is no directory with its certificates";
        return Err(Failure::new(Code::Usage, WHAT, why, "directory = PATH below [tls]"));
    }
    let nbd = NbdConfig {
        socket: options.socket.clone(),
        mode: options.socket_mode,
        tcp: options.tcp,
        default_export: options.default_export.clone(),
        limit: options.limit.clone(),
    };
    let is_typed =
        nbd.socket.is_some() || nbd.tcp.is_some() || nbd.default_export.is_some() || !nbd.limit.is_empty();
    match config.pools.as_mut_slice() {
        [only] => {
            only.nbd = NbdConfig {
                socket: nbd.socket.or(only.nbd.socket.take()),
                mode: nbd.mode.or(only.nbd.mode),
                tcp: nbd.tcp.or(only.nbd.tcp),
                default_export: nbd.default_export.or(only.nbd.default_export.take()),
                limit: if nbd.limit.is_empty() { std::mem::take(&mut only.nbd.limit) } else { nbd.limit },
            };
        }
        _ if is_typed => {
            let why = "--socket, --tcp, --default-export and --limit are for one pool, and there are several";
            return Err(Failure::new(
                Code::Usage,
                WHAT,
                why,
                "[pool.nbd] for each of them in a configuration file",
            ));
        }
        several => several.iter_mut().for_each(|pool| pool.nbd.mode = nbd.mode.or(pool.nbd.mode)),
    }
    config.pools.iter_mut().for_each(|pool| pool.spin = options.spin.or(pool.spin));
    Ok(config)
}

/// Each ring of a guest takes six descriptors, each region of its memory one: 30 machines are more than the usual limit.
fn allow_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Where it is refused, the limit is what it was.
    let _as_before = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn serve(
    hostings: &mut [Hosting],
    config: &Config,
    access: Access,
    directory: &RunDirectory,
    inherited: Vec<OwnedFd>,
    grants: Vec<Grant>,
    signals: &mut Signals,
) -> Result<(), Failure> {
    refuse_same_names(hostings)?;
    remember(hostings);
    let is_activated = !inherited.is_empty();
    if is_activated && hostings.len() > 1 {
        let why = "sockets that it was started with are for one pool, and there are several";
        return Err(Failure::new(Code::Usage, WHAT, why, "a daemon for each pool"));
    }
    let tls = load_tls(config, grants)?;
    // What comes back is there before anybody can ask for it, or for something else.
    hostings.iter().for_each(|hosting| hosting.doors().restore(hosting.pool()));
    let control = start_control(hostings, config, access, directory)?;
    let started = start_doors(hostings, config, directory, tls, inherited);
    let watchdog = started.and_then(|()| {
        let pools = hostings.iter().map(|hosting| hosting.pool().clone()).collect();
        Watchdog::start(pools).map_err(|error| {
            let why = format!("no thread can be started that tells the service manager of it: {error}");
            Failure::new(Code::Failed, WHAT, why, "a higher TasksMax")
        })
    });
    let (watchdog, ready) = match watchdog {
        Ok(watchdog) => (watchdog, announce(hostings, is_activated)),
        Err(failure) => (None, Err(failure)),
    };
    if ready.is_ok() {
        service_manager::tell(&NotifyState::Ready);
        signals.forever().next();
        service_manager::tell(&NotifyState::Stopping);
        let clients: usize = hostings.iter().map(Hosting::clients).sum();
        say(&format!("draining: {clients} clients"));
    }
    hostings.iter_mut().for_each(Hosting::end_nbd);
    control.stop();
    if let Some(watchdog) = watchdog {
        watchdog.stop();
    }
    hostings.iter_mut().for_each(Hosting::end_doors);
    ready
}

/// A pool goes by its name in the API.
fn refuse_same_names(hostings: &[Hosting]) -> Result<(), Failure> {
    for (place, hosting) in hostings.iter().enumerate() {
        if hostings[..place].iter().any(|other| other.name() == hosting.name()) {
            let why = format!("two of the pools are called {}", hosting.name());
            return Err(Failure::new(Code::Conflict, WHAT, why, "a daemon for each of them"));
        }
    }
    Ok(())
}

/// The pools' names are known from now on. Not knowing them is no reason to serve nothing.
fn remember(hostings: &[Hosting]) {
    for hosting in hostings {
        let entered = Registry::open().and_then(|registry| registry.enter(hosting.name(), hosting.path()));
        match entered {
            Ok(Entered::Yes) => {}
            Ok(Entered::Taken(other)) => {
                say(&format!("note: {} stands for {}, not for this pool", hosting.name(), other.display()));
            }
            Err(failure) => say(&format!("note: {}: {}", failure.what, failure.why)),
        }
    }
}

/// `typed` counts instead of what the file allows.
fn load_tls(config: &Config, typed: Vec<Grant>) -> Result<Option<Tls>, Failure> {
    let refused = |why: String| {
        Failure::new(Code::Usage, WHAT, why, "certtool or openssl, for certificates in PEM files")
    };
    let Some(directory) = &config.tls.directory else { return Ok(None) };
    let written = config.tls.allow.iter().map(|grant| grant.parse::<Grant>());
    let written = written.collect::<Result<Vec<_>, _>>().map_err(|error| refused(error.to_string()))?;
    Tls::load(directory, if typed.is_empty() { written } else { typed })
        .map(Some)
        .map_err(|error| refused(sentence(&error)))
}

fn start_control(
    hostings: &[Hosting],
    config: &Config,
    access: Access,
    directory: &RunDirectory,
) -> Result<ControlServer, Failure> {
    let mode = config.api.mode.unwrap_or(0o600);
    let refused = |error: unix_socket::Error| {
        let code = if matches!(error, unix_socket::Error::InUse(_)) { Code::Conflict } else { Code::Failed };
        Failure::new(code, WHAT, sentence(&error), "--api-socket with another path")
    };
    let socket = match &config.api.socket {
        Some(path) => {
            let path = std::path::absolute(path).map_err(|error| {
                Failure::new(Code::Usage, WHAT, error.to_string(), "--api-socket with another path")
            })?;
            SocketFile::bind(&path, mode)
        }
        // Where a daemon has the usual place already, this one has its own.
        None => SocketFile::bind(&directory.api_socket(), mode).or_else(|error| match error {
            unix_socket::Error::InUse(_) => SocketFile::bind(&directory.own_api_socket(), mode),
            other => Err(other),
        }),
    };
    let pools = hostings.iter().map(|hosting| Hosted {
        name: hosting.name().to_owned(),
        id: hosting.pool_id().to_string(),
        held: Held { pool: hosting.pool().clone(), doors: Some(hosting.doors().clone()) },
    });
    let links = hostings.iter().map(|hosting| directory.control_socket(hosting.pool_id())).collect();
    ControlServer::start(socket.map_err(refused)?, links, Api::new(pools.collect(), access, History::open()))
}

fn start_doors(
    hostings: &mut [Hosting],
    config: &Config,
    directory: &RunDirectory,
    tls: Option<Tls>,
    inherited: Vec<OwnedFd>,
) -> Result<(), Failure> {
    let mut inherited = Some(inherited);
    for (hosting, settings) in hostings.iter_mut().zip(&config.pools) {
        let sockets = inherited.take().unwrap_or_default();
        hosting.start_nbd(&settings.nbd, directory, tls.clone(), config.tls.required, sockets)?;
    }
    Ok(())
}

/// The line scripts wait for. Whoever gave the daemon its sockets knows where they are, and may have a use of its own for
/// what the daemon prints.
fn announce(hostings: &[Hosting], is_activated: bool) -> Result<(), Failure> {
    let addresses: Vec<String> = hostings.iter().flat_map(Hosting::addresses).collect();
    let line = format!("ready {}", addresses.join(" "));
    if is_activated {
        say(line.trim_end());
        return Ok(());
    }
    print(&format!("{}\n", line.trim_end()))
}
