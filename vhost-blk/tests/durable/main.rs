//! V5: what a driver cannot flush, or does not want cached, is durable when it is acknowledged; what it can flush costs no
//! flush of the device before it asks.

#[path = "../door/served.rs"]
mod served;
#[path = "../../../tests/vhost_client/mod.rs"]
mod vhost_client;
#[path = "../../../tests/vhost_monitor/mod.rs"]
mod vhost_monitor;
#[path = "../../../tests/wrapped_ram/mod.rs"]
mod wrapped_ram;

use blockstore::{Completion, Durability, IoChannel, IoError, Operation, Submission};
use served::{MIB, Served};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use thinpool::Access;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::VhostUserConfigFlags;
use vhost_monitor::{EVENT_INDEX, FREE, Monitor, NEXT, QUEUE_SIZE, WRITE};
use wrapped_ram::WrappedRam;

const FLUSH: u64 = 1 << 9;
const WRITEBACK_AT: u32 = 32;
const WRITES: u64 = 8;
const OUT: u32 = 1;
const FLUSH_REQUEST: u32 = 4;

/// Counts what makes something durable.
struct CountedChannel {
    channel: Box<dyn IoChannel>,
    durable: Arc<AtomicU64>,
}

impl IoChannel for CountedChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        let is_durable = |operation: &Operation| {
            matches!(operation, Operation::Flush | Operation::Write { durability: Durability::Through, .. })
        };
        let count = queue.iter().filter(|submission| is_durable(&submission.operation)).count();
        let before = queue.len();
        self.channel.submit(queue);
        assert!(queue.is_empty() || queue.len() == before, "all or none, or the count is wrong");
        if queue.is_empty() {
            self.durable.fetch_add(u64::try_from(count).expect("small"), Ordering::SeqCst);
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.channel.poll(done)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        self.channel.wait(timeout)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.channel.descriptor()
    }

    fn in_flight(&self) -> usize {
        self.channel.in_flight()
    }
}

struct Field {
    served: Served,
    durable: Arc<AtomicU64>,
}

impl Field {
    fn new() -> Self {
        let durable = Arc::new(AtomicU64::new(0));
        let counter = durable.clone();
        let device = WrappedRam::new(256 * MIB, false, move |channel| {
            let durable = counter.clone();
            CountedChannel { channel, durable }
        });
        let served = Served::on_device(Arc::new(device), &[("disk", 8 * MIB)]);
        served.server.export(&served.order("disk", Access::ReadWrite, 1)).expect("exported");
        Self { served, durable }
    }

    /// A monitor whose driver does not know these features.
    fn monitor(&self, without: u64) -> Monitor {
        let mut monitor = Monitor::connect_without(&self.served.socket("disk"), without | EVENT_INDEX);
        monitor.set_up(QUEUE_SIZE);
        monitor
    }

    fn count(&self) -> u64 {
        self.durable.load(Ordering::SeqCst)
    }
}

/// One request of one block, answered.
fn ask(monitor: &mut Monitor, kind: u32, block: u64) {
    monitor.header(FREE, kind, block * 8);
    monitor.describe(0, FREE, 16, NEXT, if kind == OUT { 1 } else { 2 });
    monitor.describe(1, FREE + 0x1000, 4096, NEXT, 2);
    monitor.describe(2, FREE + 0x100, 1, WRITE, 0);
    let used = monitor.used();
    monitor.offer(0);
    // A ring that starts again calls once for what it may have missed.
    while monitor.used() == used {
        assert!(monitor.is_called(10_000), "an answer");
    }
    assert_eq!(monitor.used(), used.wrapping_add(1));
    assert_eq!(monitor.byte(FREE + 0x100), 0);
}

#[test]
fn a_driver_that_can_flush_pays_for_it_when_it_does() {
    let field = Field::new();
    let mut monitor = field.monitor(0);
    let before = field.count();
    (0..WRITES).for_each(|block| ask(&mut monitor, OUT, block));
    assert_eq!(field.count(), before, "nothing was made durable");
    ask(&mut monitor, FLUSH_REQUEST, 0);
    assert!(field.count() > before);
    drop(monitor);
    field.served.end();
}

#[test]
fn what_a_driver_cannot_flush_is_durable_when_it_is_acknowledged() {
    let field = Field::new();
    let mut monitor = field.monitor(FLUSH);
    for block in 0..WRITES {
        let before = field.count();
        ask(&mut monitor, OUT, block);
        assert!(field.count() > before, "block {block}");
    }
    drop(monitor);
    field.served.end();
}

#[test]
fn a_cache_that_is_switched_off_is_off_until_it_is_switched_on() {
    let field = Field::new();
    let mut monitor = field.monitor(0);
    for (writeback, block) in [(0, 1), (1, 2), (0, 3)] {
        let flags = VhostUserConfigFlags::WRITABLE;
        monitor.frontend.set_config(WRITEBACK_AT, flags, &[writeback]).expect("the one byte to write");
        let (_, space) = monitor.frontend.get_config(0, 60, flags, &[0; 60]).expect("a configuration");
        assert_eq!(space[32], writeback);
        let before = field.count();
        ask(&mut monitor, OUT, block);
        assert_eq!(field.count() > before, writeback == 0, "writeback {writeback}");
    }
    assert!(monitor.frontend.set_config(0, VhostUserConfigFlags::WRITABLE, &[1]).is_err(), "the capacity");
    drop(monitor);
    field.served.end();
}

/// No monitor says it again, and the guest goes on without flushes.
#[test]
fn a_cache_that_is_switched_off_stays_off_when_the_monitor_comes_back_and_when_the_export_is_a_new_one() {
    let field = Field::new();
    let mut monitor = field.monitor(0);
    monitor.frontend.set_config(WRITEBACK_AT, VhostUserConfigFlags::WRITABLE, &[0]).expect("switched off");
    let is_durable = |monitor: &mut Monitor, block| {
        let before = field.count();
        ask(monitor, OUT, block);
        field.count() > before
    };
    assert!(is_durable(&mut monitor, 1));
    drop(monitor);
    let mut monitor = field.monitor(0);
    monitor.track(QUEUE_SIZE);
    assert!(is_durable(&mut monitor, 2), "another connection of the same export");
    field.served.server.unexport(&served::name("disk")).expect("unexported");
    field.served.server.export(&field.served.order("disk", Access::ReadWrite, 1)).expect("exported again");
    monitor.reconnect(&field.served.socket("disk"), QUEUE_SIZE);
    assert!(is_durable(&mut monitor, 3), "a new export knows it from the in-flight region");
    drop(monitor);
    field.served.end();
}
