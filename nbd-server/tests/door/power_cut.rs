//! What a flush on one connection is worth for the writes of another when the power is cut (W7).
//!
//! The device keeps two mediums: what was written, and what a flush, or a write through, has made durable. After the
//! cut there is only the second, and another boot, for which there is no crash tail.

use crate::served::client::{FUA, NO_HOLE};
use crate::served::{MIB, ServedPool, assert_clean, name, open_pool};
use blockstore::{
    Buffer, Completion, Device, DeviceError, Durability, IoChannel, IoError, Operation, RamDevice,
    Submission, Token,
};
use nbd_server::Limits;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thinpool::{Access, Action, Payload, Request};

const DEVICE_BYTES: u64 = 64 * MIB;

#[derive(Debug)]
struct CachedDevice {
    written: RamDevice,
    cache: Arc<Mutex<Cache>>,
}

#[derive(Debug)]
struct Cache {
    durable: Vec<u8>,
    /// Written and not durable, in order.
    pending: Vec<(u64, Vec<u8>)>,
}

struct CachedChannel {
    written: Box<dyn IoChannel>,
    depth: usize,
    cache: Arc<Mutex<Cache>>,
}

impl CachedDevice {
    fn new() -> Self {
        let durable = vec![0; usize::try_from(DEVICE_BYTES).expect("a size in memory")];
        let cache = Arc::new(Mutex::new(Cache { durable, pending: Vec::new() }));
        Self { written: RamDevice::new(DEVICE_BYTES), cache }
    }

    /// What another boot finds.
    fn after_a_power_cut(&self) -> RamDevice {
        let device = RamDevice::new(DEVICE_BYTES);
        let mut channel = device.open_channel(1).expect("a channel");
        let cache = self.cache.lock().expect("no panic");
        for (number, piece) in (0..).zip(cache.durable.chunks(1 << 16)) {
            let (offset, buffer) = (number << 16, Buffer::from_slice(piece));
            let operation = Operation::Write { offset, buffer, durability: Durability::Cached };
            channel.submit(&mut VecDeque::from([Submission { token: Token(number), operation }]));
            let mut done = Vec::new();
            assert_eq!(channel.poll(&mut done), 1);
            assert!(done[0].result.is_ok());
        }
        device
    }
}

impl Device for CachedDevice {
    fn size(&self) -> u64 {
        self.written.size()
    }

    fn alignment(&self) -> usize {
        self.written.alignment()
    }

    fn discard_granularity(&self) -> Option<u64> {
        None
    }

    fn description(&self) -> String {
        "cached".to_owned()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        let written = self.written.open_channel(depth)?;
        Ok(Box::new(CachedChannel { written, depth, cache: self.cache.clone() }))
    }
}

impl Cache {
    fn store(&mut self, offset: u64, data: &[u8]) {
        let start = usize::try_from(offset).expect("a place in memory");
        self.durable[start..start + data.len()].copy_from_slice(data);
    }

    fn take(&mut self, operation: &Operation) {
        match operation {
            Operation::Write { offset, buffer, durability: Durability::Through } => {
                self.store(*offset, buffer)
            }
            Operation::Write { offset, buffer, .. } => self.pending.push((*offset, buffer.to_vec())),
            Operation::WriteZeroes { offset, length } => {
                let zeros = vec![0; usize::try_from(*length).expect("a size in memory")];
                self.pending.push((*offset, zeros));
            }
            Operation::Flush => {
                for (offset, data) in std::mem::take(&mut self.pending) {
                    self.store(offset, &data);
                }
            }
            _ => {}
        }
    }
}

impl IoChannel for CachedChannel {
    fn submit(&mut self, queue: &mut VecDeque<Submission>) {
        // One order for both mediums, over all channels.
        let mut cache = self.cache.lock().expect("no panic");
        let room = self.depth.saturating_sub(self.written.in_flight()).min(queue.len());
        let mut taken: VecDeque<Submission> = queue.drain(..room).collect();
        taken.iter().for_each(|submission| cache.take(&submission.operation));
        self.written.submit(&mut taken);
        assert!(taken.is_empty(), "a channel takes what it has room for");
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.written.poll(done)
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        self.written.wait(timeout)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.written.descriptor()
    }

    fn in_flight(&self) -> usize {
        self.written.in_flight()
    }
}

/// Reads from the volume `desk` without a door.
fn read(pool: &thinpool::Pool, offset: u64, length: usize) -> Vec<u8> {
    let attachment = pool.attach(&name("desk"), Access::ReadOnly).expect("the volume is there");
    let mut channel = pool.channel().expect("a channel");
    let action = Action::Read { offset, buffer: Buffer::zeroed(length) };
    channel.submit(Request { tag: 1, attachment, action }).expect("room for one");
    let mut replies = Vec::new();
    while channel.poll(&mut replies) == 0 {
        channel.wait(Duration::from_millis(10));
    }
    match replies.pop().map(|reply| reply.result) {
        Some(Ok(Payload::Buffer(buffer))) => buffer.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flush_of_one_connection_covers_what_was_acknowledged_to_another() {
    let device = Arc::new(CachedDevice::new());
    let served = ServedPool::on_device(device.clone(), &[("desk", 32 * MIB)], Limits::default());
    let (mut one, mut other) = (served.open("desk"), served.open_simple("desk"));
    one.write(0, 0, &[1; 65536]).expect("written");
    one.write(0, MIB, &[2; 8192]).expect("written");
    other.flush().expect("flushed");
    one.trim(MIB, 4096).expect("trimmed");
    one.write(0, 4096, &[3; 4096]).expect("overwritten");
    other.write_zeroes(NO_HOLE, 2 * MIB, 4096).expect("zeroed");
    other.flush().expect("flushed");
    let (pool, service) = open_pool(Arc::new(device.after_a_power_cut()), 2);
    assert_eq!(read(&pool, 0, 65536), [vec![1; 4096], vec![3; 4096], vec![1; 65536 - 8192]].concat());
    assert_eq!(read(&pool, MIB, 8192), [[0; 4096], [2; 4096]].concat());
    assert_clean(&pool);
    drop(pool);
    service.stop().expect("a clean close");
    one.disconnect();
    other.disconnect();
    served.end();
}

#[test]
fn a_write_with_fua_survives_by_itself() {
    let device = Arc::new(CachedDevice::new());
    let served = ServedPool::on_device(device.clone(), &[("desk", 32 * MIB)], Limits::default());
    let mut client = served.open("desk");
    for round in 1..=3 {
        client.write(FUA, 0, &[round; 4096]).expect("written");
        client.write(0, 4096, &[0xff; 512]).expect("written, and perhaps lost");
        let (pool, service) = open_pool(Arc::new(device.after_a_power_cut()), 1 + round);
        assert_eq!(read(&pool, 0, 4096), vec![round; 4096]);
        assert_clean(&pool);
        drop(pool);
        service.stop().expect("a clean close");
    }
    client.disconnect();
    served.end();
}
