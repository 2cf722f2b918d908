//! What a channel does for a device that works alone: it tells it early what there is to do, and never sleeps on what it has left behind.

mod engine;
#[path = "../../tests/wrapped_ram/mod.rs"]
mod wrapped_ram;

use blockstore::{Completion, IoChannel, IoError, Submission};
use engine::{BLOCK, Engine, MIB, limits, small_tail, volume};
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thinpool::{Action, CreateOptions, Request};
use wrapped_ram::WrappedRam;

/// What the device says of itself, and how many submissions it got each time it got some.
#[derive(Debug, Default)]
struct Script {
    under_way: Option<usize>,
    /// It has not answered what it got.
    is_slow: bool,
    is_unfinished: bool,
    batches: Vec<usize>,
}

type Shared = Arc<Mutex<Script>>;

struct ScriptedChannel {
    inner: Box<dyn IoChannel>,
    silent: File,
    script: Shared,
}

impl IoChannel for ScriptedChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        let before = queue.len();
        self.inner.submit(queue);
        let mut script = self.script.lock().expect("whole");
        let batch = before - queue.len();
        script.batches.push(batch);
        if script.is_slow {
            script.under_way = script.under_way.map(|busy| busy + batch);
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.inner.poll(done)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        self.inner.wait(timeout)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.silent.as_fd())
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    fn under_way(&mut self) -> Option<usize> {
        self.script.lock().expect("whole").under_way
    }

    fn is_unfinished(&self) -> bool {
        self.script.lock().expect("whole").is_unfinished
    }
}

/// A pool on such a device, with a volume of eight written blocks.
fn start() -> (Engine, Shared) {
    let script = Shared::default();
    let shared = script.clone();
    let device = Arc::new(WrappedRam::new(64 * MIB, false, move |inner| {
        let silent = File::open("/dev/null").expect("there");
        ScriptedChannel { inner, silent, script: shared.clone() }
    }));
    thinpool::create(device.clone(), &CreateOptions::default()).expect("an empty device takes a pool");
    let mut engine = Engine::open(device, small_tail(), 1, limits()).expect("a new pool opens");
    engine.must(volume("a", MIB));
    let a = engine.attach("a");
    (0..8).for_each(|number| engine.write(&a, number * BLOCK, &[7; 4096]).expect("there is space"));
    (engine, script)
}

/// Sizes of the batches in which the device gets so many reads.
fn batches(engine: &mut Engine, script: &Shared, reads: u64, says: Script) -> Vec<usize> {
    let a = engine.attach("a");
    *script.lock().expect("whole") = says;
    for tag in 0..reads {
        let action = Action::Read { offset: tag % 8 * BLOCK, buffer: blockstore::Buffer::zeroed(4096) };
        engine.channel.enqueue(Request { tag, attachment: a.clone(), action }).expect("there is room");
    }
    let mut replies = Vec::new();
    while u64::try_from(replies.len()).expect("few") < reads {
        engine.channel.poll(&mut replies);
    }
    assert!(replies.iter().all(|reply| reply.result.is_ok()));
    std::mem::take(&mut script.lock().expect("whole").batches)
}

#[test]
fn a_device_hears_of_two_or_four_or_half_of_what_it_has_to_do_without_waiting_for_more() {
    let (mut engine, script) = start();
    for (under_way, expected) in [
        (None, vec![8]),
        (Some(0), vec![2, 2, 2, 2]),
        (Some(1), vec![4, 4]),
        (Some(8), vec![4, 4]),
        (Some(9), vec![5, 3]),
        (Some(12), vec![6, 2]),
        (Some(100), vec![8]),
    ] {
        let says = Script { under_way, ..Script::default() };
        assert_eq!(batches(&mut engine, &script, 8, says), expected, "{under_way:?}");
    }
    let says = Script { under_way: Some(0), is_slow: true, ..Script::default() };
    assert_eq!(batches(&mut engine, &script, 32, says), [2, 4, 4, 5, 8, 9]);
}

#[test]
fn nobody_sleeps_while_a_device_has_left_something_behind() {
    let (mut engine, script) = start();
    engine.channel.poll(&mut Vec::new());
    assert!(engine.channel.listen());
    script.lock().expect("whole").is_unfinished = true;
    assert!(!engine.channel.listen());
}
