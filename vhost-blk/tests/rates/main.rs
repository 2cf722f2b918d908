//! Limits of speed of an export: all its rings keep them together, and nobody else notices.

#[path = "../../../rate-limit/tests/pace/mod.rs"]
mod pace;
#[path = "../door/served.rs"]
mod served;
#[path = "../../../tests/vhost_client/mod.rs"]
mod vhost_client;

use pace::{BURST, MEASURED, SOON, alone, assert_near, limits};
use rate_limit::RateLimits;
use served::{MIB, Served, name};
use std::thread;
use std::time::{Duration, Instant};
use thinpool::Access;
use vhost_blk::ExportOptions;
use vhost_client::{Ask, Driver};

/// Requests of one driver under way.
const DEPTH: usize = 4;
const PATIENCE_MS: i64 = 60_000;
#[expect(clippy::disallowed_methods, reason = "tests of speed measure real time")]
fn now() -> Instant {
    Instant::now()
}

fn export(served: &Served, volume: &str, rate_limits: RateLimits, slot_bytes: usize) -> Driver {
    export_queues(served, volume, rate_limits, 2, slot_bytes)
}

fn export_queues(
    served: &Served,
    volume: &str,
    rate_limits: RateLimits,
    queues: usize,
    slot_bytes: usize,
) -> Driver {
    let order = ExportOptions { rate_limits, ..served.order(volume, Access::ReadWrite, 2) };
    served.server.export(&order).expect("exported");
    Driver::connect_queues(&served.socket(volume), queues, DEPTH, slot_bytes).expect("connected")
}

/// Asks again in every slot that is answered; how many were.
fn again(driver: &mut Driver, ask: Ask) -> u32 {
    let mut answers = Vec::new();
    driver.answers(&mut answers);
    for (slot, status) in &answers {
        assert_eq!(*status, 0);
        driver.submit(*slot, ask).expect("a free slot");
    }
    driver.kick().expect("a device that listens");
    if answers.is_empty() {
        driver.wait(PATIENCE_MS).expect("a device that answers");
    }
    u32::try_from(answers.len()).expect("few")
}

fn rate(driver: &mut Driver, ask: Ask) -> f64 {
    rate_in(MEASURED, driver, ask)
}

/// Requests answered in a second, with [`DEPTH`] of them always under way.
fn rate_in(measured: Duration, driver: &mut Driver, ask: Ask) -> f64 {
    (0..DEPTH).for_each(|slot| driver.submit(slot, ask).expect("a free slot"));
    driver.kick().expect("a device that listens");
    let mut measure = |time: Duration| {
        let (begun, mut count) = (now(), 0);
        while begun.elapsed() < time {
            count += again(driver, ask);
        }
        f64::from(count) / begun.elapsed().as_secs_f64()
    };
    measure(4 * BURST);
    let rate = measure(measured);
    let mut answers = Vec::new();
    while answers.len() < DEPTH {
        driver.wait(PATIENCE_MS).expect("a device that answers");
        driver.answers(&mut answers);
    }
    rate
}

#[test]
fn requests_and_bytes_come_as_fast_as_they_may() {
    let _turn = alone();
    let read = |length| Ask::Read { offset: 0, length };
    let write = |length| Ask::Write { offset: 0, length };
    // The last ones are longer than a burst.
    let cases = [
        ("reads", limits(400, 0), read(4096), 400.0),
        ("writes", limits(400, 0), write(4096), 400.0),
        ("read-bytes", limits(0, 16 * MIB), read(64 << 10), 256.0),
        ("written-bytes", limits(5000, 16 * MIB), write(64 << 10), 256.0),
        ("long-reads", limits(0, 32 * MIB), read(2 << 20), 16.0),
        ("long-writes", limits(1000, 32 * MIB), write(2 << 20), 16.0),
    ];
    let volumes = cases.map(|(name, ..)| (name, 8 * MIB));
    let served = Served::start(&volumes);
    thread::scope(|scope| {
        for (name, limits, ask, expected) in cases {
            let length = match ask {
                Ask::Read { length, .. } | Ask::Write { length, .. } => length,
                _ => 0,
            };
            let mut driver = export_queues(&served, name, limits, 1, length);
            scope.spawn(move || {
                println!("{name}");
                assert_near(expected, || rate(&mut driver, ask));
            });
        }
    });
    served.end();
}

/// What is longer than the engine gets at a time is paid for part by part.
#[test]
fn transfers_in_parts_come_as_fast_as_they_may() {
    let _turn = alone();
    let served = Served::start(&[("desk", 24 * MIB)]);
    let mut driver = export(&served, "desk", limits(0, 96 * MIB), 24 << 20);
    let read = Ask::Read { offset: 0, length: 24 << 20 };
    let mut transfer = || assert_eq!(driver.run(read).expect("an answer"), 0);
    // It begins at once, and the next one pays for it.
    transfer();
    assert_near(4.0, || {
        let begun = now();
        (0..8).for_each(|_| transfer());
        8.0 / begun.elapsed().as_secs_f64()
    });
    drop(driver);
    served.end();
}

/// Two drivers cannot have an export; two rings of one can, on different workers.
#[test]
fn rings_of_an_export_share_its_limits_evenly() {
    let _turn = alone();
    let served = Served::start(&[("desk", 8 * MIB)]);
    let mut driver = export(&served, "desk", limits(400, 0), 4096);
    let ask = Ask::Read { offset: 0, length: 4096 };
    for queue in 0..2 {
        driver.turn_to(queue);
        for slot in 0..2 {
            driver.submit(2 * queue + slot, ask).expect("a free slot");
        }
        driver.kick().expect("a device that listens");
    }
    let mut measure = |time: Duration| {
        let (begun, mut counts) = (now(), [0_u32; 2]);
        let mut answers = Vec::new();
        while begun.elapsed() < time {
            for (queue, count) in counts.iter_mut().enumerate() {
                driver.turn_to(queue);
                driver.answers(&mut answers);
                *count += u32::try_from(answers.len()).expect("few");
                for (slot, status) in answers.drain(..) {
                    assert_eq!(status, 0);
                    driver.submit(slot, ask).expect("a free slot");
                }
                driver.kick().expect("a device that listens");
            }
            thread::yield_now();
        }
        let seconds = begun.elapsed().as_secs_f64();
        counts.map(|count| f64::from(count) / seconds)
    };
    measure(4 * BURST);
    assert_near(400.0, || {
        let [one, other] = measure(MEASURED);
        assert!(one > other * 0.7 && other > one * 0.7, "{one:.0} and {other:.0}");
        one + other
    });
    drop(driver);
    served.end();
}

#[test]
fn a_neighbour_is_not_held_up() {
    let _turn = alone();
    let served = Served::start(&[("desk", 8 * MIB), ("neighbour", 8 * MIB)]);
    let ask = Ask::Read { offset: 0, length: 4096 };
    let mut neighbour = export(&served, "neighbour", RateLimits::NONE, 4096);
    let mut desk = export(&served, "desk", RateLimits::NONE, 4096);
    let set = |limits| served.server.set_rate_limits(&name("desk"), limits).expect("it is exported");
    let (mut alone, mut beside) = (0.0_f64, 0.0_f64);
    // In turn, and the best of each: the machine has other things to do as well.
    for _ in 0..4 {
        alone = alone.max(rate_in(MEASURED / 4, &mut neighbour, ask));
        set(limits(1, 0));
        // Both workers have a ring on which requests wait.
        for (queue, slot) in [(0, 0), (0, 1), (1, 2), (1, 3)] {
            desk.turn_to(queue);
            desk.submit(slot, ask).expect("a free slot");
            desk.kick().expect("a device that listens");
        }
        beside = beside.max(rate_in(MEASURED / 4, &mut neighbour, ask));
        set(RateLimits::NONE);
        for queue in 0..2 {
            desk.turn_to(queue);
            let mut answers = Vec::new();
            while answers.len() < 2 {
                desk.wait(PATIENCE_MS).expect("a device that answers");
                desk.answers(&mut answers);
            }
        }
    }
    assert!(beside > alone * 0.6, "{beside:.0} a second, and {alone:.0} alone");
    drop((desk, neighbour));
    served.end();
}

/// A driver whose export owes for hours, and one read that waits for its turn.
fn in_debt(served: &Served) -> Driver {
    let mut driver = export(served, "desk", limits(0, 1024), 4 << 20);
    let write = Ask::Write { offset: 0, length: 4 << 20 };
    assert_eq!(driver.run(write).expect("the first one begins at once"), 0);
    assert_eq!(driver.run(Ask::Flush).expect("it has no bytes"), 0);
    assert_eq!(driver.run(Ask::Discard { offset: 0, length: 4096 }).expect("nor has this"), 0);
    driver.submit(1, Ask::Read { offset: 0, length: 4096 }).expect("a free slot");
    driver.kick().expect("a device that listens");
    driver
}

#[test]
fn flushes_do_not_wait_for_bytes_and_nothing_waits_when_a_ring_stops() {
    let _turn = alone();
    let served = Served::start(&[("desk", 8 * MIB)]);
    let begun = now();
    let mut driver = in_debt(&served);
    // The other ring's: nothing waits in front of it.
    driver.turn_to(1);
    driver.submit(2, Ask::Flush).expect("a free slot");
    driver.kick().expect("a device that listens");
    let mut answers = Vec::new();
    while answers.is_empty() {
        driver.wait(PATIENCE_MS).expect("a device that answers");
        driver.answers(&mut answers);
    }
    assert_eq!(answers, [(2, 0)]);
    // Its monitor goes: the rings are stopped, and the read that waits is done (V4).
    drop(driver);
    served.server.unexport(&name("desk")).expect("it is exported");
    assert!(begun.elapsed() < SOON);
    served.end();
}

#[test]
fn a_change_counts_for_those_who_wait() {
    let _turn = alone();
    let served = Served::start(&[("desk", 8 * MIB)]);
    let begun = now();
    for lifted in [RateLimits::NONE, limits(1000, 0), limits(0, 1 << 40)] {
        let mut driver = in_debt(&served);
        let set = |limits| served.server.set_rate_limits(&name("desk"), limits).expect("it is exported");
        set(limits(0, 1023));
        set(lifted);
        assert_eq!(served.server.exports()[0].rate_limits, lifted);
        let mut answers = Vec::new();
        while answers.is_empty() {
            driver.wait(PATIENCE_MS).expect("a device that answers");
            driver.answers(&mut answers);
        }
        assert_eq!(answers, [(1, 0)]);
        drop(driver);
        served.server.unexport(&name("desk")).expect("it is exported");
        served.server.set_rate_limits(&name("desk"), lifted).expect_err("it is exported no more");
    }
    assert!(begun.elapsed() < 3 * SOON);
    served.end();
}
