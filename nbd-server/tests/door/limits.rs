//! The bounds an operator may change, each at its bound.

use crate::served::client::{Client, OPT_GO, READ, go, request};
use crate::served::{MIB, ServedPool, now, wait_for};
use nbd_server::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const POLICY: u32 = (1 << 31) + 2;
/// Threads of a served pool's server.
const WORKERS: usize = 2;

#[test]
fn one_client_too_many_is_told_so_and_a_place_is_given_back() {
    let limits = Limits { connections_max: 3, ..Limits::default() };
    let served = ServedPool::with_limits(&[("desk", 4 * MIB)], limits);
    let mut clients: Vec<_> = (0..3).map(|_| served.open("desk")).collect();
    let mut refused = served.connect();
    let replies = refused.option(OPT_GO, &go("desk"));
    assert_eq!((replies[0].0, &replies[0].1[..]), (POLICY, &b"3 clients have an export already"[..]));
    clients.pop().expect("three").disconnect();
    wait_for("a free place", || refused.go("desk").is_ok());
    clients.push(refused);
    clients.into_iter().for_each(|client| client.disconnect());
    served.end();
}

/// The slowest of a hundred reads, in the middle of nine such hundreds.
fn slowest_read(client: &mut Client) -> Duration {
    let mut slowest: Vec<Duration> = (0..9)
        .map(|_| {
            let times = (0..100_u64).map(|number| {
                let begun = now();
                client.read(number * 4096, 4096).expect("read");
                begun.elapsed()
            });
            times.max().unwrap_or_default()
        })
        .collect();
    slowest.sort();
    slowest[4]
}

#[test]
fn ten_thousand_half_open_connections_keep_nobody_out_and_slow_nobody_down() {
    const HALF_OPEN: usize = 10_000;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum");
    let served = ServedPool::start(&[("desk", 4 * MIB)]);
    let mut before = served.open("desk");
    let alone = slowest_read(&mut before);
    // The server closes the older ones; what it has closed is not kept here either.
    let mut open = VecDeque::new();
    for number in 0..HALF_OPEN {
        let mut stream = UnixStream::connect(served.socket()).expect("the kernel connects");
        // Some say nothing, some half of a word.
        stream.write_all(&b"\0\0\0\x03IHAVEOPT"[..number % 13]).unwrap_or_default();
        open.push_back(stream);
        // More than the server keeps.
        if open.len() > 1000 {
            open.pop_front();
        }
    }
    let bound = 1 + WORKERS * Limits::default().handshakes_max;
    wait_for("the older ones to be cut", || served.server.connections() <= bound);
    let mut after = served.open("desk");
    after.write(0, 0, &[1; 4096]).expect("written");
    let crowded = slowest_read(&mut before);
    let noise = Duration::from_millis(2);
    assert!(crowded <= 2 * alone + noise, "{crowded:?} beside half-open connections, {alone:?} alone");
    drop(open);
    before.disconnect();
    after.disconnect();
    served.end();
}

#[test]
fn a_slow_handshake_is_cut_and_a_quiet_session_is_not() {
    let deadline = Duration::from_secs(1);
    let limits = Limits { handshake_deadline: deadline, ..Limits::default() };
    let served = ServedPool::with_limits(&[("desk", 4 * MIB)], limits);
    let begun = now();
    let mut quiet = served.open("desk");
    let mut slow: Vec<_> = (0..20).map(|_| served.connect()).collect();
    slow[0].send(b"IHAVE");
    for client in &mut slow {
        assert_eq!(client.read_to_end(), 0);
    }
    assert!(begun.elapsed() >= deadline, "not before the deadline");
    quiet.write(0, 0, &[1; 512]).expect("a session has no deadline");
    quiet.disconnect();
    served.end();
}

#[test]
fn a_client_that_does_not_take_its_replies_is_cut() {
    let limits = Limits { write_stall: Duration::from_millis(300), ..Limits::default() };
    let served = ServedPool::with_limits(&[("desk", 64 * MIB)], limits);
    let mut client = served.open_simple("desk");
    client.write(0, 0, &vec![1; 16 << 20]).expect("written");
    for cookie in 0..8 {
        client.send(&request(READ, 0, cookie, 0, 16 << 20));
    }
    wait_for("the cut", || served.server.connections() == 0);
    assert!(client.read_to_end() < 8 * (16 << 20));
    served.end();
}
