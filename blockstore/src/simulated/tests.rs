//! What the simulated device promises (S1 to S5), and that each planned fault does what it says.

mod crash;
mod disk;
mod faults;
mod order;

use super::{CrashPoint, Profile, SimulatedDevice, SimulatedDisk};
use crate::buffer::Buffer;
use crate::device::{Device, IoChannel};
use crate::error::IoError;
use crate::operation::{Completion, Durability, Operation, Submission, Token};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

const PAGE: u64 = 4096;
const SECTOR: u64 = 512;

fn device(profile: Profile) -> SimulatedDevice {
    SimulatedDevice::new(SimulatedDisk::new(64 * PAGE), profile, 7)
}

fn open(device: &SimulatedDevice) -> Box<dyn IoChannel> {
    device.open_channel(32).expect("a simulated device gives channels")
}

fn submit(channel: &mut dyn IoChannel, token: u64, operation: Operation) {
    let mut queue = VecDeque::from([Submission { token: Token(token), operation }]);
    channel.submit(&mut queue);
    assert!(queue.is_empty(), "there is room");
}

/// Polls until nothing is in flight.
fn drain(channel: &mut dyn IoChannel) -> Vec<Completion> {
    let mut done = Vec::new();
    while channel.in_flight() > 0 {
        channel.poll(&mut done);
    }
    done
}

/// Does one operation from submission to completion.
fn run(channel: &mut dyn IoChannel, operation: Operation) -> Result<Option<Buffer>, IoError> {
    submit(channel, 0, operation);
    let completion = drain(channel).pop().expect("one operation, one completion");
    completion.result.map(|()| completion.buffer)
}

fn write(page: u64, byte: u8) -> Operation {
    let buffer = Buffer::from_slice(&[byte; 4096]);
    Operation::Write { offset: page * PAGE, buffer, durability: Durability::Cached }
}

fn write_through(page: u64, byte: u8) -> Operation {
    let buffer = Buffer::from_slice(&[byte; 4096]);
    Operation::Write { offset: page * PAGE, buffer, durability: Durability::Through }
}

fn read(channel: &mut dyn IoChannel, page: u64) -> Result<Vec<u8>, IoError> {
    let operation = Operation::Read { offset: page * PAGE, buffer: Buffer::zeroed(4096) };
    run(channel, operation).map(|buffer| buffer.expect("a read gives its buffer back").to_vec())
}

/// Every byte of the page, if all are the same.
fn byte(disk: &SimulatedDisk, page: u64) -> Option<u8> {
    let mut contents = [0; 4096];
    disk.read(page * PAGE, &mut contents);
    contents.iter().all(|byte| *byte == contents[0]).then_some(contents[0])
}

/// First byte of each of the page's sectors.
fn sectors(disk: &SimulatedDisk, page: u64) -> Vec<u8> {
    let mut contents = [0; 4096];
    disk.read(page * PAGE, &mut contents);
    contents.chunks(512).map(|sector| sector[0]).collect()
}

/// All crash points from now on.
fn observed(device: &SimulatedDevice) -> Arc<Mutex<Vec<CrashPoint>>> {
    let points: Arc<Mutex<Vec<CrashPoint>>> = Arc::default();
    let sink = points.clone();
    device.observe(move |point| sink.lock().push(point));
    points
}

/// The crash point right after the newest event.
fn last(points: &Mutex<Vec<CrashPoint>>) -> CrashPoint {
    points.lock().last().expect("there was an event").clone()
}
