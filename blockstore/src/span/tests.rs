//! Claims about spans that are not claims about every device: those are in `tests/conformance`, where a member of a span
//! is held to the whole contract.

use super::{MEMBER_BITS, Span};
use crate::buffer::Buffer;
use crate::device::{Device, IoChannel};
use crate::error::IoError;
use crate::operation::{Durability, Operation, Submission, Token};
use crate::ram::RamDevice;
use crate::simulated::{Fault, Profile, SimulatedDevice, SimulatedDisk};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

const SIZE: u64 = 64 << 10;
const PAGE: usize = 4096;

fn place(member: u64, offset: u64) -> u64 {
    member << MEMBER_BITS | offset
}

fn write(offset: u64, byte: u8, durability: Durability) -> Operation {
    Operation::Write { offset, buffer: Buffer::from_slice(&[byte; PAGE]), durability }
}

fn run(channel: &mut dyn IoChannel, operation: Operation) -> Result<Option<Buffer>, IoError> {
    let mut queue = VecDeque::from([Submission { token: Token(77), operation }]);
    channel.submit(&mut queue);
    let mut done = Vec::new();
    while channel.poll(&mut done) == 0 {
        channel.wait(Duration::from_secs(1)).expect("waiting");
    }
    let completion = done.pop().expect("one answer");
    assert_eq!((completion.token, done.len()), (Token(77), 0));
    completion.result.map(|()| completion.buffer)
}

fn first_byte(channel: &mut dyn IoChannel, offset: u64) -> u8 {
    let read = Operation::Read { offset, buffer: Buffer::zeroed(PAGE) };
    run(channel, read).expect("readable").expect("a buffer")[0]
}

fn simulated(profile: Profile) -> Arc<SimulatedDevice> {
    Arc::new(SimulatedDevice::new(SimulatedDisk::new(SIZE), profile, 1))
}

fn span(devices: &[Arc<SimulatedDevice>]) -> Span {
    Span::new(devices.iter().map(|device| device.clone() as Arc<dyn Device>).collect())
}

#[test]
fn each_member_has_what_was_written_at_its_place_and_nothing_lies_between_them() {
    let members: Vec<Arc<dyn Device>> = (1..=3).map(|n| Arc::new(RamDevice::new(n * SIZE)) as _).collect();
    let span = Span::new(members.clone());
    assert_eq!(span.size(), place(2, 3 * SIZE));
    let mut channel = span.open_channel(4).expect("a channel");
    for (member, byte) in [(0, 1), (1, 2), (2, 3)] {
        run(&mut *channel, write(place(member, 4096), byte, Durability::Cached)).expect("written");
    }
    for (member, byte) in members.iter().zip(1..) {
        let mut own = member.open_channel(4).expect("a channel");
        assert_eq!(first_byte(&mut *own, 4096), byte);
        assert_eq!(first_byte(&mut *own, 0), 0);
    }
    for nowhere in [place(0, SIZE), place(1, 2 * SIZE), place(3, 0), place(4095, 0)] {
        let write = write(nowhere, 9, Durability::Cached);
        assert_eq!(run(&mut *channel, write).map(drop), Err(IoError::OutOfRange), "{nowhere:#x}");
    }
    run(&mut *channel, Operation::Resize { length: place(1, 4 * SIZE) }).expect("a member grows");
    assert_eq!(members[1].size(), 4 * SIZE);
    run(&mut *channel, write(place(1, 3 * SIZE), 5, Durability::Cached)).expect("what it grew by is there");
}

#[test]
fn a_flush_asks_the_members_that_something_was_done_to_and_no_other() {
    let devices = [simulated(Profile::default()), simulated(Profile::default())];
    let span = span(&devices);
    let mut channel = span.open_channel(4).expect("a channel");
    let events = |channel: &mut dyn IoChannel, operation: Operation| {
        let before = [devices[0].events(), devices[1].events()];
        run(channel, operation).expect("done");
        [devices[0].events() - before[0], devices[1].events() - before[1]]
    };
    // An operation is two events: it is taken, and it completes.
    assert_eq!(events(&mut *channel, Operation::Flush), [2, 2], "whatever a process before has left");
    assert_eq!(events(&mut *channel, Operation::Flush), [0, 0]);
    assert_eq!(events(&mut *channel, write(place(1, 0), 1, Durability::Cached)), [0, 2]);
    assert_eq!(events(&mut *channel, Operation::Flush), [0, 2]);
    assert_eq!(events(&mut *channel, write(place(0, 0), 1, Durability::Through)), [2, 0]);
    assert_eq!(events(&mut *channel, Operation::Flush), [0, 0]);
    for device in &devices {
        assert_eq!(device.disk(), device.durable());
    }
}

#[test]
fn a_flush_through_another_channel_makes_all_members_durable() {
    let devices = [simulated(Profile::default()), simulated(Profile::default())];
    let span = span(&devices);
    let mut one = span.open_channel(4).expect("a channel");
    let mut other = span.open_channel(4).expect("a channel");
    for member in [0, 1] {
        run(&mut *one, write(place(member, 0), 7, Durability::Cached)).expect("written");
    }
    run(&mut *other, Operation::Flush).expect("flushed");
    for device in &devices {
        assert_eq!(device.durable(), device.disk());
        assert_eq!(device.durable().pages(), 1);
    }
}

#[test]
fn after_one_member_has_failed_a_flush_no_flush_of_the_span_succeeds() {
    let faults = vec![Fault::FlushError { nth: 0 }];
    let devices = [simulated(Profile::default()), simulated(Profile { faults, ..Profile::default() })];
    let span = span(&devices);
    let mut channel = span.open_channel(4).expect("a channel");
    run(&mut *channel, write(place(1, 0), 1, Durability::Cached)).expect("written");
    assert_eq!(run(&mut *channel, Operation::Flush).map(drop), Err(IoError::EIO));
    let mut other = span.open_channel(4).expect("a channel");
    for channel in [&mut channel, &mut other] {
        run(&mut **channel, write(place(0, 0), 1, Durability::Cached)).expect("the other member goes on");
        assert_eq!(run(&mut **channel, Operation::Flush).map(drop), Err(IoError::FlushFailed));
    }
}

#[test]
fn a_span_is_as_demanding_as_its_most_demanding_member() {
    let coarse = simulated(Profile { alignment: 4096, ..Profile::default() });
    let fine: Arc<dyn Device> = Arc::new(RamDevice::new(SIZE));
    let span = Span::new(vec![fine, coarse]);
    assert_eq!(span.alignment(), 4096);
    assert!(!span.bears_changing_memory() && !span.works_alone() && !span.is_read_only());
    let mut channel = span.open_channel(4).expect("a channel");
    let sector = Operation::Read { offset: 512, buffer: Buffer::zeroed(512) };
    assert_eq!(run(&mut *channel, sector).map(drop), Err(IoError::Misaligned));
}
