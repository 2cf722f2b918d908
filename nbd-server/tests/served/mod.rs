//! A real pool on a device in memory, served on a Unix socket in a directory of its own.
#![allow(dead_code, reason = "each test program uses a part of it")]

#[path = "../../src/rehearsal/certificates.rs"]
mod certificates;
pub(crate) mod client;
pub(crate) mod secure;
pub(crate) mod stream;
#[path = "../../src/rehearsal/client.rs"]
mod tls_client;

use blockstore::{Device, RamDevice};
use client::Client;
use nbd_server::{Limits, Listen, Server, ServerOptions};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thinpool::{Command, CreateOptions, Name, Opening, Outcome, Pool, Service, Shape, Tail};

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const POOL_BYTES: u64 = 256 * MIB;

#[derive(Debug)]
pub(crate) struct ServedPool {
    pub(crate) pool: Pool,
    pub(crate) server: Server,
    options: ServerOptions,
    service: Service,
    directory: tempfile::TempDir,
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a legal name")
}

/// `boot` tells one boot of the machine from another.
pub(crate) fn open_pool(device: Arc<dyn Device>, boot: u8) -> (Pool, Service) {
    let shape = Shape::new(8, MIB).expect("a legal shape");
    let opening = Opening {
        incarnation: [boot; 16],
        boot_id: [boot; 16],
        process_id: std::process::id(),
        host: "test".to_owned(),
        now_unix: 1,
        read_only: false,
        accept_lost_writes: false,
        limits: thinpool::Limits::default(),
    };
    let (pool, keeper) = thinpool::open(device, Tail::in_memory(shape), opening).expect("a pool that opens");
    let service = Service::start(keeper).expect("a thread for the keeper");
    (pool, service)
}

impl ServedPool {
    /// A new pool with these volumes, sizes in bytes; the first is the default export.
    pub(crate) fn start(volumes: &[(&str, u64)]) -> Self {
        Self::with_limits(volumes, Limits::default())
    }

    pub(crate) fn with_limits(volumes: &[(&str, u64)], limits: Limits) -> Self {
        Self::on_device(Arc::new(RamDevice::new(POOL_BYTES)), volumes, limits)
    }

    pub(crate) fn on_device(device: Arc<dyn Device>, volumes: &[(&str, u64)], limits: Limits) -> Self {
        thinpool::create(device.clone(), &CreateOptions::default()).expect("a new pool");
        let (pool, service) = open_pool(device, 1);
        for (volume, size) in volumes {
            pool.run(Command::CreateVolume { name: name(volume), size: *size }).expect("a volume");
        }
        let directory = tempfile::tempdir().expect("a directory");
        let options = ServerOptions {
            tls: None,
            tls_required: false,
            listen: vec![
                Listen::Unix { path: directory.path().join("nbd.sock"), mode: 0o600 },
                Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ],
            default_export: volumes.first().map(|(volume, _)| (*volume).to_owned()),
            limits,
            workers: 2,
            ..ServerOptions::default()
        };
        let server = Server::start(&pool, options.clone()).expect("a server");
        Self { pool, server, options, service, directory }
    }

    /// The server ends and another takes its place; the pool stays open.
    pub(crate) fn restart_server(self) -> Self {
        self.server.shutdown();
        let server = Server::start(&self.pool, self.options.clone()).expect("a server");
        Self { server, ..self }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("nbd.sock")
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        let tcp = self.server.addresses().find_map(|(address, _)| match address {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix { .. } => None,
        });
        tcp.expect("it listens on TCP too")
    }

    /// A client that has been greeted.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// A client of an export, with structured replies and block status.
    pub(crate) fn open(&self, export: &str) -> Client {
        let mut client = self.connect();
        client.negotiate_structured(export);
        client.go(export).expect("an export that opens");
        client
    }

    /// A client of an export that asked for nothing but it.
    pub(crate) fn open_simple(&self, export: &str) -> Client {
        let mut client = self.connect();
        client.go(export).expect("an export that opens");
        client
    }

    pub(crate) fn run(&self, command: Command) {
        self.pool.run(command).expect("a command that is carried out");
    }

    /// Waits until the server has noticed that all clients are gone.
    pub(crate) fn wait_until_alone(&self) {
        wait_for("the last connection's end", || self.server.connections() == 0);
    }

    /// Ends everything. The pool must be whole, and empty once its names are removed.
    pub(crate) fn end(self) {
        self.server.shutdown();
        assert!(!self.directory.path().join("nbd.sock").exists(), "the socket goes with its server");
        assert_clean(&self.pool);
        remove_everything(&self.pool);
        self.service.stop().expect("a clean close");
    }
}

/// Spins, because there is no event to wait for; with a bound.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::yield_now();
    }
}

#[expect(clippy::disallowed_methods, reason = "tests of a server measure real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn assert_clean(pool: &Pool) {
    match pool.run(Command::Check) {
        Ok(Outcome::Checked(report)) => {
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            assert_eq!(report.leaked_blocks, 0, "no block belongs to nobody");
        }
        other => panic!("the check did not run: {other:?}"),
    }
}

fn remove_everything(pool: &Pool) {
    for entry in pool.entries() {
        if entry.name.point().is_none() {
            pool.run(Command::Remove { name: entry.name, recursive: true }).expect("a name nobody uses");
        }
    }
    pool.run(Command::Settle).expect("the sweep");
    assert_eq!(pool.status().mapped, 0, "an empty pool has no data");
    assert_clean(pool);
}
