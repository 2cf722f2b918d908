//! Reads, and overwrites of blocks a volume owns, allocate nothing on their way from the ring to the device and back: on
//! any device, once the lists that are used again and again are as long as they get.

#[path = "../door/served.rs"]
mod served;
#[path = "../../../tests/vhost_client/mod.rs"]
mod vhost_client;

use blockstore::{Device, Engine, OpenOptions, RamDevice};
use served::{MIB, Served};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thinpool::Access;
use vhost_client::{Ask, Driver};

const BLOCK: usize = 4096;
const VOLUME_BYTES: u64 = 8 * MIB;
const DEPTH: usize = 32;
const REQUESTS: usize = 4_000;

/// Allocations of the workers. What the pool does beside them, such as a checkpoint, is another matter.
static COUNT: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    Unknown,
    Worker,
    Other,
}

thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::Unknown) };
}

/// A thread is called by its name once it has one.
fn is_worker() -> bool {
    let known = THREAD.try_with(Cell::get).unwrap_or(Thread::Other);
    if known != Thread::Unknown {
        return known == Thread::Worker;
    }
    // To ask for the name may allocate.
    THREAD.set(Thread::Other);
    let is_worker =
        std::thread::current().name().map(|name| name.starts_with("vhost-") && name != "vhost-export");
    THREAD.set(match is_worker {
        Some(true) => Thread::Worker,
        Some(false) => Thread::Other,
        None => Thread::Unknown,
    });
    is_worker == Some(true)
}

struct Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_worker() {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller keeps to the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keeps `DEPTH` requests under way until all are answered.
fn run(driver: &mut Driver, mut next: impl FnMut(u64) -> Ask) {
    let blocks = VOLUME_BYTES / u64::try_from(BLOCK).expect("small");
    let (mut begun, mut free, mut answers) = (0_u64, (0..DEPTH).collect::<Vec<_>>(), Vec::new());
    for _ in 0..REQUESTS {
        while let Some(slot) = free.pop() {
            driver.submit(slot, next(begun.wrapping_mul(2_654_435_761) % blocks)).expect("room in the ring");
            begun += 1;
        }
        driver.kick().expect("the device is told");
        driver.answers(&mut answers);
        if answers.is_empty() {
            driver.wait(1000).expect("the device calls");
            driver.answers(&mut answers);
        }
        free.extend(answers.drain(..).map(|(slot, answer)| {
            assert_eq!(answer, 0);
            slot
        }));
    }
    while free.len() < DEPTH {
        driver.wait(1000).expect("the device calls");
        driver.answers(&mut answers);
        free.extend(answers.drain(..).map(|(slot, _)| slot));
    }
}

#[test]
fn reads_and_owned_overwrites_allocate_nothing() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let file = |engine: Engine| -> Arc<dyn Device> {
        let options = OpenOptions { engine, ..OpenOptions::default() };
        let path = directory.path().join(format!("{engine:?}"));
        blockstore::create(&path, 64 * MIB, &options).expect("a device")
    };
    let devices = [
        Arc::new(RamDevice::new(64 * MIB)) as Arc<dyn Device>,
        file(Engine::Mapped),
        file(Engine::Inline),
        file(Engine::Uring),
    ];
    for device in devices {
        let what = format!("{device:?}");
        let served = Served::on_device(device, &[("desk", VOLUME_BYTES)]);
        let mut driver = served.export_with("desk", Access::ReadWrite, DEPTH, BLOCK);
        let at = |block: u64| block * u64::try_from(BLOCK).expect("small");
        for slot in 0..DEPTH {
            driver.fill(slot, &[7; BLOCK]);
        }
        let write = |block| Ask::Write { offset: at(block), length: BLOCK };
        let read = |block| Ask::Read { offset: at(block), length: BLOCK };
        let at_first = COUNT.load(Ordering::Relaxed);
        run(&mut driver, write);
        assert!(COUNT.load(Ordering::Relaxed) > at_first, "first writes do allocate");
        assert_eq!(driver.run(Ask::Flush).expect("an answer"), 0);
        run(&mut driver, read);
        for (load, next) in [("read", &read as &dyn Fn(u64) -> Ask), ("overwrite", &write)] {
            let before = COUNT.load(Ordering::Relaxed);
            run(&mut driver, next);
            let count = COUNT.load(Ordering::Relaxed) - before;
            assert_eq!(count, 0, "{count} allocations for about {REQUESTS} of {load} on {what}");
        }
        drop(driver);
        served.end();
    }
}
