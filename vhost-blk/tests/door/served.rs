//! A real pool on a device in memory, served on Unix sockets in a directory of its own.

#![allow(dead_code, reason = "each test program uses a part of it")]

use crate::vhost_client::Driver;
use blockstore::{Device, RamDevice};
use rate_limit::RateLimits;
use std::path::PathBuf;
use std::sync::Arc;
use thinpool::{
    Access, Command, CreateOptions, Name, Opening, Outcome, Pool, Service, Shape, Tail, create, open,
};
use unix_socket::Owner;
use vhost_blk::{ExportOptions, Server, ServerOptions};

pub(crate) const MIB: u64 = 1 << 20;
const POOL_BYTES: u64 = 256 * MIB;

pub(crate) struct Served {
    pub(crate) pool: Pool,
    pub(crate) server: Server,
    service: Service,
    directory: tempfile::TempDir,
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a legal name")
}

impl Served {
    /// A new pool with these volumes, sizes in bytes.
    pub(crate) fn start(volumes: &[(&str, u64)]) -> Self {
        Self::on_device(Arc::new(RamDevice::new(POOL_BYTES)), volumes)
    }

    pub(crate) fn on_device(device: Arc<dyn Device>, volumes: &[(&str, u64)]) -> Self {
        Self::with_options(device, volumes, &ServerOptions { workers: 2, ..ServerOptions::default() })
    }

    pub(crate) fn with_options(
        device: Arc<dyn Device>,
        volumes: &[(&str, u64)],
        options: &ServerOptions,
    ) -> Self {
        create(device.clone(), &CreateOptions::default()).expect("a new pool");
        let shape = Shape::new(8, MIB).expect("a legal shape");
        let opening = Opening {
            incarnation: [1; 16],
            boot_id: [1; 16],
            process_id: std::process::id(),
            host: "test".to_owned(),
            now_unix: 1,
            read_only: false,
            accept_lost_writes: false,
            limits: thinpool::Limits::default(),
        };
        let (pool, keeper) = open(device, Tail::in_memory(shape), opening).expect("a pool that opens");
        let service = Service::start(keeper).expect("a thread for the keeper");
        for (volume, size) in volumes {
            pool.run(Command::CreateVolume { name: name(volume), size: *size }).expect("a volume");
        }
        let server = Server::start(&pool, options).expect("a server");
        let directory = tempfile::tempdir().expect("a directory");
        Self { pool, server, service, directory }
    }

    pub(crate) fn socket(&self, volume: &str) -> PathBuf {
        self.directory.path().join(format!("{volume}.sock"))
    }

    pub(crate) fn order(&self, volume: &str, access: Access, queues: u16) -> ExportOptions {
        ExportOptions {
            name: name(volume),
            socket: self.socket(volume),
            mode: 0o600,
            owner: Owner::default(),
            access,
            queues,
            rate_limits: RateLimits::NONE,
        }
    }

    pub(crate) fn export_and_connect(&self, volume: &str, access: Access) -> Driver {
        self.export_with(volume, access, 4, 4096)
    }

    pub(crate) fn export_with(
        &self,
        volume: &str,
        access: Access,
        slots: usize,
        slot_bytes: usize,
    ) -> Driver {
        self.server.export(&self.order(volume, access, 2)).expect("exported");
        Driver::connect(&self.socket(volume), slots, slot_bytes).expect("connected")
    }

    pub(crate) fn run(&self, command: Command) {
        self.pool.run(command).expect("a command that is carried out");
    }

    /// Ends everything. The pool must be whole, and empty once its names are removed.
    pub(crate) fn end(self) {
        self.server.shutdown();
        let pool = self.pool;
        assert_clean(&pool);
        for entry in pool.entries() {
            if entry.name.point().is_none() {
                pool.run(Command::Remove { name: entry.name, recursive: true }).expect("a name nobody uses");
            }
        }
        pool.run(Command::Settle).expect("the sweep");
        assert_eq!(pool.status().mapped, 0, "an empty pool has no data");
        assert_clean(&pool);
        self.service.stop().expect("a clean close");
    }
}

fn assert_clean(pool: &Pool) {
    match pool.run(Command::Check) {
        Ok(Outcome::Checked(report)) => {
            assert!(report.errors.is_empty(), "{:?}", report.errors);
            assert_eq!(report.leaked_blocks, 0, "no block belongs to nobody");
        }
        other => panic!("the check did not run: {other:?}"),
    }
}
