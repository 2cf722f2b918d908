//! Limits of speed of an export: they are kept, by all who have the export open, and nobody else notices.

#[path = "../../rate-limit/tests/pace/mod.rs"]
mod pace;
mod served;

use pace::{BURST, MEASURED, SOON, alone, assert_near, limits};
use rate_limit::RateLimits;
use served::client::{Client, DISC, FLUSH, READ, WRITE, index, request};
use served::{MIB, ServedPool, now};
use std::thread;
use std::time::Duration;

/// Requests of one client under way.
const DEPTH: u64 = 4;
fn rate(client: &mut Client, kind: u16, length: u32) -> f64 {
    rate_in(MEASURED, client, kind, length)
}

/// Requests answered in a second, with [`DEPTH`] of them always under way.
fn rate_in(measured: Duration, client: &mut Client, kind: u16, length: u32) -> f64 {
    let payload = vec![7; if kind == WRITE { index(length) } else { 0 }];
    let expected = if kind == READ { index(length) } else { 0 };
    let mut asked = 0;
    let mut ask = |client: &mut Client| {
        let offset = u64::from(length) * asked % (8 * MIB);
        client.ask(kind, 0, offset, length, &payload);
        asked += 1;
    };
    (0..DEPTH).for_each(|_| ask(client));
    let mut answer = |client: &mut Client, time: Duration| {
        let (begun, mut count) = (now(), 0_u32);
        while begun.elapsed() < time {
            assert_eq!(client.reply(expected).errno, 0);
            ask(client);
            count += 1;
        }
        f64::from(count) / begun.elapsed().as_secs_f64()
    };
    answer(client, 4 * BURST);
    let rate = answer(client, measured);
    (0..DEPTH).for_each(|_| assert_eq!(client.reply(expected).errno, 0));
    rate
}

#[test]
fn requests_and_bytes_come_as_fast_as_they_may() {
    let _turn = alone();
    // The last ones are longer than a burst.
    let cases = [
        ("reads", limits(400, 0), READ, 4096, 400.0),
        ("writes", limits(400, 0), WRITE, 4096, 400.0),
        ("read-bytes", limits(0, 16 * MIB), READ, 64 << 10, 256.0),
        ("written-bytes", limits(5000, 16 * MIB), WRITE, 64 << 10, 256.0),
        ("long-reads", limits(0, 32 * MIB), READ, 2 << 20, 16.0),
        ("long-writes", limits(1000, 32 * MIB), WRITE, 2 << 20, 16.0),
    ];
    let volumes = cases.map(|(name, ..)| (name, 16 * MIB));
    let served = ServedPool::start(&volumes);
    thread::scope(|scope| {
        for (name, limits, kind, length, expected) in cases {
            served.server.set_rate_limits(name, limits);
            assert_eq!(served.server.rate_limits(name), limits);
            let mut client = served.open_simple(name);
            scope.spawn(move || {
                println!("{name}");
                assert_near(expected, || rate(&mut client, kind, length));
                client.disconnect();
            });
        }
    });
    served.end();
}

#[test]
fn connections_of_an_export_share_its_limits_evenly() {
    let _turn = alone();
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    served.server.set_rate_limits("desk", limits(400, 0));
    let mut clients: Vec<_> = (0..4).map(|_| served.open_simple("desk")).collect();
    assert_near(400.0, || {
        let rates: Vec<f64> = thread::scope(|scope| {
            let measure = |client| scope.spawn(|| rate(client, READ, 4096));
            let running: Vec<_> = clients.iter_mut().map(measure).collect();
            running.into_iter().map(|running| running.join().expect("it measures")).collect()
        });
        let all: f64 = rates.iter().sum();
        assert!(rates.iter().all(|rate| *rate > all / 5.0), "{rates:?}");
        all
    });
    clients.into_iter().for_each(Client::disconnect);
    served.end();
}

#[test]
fn a_neighbour_is_not_held_up() {
    let _turn = alone();
    let served = ServedPool::start(&[("desk", 16 * MIB), ("neighbour", 16 * MIB)]);
    let mut neighbour = served.open_simple("neighbour");
    // As many as there are workers, twice: some of them wait on the neighbour's.
    let mut waiting: Vec<_> = (0..4).map(|_| served.open_simple("desk")).collect();
    let (mut alone, mut beside) = (0.0_f64, 0.0_f64);
    // In turn, and the best of each: the machine has other things to do as well.
    for _ in 0..4 {
        alone = alone.max(rate_in(MEASURED / 4, &mut neighbour, READ, 4096));
        served.server.set_rate_limits("desk", limits(1, 0));
        for _ in 0..4 {
            waiting.iter_mut().for_each(|client| client.send(&request(READ, 0, 1, 0, 4096)));
        }
        beside = beside.max(rate_in(MEASURED / 4, &mut neighbour, READ, 4096));
        served.server.set_rate_limits("desk", RateLimits::NONE);
        for _ in 0..4 {
            waiting.iter_mut().for_each(|client| assert_eq!(client.reply(4096).errno, 0));
        }
    }
    assert!(beside > alone * 0.6, "{beside:.0} a second, and {alone:.0} alone");
    neighbour.disconnect();
    waiting.into_iter().for_each(Client::disconnect);
    served.end();
}

/// A client whose export owes for hours.
fn in_debt(served: &ServedPool) -> Client {
    served.server.set_rate_limits("desk", limits(0, 1024));
    let mut client = served.open_simple("desk");
    client.write(0, 0, &vec![5; 8 << 20]).expect("the first one begins at once");
    client
}

#[test]
fn flushes_do_not_wait_for_bytes_and_goodbyes_for_nothing() {
    let _turn = alone();
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    let begun = now();
    let mut client = in_debt(&served);
    client.flush().expect("it has no bytes");
    client.trim(0, 4096).expect("nor has this");
    client.disconnect();
    served.wait_until_alone();
    assert!(begun.elapsed() < SOON);
    served.end();
}

#[test]
fn what_waits_in_front_of_a_flush_and_a_goodbye_is_done_in_its_turn() {
    let _turn = alone();
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    served.server.set_rate_limits("desk", limits(10, 0));
    let mut client = served.open_simple("desk");
    let begun = now();
    for _ in 0..10 {
        client.ask(WRITE, 0, 0, 512, &[1; 512]);
    }
    let flush = client.ask(FLUSH, 0, 0, 0, b"");
    client.ask(DISC, 0, 0, 0, b"");
    let cookies: Vec<u64> = (0..11).map(|_| client.reply(0).cookie).collect();
    assert_eq!((cookies.last(), client.read_to_end()), (Some(&flush), 0));
    let elapsed = begun.elapsed();
    assert!(elapsed > Duration::from_millis(900) && elapsed < SOON, "{elapsed:?}");
    served.end();
}

#[test]
fn a_change_counts_for_those_who_wait() {
    let _turn = alone();
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    let begun = now();
    for lifted in [RateLimits::NONE, limits(1000, 0), limits(0, 1 << 40)] {
        let mut client = in_debt(&served);
        let mut other = served.open_simple("desk");
        client.ask(WRITE, 0, 0, 4096, &[1; 4096]);
        other.ask(READ, 0, 0, 4096, b"");
        served.server.set_rate_limits("desk", limits(0, 2048));
        // The buckets are full again: the first of the two begins, and the other owes hours.
        other.ask(READ, 0, 0, 8 << 20, b"");
        served.server.set_rate_limits("desk", lifted);
        assert_eq!(client.reply(0).errno, 0);
        assert_eq!((other.reply(4096).errno, other.reply(8 << 20).errno), (0, 0));
        client.disconnect();
        other.disconnect();
    }
    assert!(begun.elapsed() < 3 * SOON);
    served.end();
}

/// Leaves a write waiting for its turn, which is hours away. Gives back its cookie.
fn wait_for_hours(client: &mut Client) -> u64 {
    // They come together: when the flush is answered, the write has been looked at.
    let write = [&request(WRITE, 0, 99, 0, 512)[..], &[1; 512]].concat();
    client.send(&[request(FLUSH, 0, 98, 0, 0), write].concat());
    assert_eq!(client.reply(0).cookie, 98);
    99
}

#[test]
fn a_shutdown_does_not_wait_for_turns() {
    let _turn = alone();
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    let mut client = in_debt(&served);
    let cookie = wait_for_hours(&mut client);
    let begun = now();
    let served = served.restart_server();
    assert!(begun.elapsed() < SOON);
    let reply = client.reply(0);
    assert_eq!((reply.cookie, reply.errno, client.read_to_end()), (cookie, 0, 0), "answered before the end");
    let mut reader = served.open_simple("desk");
    assert_eq!(reader.read(0, 512), Ok(vec![1; 512]));
    reader.disconnect();
    served.wait_until_alone();
    served.end();
}

#[test]
fn a_client_that_is_gone_is_not_served_in_its_turn() {
    let _turn = alone();
    let served = ServedPool::start(&[("desk", 16 * MIB)]);
    let begun = now();
    let mut client = in_debt(&served);
    wait_for_hours(&mut client);
    drop(client);
    let mut client = Client::connect_tcp(served.tcp());
    client.go("desk").expect("an export that opens");
    wait_for_hours(&mut client);
    drop(client);
    served.wait_until_alone();
    assert!(begun.elapsed() < SOON);
    served.end();
}
