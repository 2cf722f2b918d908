//! When workers sleep.

use crate::served::{MIB, Served};
use crate::vhost_client::{Ask, Driver};
use crate::wrapped_ram::WrappedRam;
use crate::{assert_quiet, cpu_time, now, pause, turn};
use blockstore::{Completion, Device, IoChannel, IoError, Operation, RamDevice, Submission};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thinpool::Access;
use vhost_blk::ServerOptions;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Gate {
    is_closed: AtomicBool,
    /// Readable while it is open.
    opened: OwnedFd,
    /// How often its channel has been looked at.
    looks: AtomicU64,
}

/// A device that never answers would keep a test that has failed from its end.
struct OpensAtDrop<'a>(&'a Gate);

impl Drop for OpensAtDrop<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Gate {
    fn new() -> Arc<Self> {
        let opened = eventfd(1, EventfdFlags::CLOEXEC).expect("an event");
        Arc::new(Self { is_closed: AtomicBool::new(false), opened, looks: AtomicU64::new(0) })
    }

    fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }

    fn open(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
        rustix::io::write(&self.opened, &1_u64.to_le_bytes()).expect("an event");
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        rustix::io::read(&self.opened, &mut [0; 8]).expect("it was open");
    }
}

/// Makes no reads while its gate is closed. Until then others than its own thread are at work on them.
struct GatedChannel {
    channel: Box<dyn IoChannel>,
    reads: VecDeque<Submission>,
    gate: Arc<Gate>,
}

impl IoChannel for GatedChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        let is_read = |submission: &Submission| matches!(submission.operation, Operation::Read { .. });
        let (reads, mut others): (VecDeque<_>, VecDeque<_>) = queue.drain(..).partition(is_read);
        self.reads.extend(reads);
        self.channel.submit(&mut others);
        assert!(others.is_empty(), "a test has few requests");
        self.make_reads();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.gate.looks.fetch_add(1, Ordering::SeqCst);
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

/// `works_alone`: they need no processor.
fn gated(works_alone: bool) -> (WrappedRam, Arc<Gate>) {
    let gate = Gate::new();
    let held = gate.clone();
    let wrap = move |channel| GatedChannel { channel, reads: VecDeque::new(), gate: held.clone() };
    (WrappedRam::new(64 * MIB, works_alone, wrap), gate)
}

impl GatedChannel {
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

/// A disk that has been written once, and one worker.
fn start(device: Arc<dyn Device>, spin: Duration) -> (Served, Driver) {
    let options = ServerOptions { workers: 1, spin };
    let served = Served::with_options(device, &[("desk", MIB)], &options);
    let mut driver = served.export_and_connect("desk", Access::ReadWrite);
    driver.fill(0, &[7; 4096]);
    assert_eq!(driver.run(Ask::Write { offset: 0, length: 4096 }).expect("an answer"), 0);
    (served, driver)
}

#[test]
fn a_worker_looks_for_work_as_long_as_it_has_rings_that_may_bring_some() {
    let _turn = turn();
    let (served, driver) = start(Arc::new(RamDevice::new(64 * MIB)), LONG);
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
    let (device, gate) = gated(false);
    let (served, mut driver) = start(Arc::new(device), LONG);
    gate.close();
    let whatever_happens = OpensAtDrop(&gate);
    driver.submit(0, Ask::Read { offset: 0, length: 4096 }).and_then(|()| driver.kick()).expect("asked");
    pause(SHORT / 10);
    assert_quiet("while others copy", SHORT, || {});
    drop(whatever_happens);
    assert_read(&mut driver);
    drop(driver);
    served.end();
}

fn assert_read(driver: &mut Driver) {
    let mut answers = Vec::new();
    while answers.is_empty() {
        // The call may be that of the last one.
        driver.wait(10_000).expect("an answer");
        driver.answers(&mut answers);
    }
    assert_eq!(answers, [(0, 0)]);
    assert!(driver.bytes(0, 4096) == [7; 4096], "what was written");
}

/// How often the worker looked for an answer.
struct Looks {
    /// Since it was asked for.
    all: u64,
    /// In the 20 us before the answer.
    late: u64,
}

/// Reads, one after another, of a disk that answers after `time`; the later half of them.
fn looks_for_answers(time: Duration, reads: usize) -> Vec<Looks> {
    const LATE: Duration = Duration::from_micros(20);
    let (device, gate) = gated(true);
    let (served, mut driver) = start(Arc::new(device), ServerOptions::default().spin);
    let mut looks = Vec::new();
    for _ in 0..reads {
        gate.close();
        let whatever_happens = OpensAtDrop(&gate);
        driver.fill(0, &[0; 4096]);
        // Until it has fallen asleep.
        stay_awake_until(now() + Duration::from_micros(200));
        let before = gate.looks();
        driver.submit(0, Ask::Read { offset: 0, length: 4096 }).and_then(|()| driver.kick()).expect("asked");
        let asked = now();
        stay_awake_until(asked + time - LATE);
        let late = gate.looks();
        stay_awake_until(asked + time);
        let end = gate.looks();
        looks.push(Looks { all: end - before, late: end - late });
        drop(whatever_happens);
        assert_read(&mut driver);
    }
    drop(driver);
    served.end();
    looks.split_off(reads / 2)
}

/// A sleep would end too late.
fn stay_awake_until(moment: Instant) {
    while now() < moment {
        std::hint::spin_loop();
    }
}

#[test]
fn a_worker_that_has_slept_is_awake_when_the_answer_of_a_disk_is_due() {
    let _turn = turn();
    let looks = looks_for_answers(Duration::from_micros(300), 1000);
    let awaited = looks.iter().filter(|looks| looks.late > 1).count();
    // Most of them, on a machine that does nothing else; none by a worker that sleeps.
    assert!(awaited > looks.len() / 50, "{awaited} of {} answers", looks.len());
}

#[test]
fn nobody_stays_awake_for_a_slow_disk() {
    let _turn = turn();
    let looks = looks_for_answers(Duration::from_millis(2), 800);
    let lazy = looks.iter().filter(|looks| looks.all < 10).count();
    assert!(lazy > looks.len() / 2, "{lazy} of {} waits were slept through", looks.len());
}
