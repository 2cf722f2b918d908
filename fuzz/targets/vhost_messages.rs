//! Whatever a monitor sends, its session ends in peace.
#![no_main]

use blockstore::RamDevice;
use std::sync::{Arc, OnceLock};
use thinpool::{Access, Attachment, Command, CreateOptions, Opening, Pool, Service, Shape, Tail};
use vhost_blk::{Server, ServerOptions};

/// One pool and one server for all inputs; they end with the process.
struct Stage {
    _service: Service,
    server: Server,
    attachment: Attachment,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let device = Arc::new(RamDevice::new(64 << 20));
        thinpool::create(device.clone(), &CreateOptions::default()).expect("a new pool");
        let opening = Opening {
            incarnation: [1; 16],
            boot_id: [1; 16],
            process_id: std::process::id(),
            host: "fuzz".to_owned(),
            now_unix: 1,
            read_only: false,
            accept_lost_writes: false,
            limits: thinpool::Limits::default(),
        };
        let tail = Tail::in_memory(Shape::new(8, 1 << 20).expect("a legal shape"));
        let (pool, keeper): (Pool, _) = thinpool::open(device, tail, opening).expect("a pool that opens");
        let service = Service::start(keeper).expect("a thread for the keeper");
        let name: thinpool::Name = "disk".parse().expect("a legal name");
        pool.run(Command::CreateVolume { name: name.clone(), size: 1 << 20 }).expect("a volume");
        let attachment = pool.attach(&name, Access::ReadWrite).expect("a new volume");
        let server = Server::start(&pool, &ServerOptions { workers: 1, ..ServerOptions::default() }).expect("a server");
        Stage { _service: service, server, attachment }
    })
}

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    let stage = stage();
    vhost_blk::rehearsal::converse(&stage.server, &stage.attachment, script).expect("sockets and files");
});
