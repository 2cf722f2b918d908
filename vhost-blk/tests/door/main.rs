//! The door with a real driver: a pool on a device in memory, served on a Unix socket, used through shared memory.

mod counts;
mod served;
mod status;
#[path = "../../../tests/vhost_client/mod.rs"]
mod vhost_client;
#[path = "../../../tests/vhost_monitor/mod.rs"]
mod vhost_monitor;

use rustix::fs::Mode;
use served::{MIB, Served, name};
use std::os::unix::fs::PermissionsExt;
use thinpool::{Access, Command, Name};
use vhost_blk::Error;
use vhost_client::{Ask, Driver};
use virtio_driver::VirtioBlkFeatureFlags;

const OK: i32 = 0;
const BLOCK: usize = 4096;

fn pattern(seed: u8) -> Vec<u8> {
    (0..=250_u8).cycle().map(|byte| byte ^ seed).take(BLOCK).collect()
}

fn write(driver: &mut Driver, offset: u64, bytes: &[u8]) {
    driver.fill(0, bytes);
    assert_eq!(driver.run(Ask::Write { offset, length: bytes.len() }).expect("an answer"), OK);
}

fn read(driver: &mut Driver, offset: u64, length: usize) -> Vec<u8> {
    assert_eq!(driver.run(Ask::Read { offset, length }).expect("an answer"), OK);
    driver.bytes(0, length)
}

#[test]
fn what_is_written_is_read_through_a_clone_too() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    let mut driver = served.export_and_connect("desk", Access::ReadWrite);
    assert_eq!(driver.capacity(), 8 * MIB);
    assert_eq!(read(&mut driver, 0, BLOCK), vec![0; BLOCK], "a new volume reads as zeros");
    write(&mut driver, 4096, &pattern(1));
    write(&mut driver, 8 * MIB - 512, &pattern(2)[..512]);
    assert_eq!(driver.run(Ask::Flush).expect("an answer"), OK);
    served.run(Command::Snapshot { names: vec![name("desk@one")] });
    served.run(Command::Clone { source: name("desk@one"), names: vec![name("copy")], size: None });
    write(&mut driver, 4096, &pattern(3));
    let mut copy = served.export_and_connect("copy", Access::ReadWrite);
    assert_eq!(read(&mut copy, 4096, BLOCK), pattern(1));
    assert_eq!(read(&mut copy, 8 * MIB - 512, 512), pattern(2)[..512]);
    write(&mut copy, 4096 + 512, &pattern(4)[..512]);
    let mut expected = pattern(1);
    expected[512..1024].copy_from_slice(&pattern(4)[..512]);
    assert_eq!(read(&mut copy, 4096, BLOCK), expected);
    assert_eq!(read(&mut driver, 4096, BLOCK), pattern(3));
    drop((driver, copy));
    served.end();
}

/// A guest's memory is written as it is where that can be; zeros among it are found all the same.
#[test]
fn blocks_of_zeros_take_no_space_whatever_is_written_with_them() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    let mut driver = served.export_with("desk", Access::ReadWrite, 1, 4 * BLOCK);
    let late = [vec![0; BLOCK - 1], vec![1]].concat();
    for (at, blocks, allocated) in [
        (0, [pattern(1), pattern(2), pattern(3), pattern(4)], 4),
        (1, [pattern(1), vec![0; BLOCK], pattern(2), late.clone()], 3),
        (2, [late.clone(), pattern(9), late, vec![0; BLOCK]], 3),
        (3, [vec![0; BLOCK], vec![0; BLOCK], vec![0; BLOCK], vec![0; BLOCK]], 0),
    ] {
        let before = served.pool.status().mapped;
        for (index, block) in (0..).zip(&blocks) {
            let offset = MIB * at + 65536 * index;
            write(&mut driver, offset, block);
            assert_eq!(read(&mut driver, offset, BLOCK), *block, "{at} {index}");
        }
        assert_eq!(served.pool.status().mapped - before, 4096 * allocated, "{at}, one by one");
        let before = served.pool.status().mapped;
        write(&mut driver, MIB * at + 512 * 1024, &blocks.concat());
        assert_eq!(read(&mut driver, MIB * at + 512 * 1024, 4 * BLOCK), blocks.concat(), "{at}");
        assert_eq!(served.pool.status().mapped - before, 4096 * allocated, "{at}, together");
    }
    drop(driver);
    served.end();
}

#[test]
fn discards_and_zeroes_read_as_zeros() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    let mut driver = served.export_and_connect("desk", Access::ReadWrite);
    for ask in [
        Ask::Discard { offset: 4096, length: 4096 },
        Ask::WriteZeroes { offset: 4096, length: 4096, unmap: true },
        Ask::WriteZeroes { offset: 4096, length: 4096, unmap: false },
    ] {
        write(&mut driver, 4096, &pattern(9));
        assert_eq!(driver.run(ask).expect("an answer"), OK, "{ask:?}");
        assert_eq!(read(&mut driver, 4096, BLOCK), vec![0; BLOCK], "{ask:?}");
    }
    assert_eq!(served.pool.status().mapped, 4096, "zeroes without unmap keep their block");
    drop(driver);
    served.end();
}

#[test]
fn what_is_out_of_range_is_an_error_and_the_ring_goes_on() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    let mut driver = served.export_and_connect("desk", Access::ReadWrite);
    for ask in [
        Ask::Read { offset: 8 * MIB, length: 512 },
        Ask::Write { offset: 8 * MIB - 512, length: 1024 },
        Ask::Discard { offset: 8 * MIB - 512, length: 1024 },
    ] {
        assert!(driver.run(ask).expect("an answer") < OK, "{ask:?}");
    }
    assert_eq!(read(&mut driver, 0, BLOCK), vec![0; BLOCK]);
    drop(driver);
    served.end();
}

#[test]
fn a_snapshot_is_read_only_and_says_so() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    served.run(Command::Snapshot { names: vec![name("desk@one")] });
    let mut driver = served.export_and_connect("desk@one", Access::ReadOnly);
    assert!(driver.has(VirtioBlkFeatureFlags::RO) && !driver.has(VirtioBlkFeatureFlags::DISCARD));
    assert!(driver.run(Ask::Write { offset: 0, length: 512 }).expect("an answer") < OK);
    assert_eq!(read(&mut driver, 0, BLOCK), vec![0; BLOCK]);
    drop(driver);
    served.end();
}

#[test]
fn a_driver_is_told_of_the_cache_and_that_it_can_flush() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    let driver = served.export_and_connect("desk", Access::ReadWrite);
    assert!(driver.is_writeback());
    for feature in [
        VirtioBlkFeatureFlags::FLUSH,
        VirtioBlkFeatureFlags::CONFIG_WCE,
        VirtioBlkFeatureFlags::DISCARD,
        VirtioBlkFeatureFlags::WRITE_ZEROES,
        VirtioBlkFeatureFlags::MQ,
    ] {
        assert!(driver.has(feature), "{feature:?}");
    }
    drop(driver);
    served.end();
}

#[test]
fn many_requests_at_a_time_are_each_answered_once() {
    let served = Served::start(&[("desk", 64 * MIB)]);
    let mut driver = served.export_with("desk", Access::ReadWrite, 128, BLOCK);
    let mut seen = vec![0_u32; 128];
    let mut answers = Vec::new();
    for round in 0..50_u64 {
        for slot in 0..128 {
            let number = u64::try_from(slot).expect("small");
            driver.fill(slot, &pattern(u8::try_from((number + round) % 256).expect("a byte")));
            let offset = (number * 97 + round * 13) % 16384 * 4096;
            driver.submit(slot, Ask::Write { offset, length: BLOCK }).expect("room in the ring");
        }
        driver.kick().expect("kicked");
        let mut left = 128;
        for _ in 0..1000 {
            driver.answers(&mut answers);
            for (slot, answer) in answers.drain(..) {
                assert_eq!(answer, OK);
                seen[slot] += 1;
                left -= 1;
            }
            if left == 0 {
                break;
            }
            driver.wait(100).expect("waited");
        }
        assert_eq!(left, 0, "round {round}");
    }
    assert!(seen.iter().all(|count| *count == 50));
    drop(driver);
    served.end();
}

/// As the drivers of firmware do it, which take none of the sizes that are offered.
#[test]
fn a_request_longer_than_what_is_offered_is_served_in_parts() {
    const LENGTH: usize = (40 << 20) + 512;
    let served = Served::start(&[("desk", 64 * MIB)]);
    // The second slot begins where no sector of memory does.
    let mut driver = served.export_with("desk", Access::ReadWrite, 2, LENGTH + 8);
    let bytes: Vec<u8> = (0..LENGTH.div_ceil(8)).flat_map(usize::to_le_bytes).take(LENGTH).collect();
    for (slot, offset) in [(0, 512), (1, 1024 * 4096)] {
        driver.fill(slot, &bytes);
        assert_eq!(ask(&mut driver, slot, Ask::Write { offset, length: LENGTH }), OK);
        for slot in [0, 1] {
            driver.fill(slot, &vec![0; LENGTH]);
            assert_eq!(ask(&mut driver, slot, Ask::Read { offset, length: LENGTH }), OK);
            assert!(driver.bytes(slot, LENGTH) == bytes, "slot {slot}, from {offset} on");
        }
    }
    let behind = 64 * MIB - (40 << 20);
    assert_ne!(ask(&mut driver, 0, Ask::Read { offset: behind, length: LENGTH }), OK, "a sector too long");
    drop(driver);
    served.end();
}

/// One request in a slot of its own, answered.
fn ask(driver: &mut Driver, slot: usize, what: Ask) -> i32 {
    driver.submit(slot, what).expect("room in the ring");
    driver.kick().expect("kicked");
    let mut answers = Vec::new();
    for _ in 0..100 {
        driver.answers(&mut answers);
        if let [(answered, result)] = answers[..] {
            assert_eq!(answered, slot);
            return result;
        }
        driver.wait(100).expect("waited");
    }
    panic!("no answer");
}

#[test]
fn a_monitor_comes_back_and_finds_its_disk() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    let mut driver = served.export_and_connect("desk", Access::ReadWrite);
    for round in 0..20 {
        write(&mut driver, 4096 * u64::from(round), &pattern(round));
        drop(driver);
        driver = Driver::connect(&served.socket("desk"), 4, BLOCK).expect("connected again");
        assert_eq!(read(&mut driver, 4096 * u64::from(round), BLOCK), pattern(round));
    }
    drop(driver);
    served.end();
}

#[test]
fn an_export_ends_while_its_monitor_is_connected() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    let mut driver = served.export_and_connect("desk", Access::ReadWrite);
    write(&mut driver, 0, &pattern(5));
    let status = served.server.exports();
    assert!(status.len() == 1 && status[0].connected && status[0].name == "desk");
    served.server.unexport(&name("desk")).expect("exported");
    assert!(!served.socket("desk").exists() && served.server.exports().is_empty());
    assert!(matches!(served.server.unexport(&name("desk")), Err(Error::NotExported(_))));
    let mut again = served.export_and_connect("desk", Access::ReadWrite);
    assert_eq!(read(&mut again, 0, BLOCK), pattern(5));
    drop((driver, again));
    served.end();
}

#[test]
fn bad_orders_are_refused_and_leave_nothing_behind() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    let order = |text: &str, queues| served.order(text, Access::ReadWrite, queues);
    assert!(matches!(served.server.export(&order("desk", 0)), Err(Error::Queues { asked: 0 })));
    assert!(matches!(served.server.export(&order("desk", 17)), Err(Error::Queues { asked: 17 })));
    assert!(matches!(served.server.export(&order("none", 1)), Err(Error::Engine(_))));
    served.server.export(&order("desk", 1)).expect("exported");
    assert!(matches!(served.server.export(&order("desk", 1)), Err(Error::Exported(_))));
    let other: Name = name("desk");
    assert!(served.pool.attach(&other, Access::ReadWrite).is_err(), "it is open for writing");
    let mode = served.socket("desk").metadata().expect("there").permissions().mode();
    assert_eq!(Mode::from_raw_mode(mode), Mode::from_raw_mode(0o600));
    served.end();
}

#[test]
fn a_server_that_gets_no_channel_leaves_none_behind() {
    let served = Served::start(&[("desk", 8 * MIB)]);
    // The tail of a test's pool has seven lanes for channels, and the server has taken two of them.
    let start = |workers| {
        let options = vhost_blk::ServerOptions { workers, ..vhost_blk::ServerOptions::default() };
        vhost_blk::Server::start(&served.pool, &options)
    };
    assert!(matches!(start(6), Err(Error::Engine(_))));
    start(5).expect("every channel is free again").shutdown();
    served.end();
}
