//! Where monitors are played: a pool that is served.

use crate::server::{Server, ServerOptions};
use blockstore::RamDevice;
use std::sync::Arc;
use thinpool::{Access, Attachment, Command, CreateOptions, Name, Opening, Service, Shape, Tail};

const POOL_BYTES: u64 = 64 << 20;
const VOLUME_BYTES: u64 = 1 << 20;

/// A pool in memory with one volume, and a server with one worker: for any number of monitors, one after the other.
#[derive(Debug)]
pub struct Stage {
    pub(super) attachment: Attachment,
    pub(super) server: Server,
    _service: Service,
}

impl Stage {
    /// # Panics
    /// When the system gives no threads or descriptors.
    pub fn open() -> Self {
        let device = Arc::new(RamDevice::new(POOL_BYTES));
        thinpool::create(device.clone(), &CreateOptions::default()).expect("a new pool");
        let opening = Opening {
            incarnation: [1; 16],
            boot_id: [1; 16],
            process_id: std::process::id(),
            host: "rehearsal".to_owned(),
            now_unix: 1,
            read_only: false,
            accept_lost_writes: false,
            limits: thinpool::Limits::default(),
        };
        let tail = Tail::in_memory(Shape::new(8, 1 << 20).expect("a legal shape"));
        let (pool, keeper) = thinpool::open(device, tail, opening).expect("a pool that opens");
        let service = Service::start(keeper).expect("a thread for the keeper");
        let name: Name = "disk".parse().expect("a legal name");
        pool.run(Command::CreateVolume { name: name.clone(), size: VOLUME_BYTES }).expect("a volume");
        let attachment = pool.attach(&name, Access::ReadWrite).expect("a new volume");
        let options = ServerOptions { workers: 1, ..ServerOptions::default() };
        let server = Server::start(&pool, &options).expect("a server");
        Self { attachment, server, _service: service }
    }
}
