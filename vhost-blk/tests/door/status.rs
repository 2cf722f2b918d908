//! The status of the device (virtio 1.2, section 2.1), which a monitor sets and asks for by messages of its own.

use crate::served::{MIB, Served};
use crate::vhost_monitor::{FREE, Monitor, NEXT, WRITE};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use thinpool::Access;
use vhost::vhost_user::VhostUserFrontend;

const SET_PROTOCOL_FEATURES: u32 = 16;
const SET_STATUS: u32 = 39;
const GET_STATUS: u32 = 40;
const VERSION: u32 = 1;
const IS_REPLY: u32 = 4;
const NEEDS_REPLY: u32 = 8;
const DRIVER_OK: u64 = 15;

fn say(stream: &mut UnixStream, request: u32, flags: u32, number: Option<u64>) {
    let length = if number.is_some() { 8_u32 } else { 0 };
    let mut raw: Vec<u8> = [request, flags, length].into_iter().flat_map(u32::to_ne_bytes).collect();
    raw.extend(number.into_iter().flat_map(u64::to_ne_bytes));
    stream.write_all(&raw).expect("sent");
}

/// The next answer: its request, flags and number. Nothing when the connection has ended.
#[expect(clippy::host_endian_bytes, reason = "the protocol speaks in the machine's own order")]
fn answer(stream: &mut UnixStream) -> Option<(u32, u32, u64)> {
    let mut raw = [0; 20];
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.read_exact(&mut raw).ok()?;
    let word = |at: usize| u32::from_ne_bytes(raw[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(word(8), 8, "bytes of the number");
    Some((word(0), word(4), u64::from_ne_bytes(raw[12..].try_into().expect("eight bytes"))))
}

fn status(monitor: &mut Monitor) -> u64 {
    say(&mut monitor.stream, GET_STATUS, VERSION, None);
    let (request, flags, status) = answer(&mut monitor.stream).expect("an answer");
    assert_eq!((request, flags), (GET_STATUS, VERSION | IS_REPLY));
    status
}

/// A read of the first sector, and how many requests are used once there was time for it.
fn used_after_a_read(monitor: &mut Monitor, milliseconds: i64) -> u16 {
    monitor.header(FREE, 0, 0);
    monitor.describe(0, FREE, 16, NEXT, 1);
    monitor.describe(1, FREE + 0x1000, 512, NEXT | WRITE, 2);
    monitor.describe(2, FREE + 0x100, 1, WRITE, 0);
    monitor.offer(0);
    monitor.is_called(milliseconds);
    monitor.used()
}

fn served() -> Served {
    let served = Served::start(&[("desk", 8 * MIB)]);
    served.server.export(&served.order("desk", Access::ReadWrite, 1)).expect("exported");
    served
}

#[test]
fn the_status_is_what_the_driver_said_and_a_reset_takes_everything_back() {
    let served = served();
    let mut monitor = Monitor::start(&served.socket("desk"));
    assert_eq!(status(&mut monitor), 0, "a device nobody has spoken of");
    say(&mut monitor.stream, SET_STATUS, VERSION, Some(1));
    say(&mut monitor.stream, SET_STATUS, VERSION | NEEDS_REPLY, Some(DRIVER_OK));
    assert_eq!(
        answer(&mut monitor.stream),
        Some((SET_STATUS, VERSION | IS_REPLY, 0)),
        "one of two wants one"
    );
    assert_eq!(status(&mut monitor), DRIVER_OK);
    assert_eq!(used_after_a_read(&mut monitor, 10_000), 1);
    say(&mut monitor.stream, SET_STATUS, VERSION, Some(0));
    assert_eq!(status(&mut monitor), 0);
    assert_eq!(used_after_a_read(&mut monitor, 100), 1, "its rings are no more");
    monitor.frontend.reset_device().expect("reset");
    drop(monitor);
    let mut monitor = Monitor::start(&served.socket("desk"));
    say(&mut monitor.stream, SET_STATUS, VERSION, Some(DRIVER_OK));
    monitor.frontend.reset_device().expect("reset");
    assert_eq!(status(&mut monitor), 0, "another message resets, too");
    drop(monitor);
    served.end();
}

#[test]
fn a_ring_that_lies_after_a_reset_is_told_of_by_the_descriptor_given_before() {
    let served = served();
    let mut monitor = Monitor::start(&served.socket("desk"));
    say(&mut monitor.stream, SET_STATUS, VERSION, Some(0));
    monitor.set_ring_again().expect("a ring as it should be");
    monitor.describe(0, FREE, 16, NEXT, 0);
    monitor.offer(0);
    assert!(monitor.is_broken(), "a loop");
    drop(monitor);
    served.end();
}

#[test]
fn whoever_speaks_of_the_status_wrongly_is_hung_up_on_and_may_come_again() {
    let served = served();
    let wrong: [(u32, u32, Option<u64>); 5] = [
        (SET_STATUS, VERSION, None),
        (SET_STATUS, VERSION, Some(256)),
        (SET_STATUS, 2, Some(1)),
        (SET_STATUS, VERSION | IS_REPLY, Some(1)),
        (GET_STATUS, VERSION, Some(1)),
    ];
    for (request, flags, number) in wrong {
        let mut monitor = Monitor::start(&served.socket("desk"));
        say(&mut monitor.stream, request, flags, number);
        assert_eq!(answer(&mut monitor.stream), None, "{request} {flags} {number:?}");
    }
    // Not negotiated.
    let mut monitor = Monitor::start(&served.socket("desk"));
    say(&mut monitor.stream, SET_PROTOCOL_FEATURES, VERSION, Some(0));
    say(&mut monitor.stream, GET_STATUS, VERSION, None);
    assert_eq!(answer(&mut monitor.stream), None);
    let mut monitor = Monitor::start(&served.socket("desk"));
    assert_eq!(used_after_a_read(&mut monitor, 10_000), 1);
    drop(monitor);
    served.end();
}
