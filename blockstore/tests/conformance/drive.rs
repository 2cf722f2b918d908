//! Drives a channel from a test: one operation at a time, or many at once.

use blockstore::{Buffer, Completion, Device, Durability, IoChannel, IoError, Operation, Submission, Token};
use std::collections::VecDeque;
use std::time::Duration;

/// How often a completion is waited for, `WAIT` long each, until the device counts as hanging.
pub(crate) const WAITS_MAX: u32 = 1000;
const WAIT: Duration = Duration::from_millis(100);

pub(crate) fn channel(device: &dyn Device, depth: usize) -> Box<dyn IoChannel> {
    device.open_channel(depth).expect("a channel")
}

/// Does everything in the queue and returns all completions, in the order they came.
pub(crate) fn finish(channel: &mut dyn IoChannel, queue: &mut VecDeque<Submission>) -> Vec<Completion> {
    let mut done = Vec::new();
    let mut waits = 0;
    loop {
        channel.submit(queue);
        if channel.poll(&mut done) > 0 {
            waits = 0;
        } else if queue.is_empty() && channel.in_flight() == 0 {
            return done;
        } else {
            assert!(waits < WAITS_MAX, "{} operations never complete", channel.in_flight());
            waits += 1;
            channel.wait(WAIT).expect("waiting");
        }
    }
}

/// Does one operation alone.
pub(crate) fn run(channel: &mut dyn IoChannel, operation: Operation) -> Completion {
    let mut done = finish(channel, &mut queue([operation]));
    assert_eq!(done.len(), 1, "one submission has one answer");
    done.pop().expect("one completion")
}

/// Submissions with the tokens 0, 1, 2, ...
pub(crate) fn queue(operations: impl IntoIterator<Item = Operation>) -> VecDeque<Submission> {
    let submissions = operations.into_iter().zip(0..);
    submissions.map(|(operation, number)| Submission { token: Token(number), operation }).collect()
}

pub(crate) fn read(channel: &mut dyn IoChannel, offset: u64, length: usize) -> Result<Vec<u8>, IoError> {
    let completion =
        run(channel, Operation::Read { offset, buffer: Buffer::from_slice(&vec![0xEE; length]) });
    let buffer = completion.buffer.expect("a read gives its buffer back");
    completion.result.map(|()| buffer.to_vec())
}

/// Reads the whole device.
pub(crate) fn contents(channel: &mut dyn IoChannel, device: &dyn Device) -> Vec<u8> {
    let length = usize::try_from(device.size()).expect("a small device");
    if length == 0 { Vec::new() } else { read(channel, 0, length).expect("reading a good device") }
}

pub(crate) fn write(channel: &mut dyn IoChannel, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
    run(channel, write_of(offset, bytes)).result
}

pub(crate) fn write_of(offset: u64, bytes: &[u8]) -> Operation {
    Operation::Write { offset, buffer: Buffer::from_slice(bytes), durability: Durability::Cached }
}

pub(crate) fn read_of(offset: u64, length: usize) -> Operation {
    Operation::Read { offset, buffer: Buffer::zeroed(length) }
}

/// A length in memory as one on a device.
pub(crate) fn bytes(length: usize) -> u64 {
    u64::try_from(length).expect("64 bits")
}
