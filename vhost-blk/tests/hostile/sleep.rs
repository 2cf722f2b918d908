//! When workers sleep.

use crate::served::{MIB, Served};
use crate::vhost_client::{Ask, Driver};
use crate::{assert_quiet, cpu_time, now, pause, turn};
use blockstore::{Completion, Device, DeviceError, IoChannel, IoError, Operation, RamDevice, Submission};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thinpool::Access;
use vhost_blk::ServerOptions;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(500);

/// A device that makes no reads while its gate is closed, and says that others than its channel's thread are at work on them.
#[derive(Debug)]
struct Copied {
    device: RamDevice,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    is_closed: AtomicBool,
    /// Readable while it is open.
    opened: OwnedFd,
}

/// A device that never answers would keep a test that has failed from its end.
struct OpensAtDrop<'a>(&'a Gate);

impl Drop for OpensAtDrop<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Gate {
    fn open(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
        rustix::io::write(&self.opened, &1_u64.to_le_bytes()).expect("an event");
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        rustix::io::read(&self.opened, &mut [0; 8]).expect("it was open");
    }
}

struct CopiedChannel {
    channel: Box<dyn IoChannel>,
    reads: VecDeque<Submission>,
    gate: Arc<Gate>,
}

impl Device for Copied {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn alignment(&self) -> usize {
        self.device.alignment()
    }

    fn discard_granularity(&self) -> Option<u64> {
        self.device.discard_granularity()
    }

    fn description(&self) -> String {
        "copied by others".to_owned()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        let channel = self.device.open_channel(depth)?;
        Ok(Box::new(CopiedChannel { channel, reads: VecDeque::new(), gate: self.gate.clone() }))
    }
}

impl IoChannel for CopiedChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        let is_read = |submission: &Submission| matches!(submission.operation, Operation::Read { .. });
        let (reads, mut others): (VecDeque<_>, VecDeque<_>) = queue.drain(..).partition(is_read);
        self.reads.extend(reads);
        self.channel.submit(&mut others);
        assert!(others.is_empty(), "a test has few requests");
        self.make_reads();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.make_reads();
        self.channel.poll(done)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        self.channel.wait(timeout)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.gate.opened.as_fd())
    }

    fn in_flight(&self) -> usize {
        self.channel.in_flight() + self.reads.len()
    }
}

impl CopiedChannel {
    fn make_reads(&mut self) {
        if !self.gate.is_closed.load(Ordering::SeqCst) {
            self.channel.submit(&mut self.reads);
        }
    }
}

#[test]
fn nobody_spins_for_longer_than_fifty_microseconds_unless_told_to() {
    assert!(ServerOptions::default().spin <= Duration::from_micros(50));
}

/// A disk that has been written once, and one worker who looks for work for a long time.
fn start(device: Arc<dyn Device>) -> (Served, Driver) {
    let options = ServerOptions { workers: 1, spin: LONG };
    let served = Served::with_options(device, &[("desk", MIB)], &options);
    let mut driver = served.export_and_connect("desk", Access::ReadWrite);
    driver.fill(0, &[7; 4096]);
    assert_eq!(driver.run(Ask::Write { offset: 0, length: 4096 }).expect("an answer"), 0);
    (served, driver)
}

#[test]
fn a_worker_looks_for_work_as_long_as_it_has_rings_that_may_bring_some() {
    let _turn = turn();
    let (served, driver) = start(Arc::new(RamDevice::new(64 * MIB)));
    let before = cpu_time();
    pause(SHORT);
    let spun = cpu_time() - before;
    assert!(spun > SHORT / 20, "{spun:?}: it does not look for work");
    drop(driver);
    let start = now();
    served.end();
    assert!(start.elapsed() < LONG / 2, "{:?}: it looks for work that cannot come", start.elapsed());
}

/// The copies may need the very processor that it would look on.
#[test]
fn a_worker_does_not_look_for_work_while_others_copy_for_it() {
    let _turn = turn();
    let opened = eventfd(1, EventfdFlags::CLOEXEC).expect("an event");
    let gate = Arc::new(Gate { is_closed: AtomicBool::new(false), opened });
    let device = Arc::new(Copied { device: RamDevice::new(64 * MIB), gate: gate.clone() });
    let (served, mut driver) = start(device);
    gate.close();
    let whatever_happens = OpensAtDrop(&gate);
    driver.submit(0, Ask::Read { offset: 0, length: 4096 }).and_then(|()| driver.kick()).expect("asked");
    pause(SHORT / 10);
    assert_quiet("while others copy", SHORT, || {});
    drop(whatever_happens);
    let mut answers = Vec::new();
    driver.wait(10_000).expect("an answer");
    driver.answers(&mut answers);
    assert_eq!((answers.as_slice(), driver.bytes(0, 4096)), (&[(0, 0)][..], vec![7; 4096]));
    drop(driver);
    served.end();
}
