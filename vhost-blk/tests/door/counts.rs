//! What an export counts is what its driver has seen.

use crate::served::{MIB, Served, name};
use crate::vhost_client::{Ask, Driver};
use crate::{BLOCK, OK};
use blockstore::RamDevice;
use std::sync::Arc;
use std::time::Duration;
use thinpool::Access;
use vhost_blk::{Count, Counts, Latencies};

fn counts(served: &Served) -> Counts {
    let mut exports = served.server.exports();
    assert_eq!(exports.len(), 1);
    exports.remove(0).counts
}

fn count(requests: u64, errors: u64, bytes: u64) -> Count {
    Count { requests, errors, bytes }
}

fn ask(driver: &mut Driver, ask: Ask) -> bool {
    driver.run(ask).expect("an answer") == OK
}

/// So many requests, and figures in an order that can be.
#[track_caller]
fn assert_sane(latencies: &Latencies, requests: u64) {
    assert_eq!(latencies.count(), requests);
    let all = [50, 90, 99].map(|percent| latencies.percentile(percent).expect("there were some"));
    let max = latencies.max().expect("there were some");
    assert!(all.is_sorted() && all[2] <= max && max <= latencies.sum(), "{all:?} {max:?}");
    assert!(Duration::ZERO < max && max < Duration::from_secs(60), "{max:?}");
    assert!(latencies.cumulative().all(|(_, count)| count <= requests));
}

#[test]
fn each_request_is_counted_once_with_its_bytes_and_errors() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    let mut driver = served.export_and_connect("desk", Access::ReadWrite);
    assert_eq!(counts(&served), Counts::default());
    for block in 0..10 {
        assert!(ask(&mut driver, Ask::Write { offset: block * 4096, length: BLOCK }));
    }
    for length in [512, 1024, BLOCK] {
        assert!(ask(&mut driver, Ask::Read { offset: 0, length }));
    }
    assert!(ask(&mut driver, Ask::Flush) && ask(&mut driver, Ask::Flush));
    assert!(ask(&mut driver, Ask::Discard { offset: 0, length: 8192 }));
    assert!(ask(&mut driver, Ask::WriteZeroes { offset: 0, length: MIB, unmap: true }));
    for beyond in [
        Ask::Read { offset: 8 * MIB, length: 512 },
        Ask::Write { offset: 8 * MIB - 512, length: 1024 },
        Ask::Write { offset: 8 * MIB, length: 512 },
        Ask::Discard { offset: 8 * MIB - 512, length: 1024 },
        Ask::WriteZeroes { offset: 8 * MIB, length: 512, unmap: false },
    ] {
        assert!(!ask(&mut driver, beyond));
    }
    let counts = counts(&served);
    assert_eq!(counts.reads, count(4, 1, 512 + 1024 + 4096));
    assert_eq!(counts.writes, count(12, 2, 10 * 4096));
    assert_eq!(counts.flushes, count(2, 0, 0));
    assert_eq!(counts.discards, count(2, 1, 8192));
    assert_eq!(counts.write_zeroes, count(2, 1, MIB));
    assert_eq!(counts.others, count(0, 0, 0));
    assert_sane(&counts.read_latencies, 4);
    assert_sane(&counts.write_latencies, 12);
    assert_sane(&counts.flush_latencies, 2);
    drop(driver);
    served.end();
}

#[test]
fn what_the_engine_refuses_is_an_error_too() {
    let served = Served::on_device(Arc::new(RamDevice::new(16 * MIB)), &[("desk", 32 * MIB)]);
    let mut driver = served.export_and_connect("desk", Access::ReadWrite);
    driver.fill(0, &[1; BLOCK]);
    let write = |block: u64| Ask::Write { offset: block * 4096, length: BLOCK };
    let stored = (0..8192).take_while(|block| ask(&mut driver, write(*block))).count();
    let stored = u64::try_from(stored).expect("small");
    assert!((1..8192).contains(&stored), "the pool is full at some time: {stored}");
    let counts = counts(&served);
    assert_eq!(counts.writes, count(stored + 1, 1, stored * 4096));
    assert_sane(&counts.write_latencies, stored + 1);
    drop(driver);
    served.end();
}

#[test]
fn a_transfer_in_parts_is_one_request_with_the_bytes_of_all_parts() {
    const LONG: usize = 20 << 20;
    let served = Served::start(&[("desk", 32 * MIB)]);
    let mut driver = served.export_with("desk", Access::ReadWrite, 1, LONG);
    assert!(ask(&mut driver, Ask::Write { offset: 0, length: LONG }));
    assert!(ask(&mut driver, Ask::Read { offset: 4096, length: LONG }));
    assert!(!ask(&mut driver, Ask::Read { offset: 16 * MIB, length: LONG }));
    let counts = counts(&served);
    assert_eq!((counts.writes, counts.reads), (count(1, 0, 20 * MIB), count(2, 1, 20 * MIB)));
    assert_sane(&counts.write_latencies, 1);
    assert_sane(&counts.read_latencies, 2);
    drop(driver);
    served.end();
}

#[test]
fn rings_add_up_and_counts_outlive_their_rings_and_monitors() {
    const ROUNDS: u64 = 6;
    let served = Served::start(&[("desk", 8 * MIB)]);
    served.server.export(&served.order("desk", Access::ReadWrite, 2)).expect("exported");
    for round in 1..=ROUNDS {
        let mut driver =
            Driver::connect_queues(&served.socket("desk"), 2, 4, BLOCK).expect("connected again");
        for queue in 0..2 {
            driver.turn_to(queue);
            assert!(ask(&mut driver, Ask::Write { offset: round * 4096, length: BLOCK }));
            assert!(ask(&mut driver, Ask::Read { offset: round * 4096, length: BLOCK }));
        }
        assert_eq!(counts(&served).reads, count(2 * round, 0, 2 * round * 4096));
    }
    let after = counts(&served);
    assert_eq!(after.writes, count(2 * ROUNDS, 0, 2 * ROUNDS * 4096));
    assert_sane(&after.write_latencies, 2 * ROUNDS);
    served.server.unexport(&name("desk")).expect("exported");
    served.server.export(&served.order("desk", Access::ReadWrite, 1)).expect("exported anew");
    assert_eq!(counts(&served), Counts::default(), "a new export begins at zero");
    served.end();
}

#[test]
fn many_requests_at_a_time_are_counted_each() {
    const SLOTS: usize = 128;
    let served = Served::start(&[("desk", 8 * MIB)]);
    let mut driver = served.export_with("desk", Access::ReadWrite, SLOTS, BLOCK);
    let mut answers = Vec::new();
    for _ in 0..10 {
        for slot in 0..SLOTS {
            let offset = u64::try_from(slot).expect("small") * 4096;
            driver.submit(slot, Ask::Write { offset, length: BLOCK }).expect("room in the ring");
        }
        driver.kick().expect("kicked");
        for _ in 0..1000 {
            driver.answers(&mut answers);
            if answers.len() >= SLOTS {
                break;
            }
            driver.wait(100).expect("waited");
        }
        assert_eq!(answers.drain(..).count(), SLOTS);
    }
    let counts = counts(&served);
    assert_eq!(counts.writes, count(1280, 0, 1280 * 4096));
    assert_sane(&counts.write_latencies, 1280);
    drop(driver);
    served.end();
}
