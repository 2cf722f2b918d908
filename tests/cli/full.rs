//! What a full pool does to writes, as its operator has said, over both doors.

use crate::cli_program::{Daemon, Place};
use crate::nbd_client::{Client, Command};
use crate::vhost_client::{Ask, Driver};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const NO_SPACE: u32 = 28;
const PIECE: u32 = 256 << 10;

#[expect(clippy::disallowed_methods, reason = "how long a write waits is a matter of real time")]
fn now() -> Instant {
    Instant::now()
}

/// Until something is so, for a minute at most.
#[expect(clippy::disallowed_methods, reason = "a daemon is asked again after a while")]
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} never came");
        thread::sleep(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "what a daemon does by itself takes its time")]
fn rest(time: Duration) {
    thread::sleep(time);
}

/// Hundredths of a second.
fn processor_time(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.process_id())).expect("ours");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    fields.split(' ').skip(11).take(2).map(|time| time.parse::<u64>().expect("a number")).sum()
}

fn write(offset: u64, length: u32) -> Command {
    Command::Write { offset, flags: 0, data: vec![7; usize::try_from(length).expect("short")] }
}

/// Writes from there on until there is no space, and returns where.
fn fill(client: &mut Client, mut at: u64) -> u64 {
    for length in [PIECE, 4096] {
        while let Ok(_written) = client.call(&write(at, length)).expect("served").inspect_err(|errno| {
            assert_eq!(*errno, NO_SPACE);
        }) {
            at += u64::from(length);
        }
    }
    at
}

/// A full pool that is served, with the exports `desk`, which is full of its data, `spare` and `machine`.
fn full(on_full: &str) -> (Place, Daemon, u64) {
    let place = Place::in_memory();
    place.ok(&["pool", "create", "p.pool", "--size", "256M"]);
    place.ok(&["volume", "create", "desk", "--size", "1G"]);
    place.ok(&["volume", "create", "spare", "machine", "--size", "16M"]);
    let daemon = place.serve(&[]);
    crate::nbd_client::write_block(&place.path("nbd.sock"), "spare", 0, 1);
    let mut client = Client::open(&place.path("nbd.sock"), "desk").expect("served");
    let mut end = fill(&mut client, 0);
    // What metadata no longer needs becomes free.
    loop {
        place.ok(&["pool", "settle"]);
        let further = fill(&mut client, end);
        if further == end {
            break;
        }
        end = further;
    }
    client.close().expect("served");
    let told = place.run(&["pool", "set", "--on-full", on_full]);
    assert!(told.err.contains("a write that finds the pool full waits"), "{}", told.err);
    (place, daemon, end)
}

fn status(place: &Place) -> Value {
    let ended = place.run(&["pool", "status", "-o", "json"]);
    serde_json::from_str(&ended.out).expect("one JSON document")
}

fn wait_for_writes(place: &Place, count: u64) {
    wait_for("a write that waits", || status(place)["waiting_writes"] == count);
}

#[test]
fn a_write_into_a_full_pool_waits_for_space_and_is_done_when_there_is_some() {
    let (place, daemon, end) = full("hold=1h");
    let mut client = Client::open(&place.path("nbd.sock"), "desk").expect("served");
    client.send(&write(end, 4096)).expect("served");
    wait_for_writes(&place, 1);
    let found = status(&place);
    assert_eq!((&found["on_full"], &found["state"]), (&"hold=3600s".into(), &"critical".into()));
    let alerts = found["alerts"].to_string();
    assert!(alerts.contains("writes that wait for space: 1"), "{alerts}");
    // What needs no space is done meanwhile.
    let read = client.send(&Command::Read { offset: 0, length: 4096 }).expect("served");
    let (cookie, answer) = client.receive().expect("served");
    assert_eq!((cookie, answer.expect("readable")), (read, vec![7; 4096]));
    place.ok(&["rm", "spare", "--yes"]);
    let (_, answer) = client.receive().expect("served");
    assert_eq!(answer, Ok(Vec::new()));
    client.close().expect("served");
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn a_write_that_has_waited_long_enough_fails_and_the_pool_remembers_how_long() {
    let (place, daemon, end) = full("hold=3s");
    assert_eq!(daemon.stop().code, Some(0));
    let daemon = place.serve(&[]);
    let mut client = Client::open(&place.path("nbd.sock"), "desk").expect("served");
    let begun = now();
    assert_eq!(client.call(&write(end, 4096)).expect("served"), Err(NO_SPACE));
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    place.ok(&["pool", "set", "--on-full", "error"]);
    let begun = now();
    assert_eq!(client.call(&write(end, 4096)).expect("served"), Err(NO_SPACE));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    client.close().expect("served");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn nobody_waits_for_the_write_of_a_client_that_is_gone() {
    let (place, daemon, end) = full("hold=1h");
    let mut one = Client::open(&place.path("nbd.sock"), "desk").expect("served");
    one.send(&write(end, 4096)).expect("served");
    // As many as a client may have under way and a few more, which a socket holds: the server does not read them.
    let mut many = Client::open(&place.path("nbd.sock"), "desk").expect("served");
    for number in 1..=136_u64 {
        many.send(&write(end + number * 4096, 4096)).expect("served");
    }
    wait_for("writes that wait", || status(&place)["waiting_writes"].as_u64() > Some(100));
    drop((one, many));
    wait_for("the end of the waits", || status(&place)["waiting_writes"] == 0);
    wait_for("the volume to be free", || place.run(&["rm", "desk", "--yes"]).code == Some(0));
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn a_daemon_that_is_told_to_end_does_not_wait_for_space() {
    let (place, daemon, end) = full("hold=1h");
    let mut client = Client::open(&place.path("nbd.sock"), "desk").expect("served");
    client.send(&write(end, 4096)).expect("served");
    let socket = place.ok(&["export", "start", "machine"]);
    let mut driver = Driver::connect(Path::new(socket.trim_end()), 1, 4096).expect("the daemon listens");
    driver.fill(0, &[7; 4096]);
    driver.submit(0, Ask::Write { offset: 0, length: 4096 }).and_then(|()| driver.kick()).expect("asked");
    wait_for_writes(&place, 2);
    assert_eq!(daemon.stop().code, Some(0));
    // Who waits until the daemon hangs up is not answered.
    let (_, answer) = client.receive().expect("an answer before the end");
    assert!(answer.is_err());
    place.ok(&["pool", "check"]);
}

/// The next, within a minute.
fn answers(driver: &mut Driver) -> Vec<(usize, i32)> {
    let mut answers = Vec::new();
    for _ in 0..600 {
        driver.answers(&mut answers);
        if !answers.is_empty() {
            break;
        }
        driver.wait(100).expect("the daemon is there");
    }
    answers
}

#[test]
fn a_virtual_machine_waits_and_is_let_go_when_its_monitor_stops_it() {
    let (place, daemon, _) = full("hold=1h");
    let socket = place.ok(&["export", "start", "machine"]);
    let connect = || Driver::connect(Path::new(socket.trim_end()), 2, 4096).expect("the daemon listens");
    let mut driver = connect();
    let ask = Ask::Write { offset: 0, length: 4096 };
    driver.fill(0, &[7; 4096]);
    driver.submit(0, ask).and_then(|()| driver.kick()).expect("asked");
    wait_for_writes(&place, 1);
    // The monitor goes away, and another comes: nothing of the first is left.
    drop(driver);
    wait_for_writes(&place, 0);
    let mut driver = connect();
    driver.fill(0, &[7; 4096]);
    driver.submit(0, ask).and_then(|()| driver.kick()).expect("asked");
    wait_for_writes(&place, 1);
    // What needs no space is done meanwhile, on the same ring.
    for other in [Ask::Read { offset: 8192, length: 4096 }, Ask::Flush] {
        driver.submit(1, other).and_then(|()| driver.kick()).expect("asked");
        assert_eq!(answers(&mut driver), [(1, 0)]);
    }
    wait_for_writes(&place, 1);
    place.ok(&["rm", "spare", "--yes"]);
    assert_eq!(answers(&mut driver), [(0, 0)]);
    drop(driver);
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

/// As much as a worker has under way for all its rings, and more of them than there are workers.
#[test]
fn a_machine_that_waits_for_space_is_in_no_other_machines_way() {
    const WRITES: usize = 80;
    const LENGTH: usize = 1 << 20;
    let (place, daemon, _) = full("hold=1h");
    place.ok(&["volume", "create", "large-{1..4}", "--size", "128M"]);
    place.ok(&["volume", "create", "other-{1..4}", "--size", "16M"]);
    let connect = |name: &str, slots, bytes| {
        let socket = place.ok(&["export", "start", name]);
        Driver::connect(Path::new(socket.trim_end()), slots, bytes).expect("the daemon listens")
    };
    let names = |stem| (1..5).map(move |number| format!("{stem}-{number}"));
    let mut waiting: Vec<Driver> = names("large").map(|name| connect(&name, WRITES, LENGTH)).collect();
    for driver in &mut waiting {
        for (slot, offset) in (0..WRITES).zip((0..).step_by(LENGTH)) {
            driver.fill(slot, &[7; LENGTH]);
            driver.submit(slot, Ask::Write { offset, length: LENGTH }).expect("asked");
        }
        driver.kick().expect("asked");
    }
    wait_for("writes that wait", || status(&place)["waiting_writes"].as_u64() >= Some(4 * 15));
    // Nobody looks at the rings again and again meanwhile.
    let before = processor_time(&daemon);
    rest(Duration::from_secs(1));
    let spent = processor_time(&daemon) - before;
    assert!(spent < 50, "{spent} hundredths of a second of two workers' time");
    for name in names("other") {
        let mut driver = connect(&name, 1, 4096);
        assert_eq!(driver.run(Ask::Read { offset: 0, length: 4096 }).expect("an answer"), 0);
        assert_eq!(driver.run(Ask::Flush).expect("an answer"), 0);
    }
    drop(waiting);
    wait_for_writes(&place, 0);
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn what_makes_no_sense_for_a_full_pool_is_refused() {
    let place = Place::in_memory();
    for on_full in ["hold", "hold=60", "hold=0s", "wait"] {
        let create = ["pool", "create", "p.pool", "--size", "64M", "--on-full", on_full];
        place.run(&create).fails(2, "it is hold= with a time");
    }
    assert!(!place.pool().exists());
    place.ok(&["pool", "create", "p.pool", "--size", "64M", "--on-full", "hold=2m"]);
    assert_eq!(status(&place)["on_full"], "hold=120s");
    let plan = place.ok(&["pool", "set", "--on-full", "error", "--dry-run"]);
    assert!(plan.contains("fails at once"), "{plan}");
    assert_eq!(status(&place)["on_full"], "hold=120s");
}
