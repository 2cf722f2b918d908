//! The bounds an operator may change, each at its bound.

use crate::served::client::{OPT_GO, READ, go, request};
use crate::served::{MIB, ServedPool, now, wait_for};
use nbd_server::Limits;
use std::time::Duration;

const POLICY: u32 = (1 << 31) + 2;

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
