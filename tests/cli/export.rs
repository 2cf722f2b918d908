//! Exports over vhost-user-blk, as an operator asks for them and a virtual machine's driver uses them.

use crate::cli_program::{Daemon, Place};
use crate::vhost_client::{Ask, Driver};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use vhost::VhostBackend;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};

const BLOCK: usize = 4096;

fn place() -> (Place, Daemon) {
    let place = Place::in_memory().with_pool();
    place.disk("disk.raw", 8, 7, &[0, 5, 2047]);
    let daemon = place.serve(&[]);
    place.ok(&["image", "import", "img@v1", "disk.raw"]);
    place.ok(&["clone", "create", "img@v1", "desk-{1..2}"]);
    (place, daemon)
}

fn export(place: &Place, arguments: &[&str]) -> PathBuf {
    let line = place.ok(&[&["export", "start"], arguments].concat());
    PathBuf::from(line.trim_end())
}

fn connect(socket: &std::path::Path) -> Driver {
    Driver::connect(socket, 4, BLOCK).expect("the daemon listens")
}

fn read(driver: &mut Driver, offset: u64) -> Vec<u8> {
    assert_eq!(driver.run(Ask::Read { offset, length: BLOCK }).expect("an answer"), 0);
    driver.bytes(0, BLOCK)
}

fn write(driver: &mut Driver, offset: u64, byte: u8) -> i32 {
    driver.fill(0, &[byte; BLOCK]);
    driver.run(Ask::Write { offset, length: BLOCK }).expect("an answer")
}

#[test]
fn a_clone_is_exported_used_listed_and_given_back() {
    let (place, daemon) = place();
    let socket = export(&place, &["desk-1"]);
    assert_eq!(socket.metadata().expect("there").permissions().mode() & 0o777, 0o600);
    let mut driver = connect(&socket);
    assert_eq!(driver.capacity(), 8 << 20);
    assert_eq!(read(&mut driver, 5 * 4096), [7; BLOCK]);
    assert_eq!(write(&mut driver, 5 * 4096, 9), 0);
    let listed = place.json(&["export", "ls"]);
    assert_eq!(listed["items"][0]["name"], "desk-1");
    assert_eq!(listed["items"][0]["connected"], true);
    place.run(&["rm", "--yes", "desk-1"]).fails(4, "in use");
    assert_eq!(export(&place, &["desk-1"]), socket, "what was asked for is so already");
    place.run(&["export", "start", "desk-1", "--read-only"]).fails(4, "exported already");
    drop(driver);
    place.ok(&["export", "stop", "desk-1"]);
    assert!(!socket.exists());
    place.run(&["export", "stop", "desk-1"]).fails(3, "not exported");
    let mut image = connect(&export(&place, &["img@v1"]));
    assert_eq!(read(&mut image, 5 * 4096), [7; BLOCK], "the image is as it was");
    assert_ne!(write(&mut image, 0, 1), 0, "an image version never changes");
    drop(image);
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

/// Bytes of the disk, as a monitor reads them.
fn capacity(frontend: &mut Frontend) -> u64 {
    let (_, bytes) =
        frontend.get_config(0, 8, VhostUserConfigFlags::empty(), &[0; 8]).expect("a configuration");
    u64::from_le_bytes(bytes.try_into().expect("eight bytes")) * 512
}

#[test]
fn a_virtual_machine_hears_of_the_new_size_of_its_disk() {
    let (place, daemon) = place();
    place.ok(&["volume", "create", "data", "--size", "8M"]);
    let mut frontend = Frontend::connect(export(&place, &["data"]), 1).expect("connected");
    frontend.set_owner().expect("owner");
    let features = frontend.get_features().expect("features");
    frontend.set_features(features).expect("what was offered");
    let protocol = frontend.get_protocol_features().expect("protocol features");
    assert!(protocol.contains(VhostUserProtocolFeatures::BACKEND_REQ));
    frontend.set_protocol_features(protocol).expect("what was offered");
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    // Nobody listens yet, and that is fine.
    place.ok(&["volume", "resize", "data", "--size", "12M"]);
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    ours.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    frontend.set_backend_request_fd(&theirs).expect("taken");
    drop(theirs);
    assert_eq!(capacity(&mut frontend), 12 << 20);
    place.ok(&["volume", "resize", "data", "--size", "16M"]);
    let mut message = [0; 12];
    ours.read_exact(&mut message).expect("it is told");
    let config_change_of_version_one = [2_u32, 1, 0].map(u32::to_ne_bytes).concat();
    assert_eq!(message[..], config_change_of_version_one);
    assert_eq!(capacity(&mut frontend), 16 << 20);
    // A monitor that hears nothing any more, and one that has gone, hold nobody up.
    drop(ours);
    place.ok(&["volume", "resize", "data", "--size", "20M"]);
    drop(frontend);
    place.ok(&["volume", "resize", "data", "--size", "24M"]);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn exports_say_what_a_virtual_machine_has_done() {
    let (place, daemon) = place();
    let socket = export(&place, &["desk-1"]);
    let fresh = place.json(&["export", "ls"]);
    assert_eq!(fresh["items"][0]["io"]["reads"]["latency_seconds"]["p99"], Value::Null);
    let mut driver = connect(&socket);
    for block in 0..7 {
        assert_eq!(write(&mut driver, block * 4096, 9), 0);
    }
    for block in 0..5 {
        assert_eq!(read(&mut driver, block * 4096), [9; BLOCK]);
    }
    for ask in [Ask::Flush, Ask::Discard { offset: 0, length: 8192 }] {
        assert_eq!(driver.run(ask).expect("an answer"), 0);
    }
    assert_ne!(driver.run(Ask::Read { offset: 8 << 20, length: 512 }).expect("an answer"), 0);
    assert_ne!(write(&mut driver, 8 << 20, 1), 0);
    drop(driver);
    let listed = place.json(&["export", "ls"]);
    let io = &listed["items"][0]["io"];
    for (kind, requests, errors, bytes) in [
        ("reads", 6, 1, 5 * 4096),
        ("writes", 8, 1, 7 * 4096),
        ("flushes", 1, 0, 0),
        ("discards", 1, 0, 8192),
        ("write_zeroes", 0, 0, 0),
        ("others", 0, 0, 0),
    ] {
        let found = ["requests", "errors", "bytes"].map(|key| io[kind][key].as_u64());
        assert_eq!(found, [Some(requests), Some(errors), Some(bytes)], "{kind}");
    }
    for (kind, requests) in [("reads", 6), ("writes", 8), ("flushes", 1)] {
        let latency = &io[kind]["latency_seconds"];
        let figures = ["p50", "p90", "p99", "max", "sum"].map(|key| latency[key].as_f64().expect("a number"));
        assert!(figures.is_sorted() && figures[3] > 0.0, "{kind}: {figures:?}");
        assert_eq!(latency["count"], requests, "{kind}");
        let buckets = latency["buckets"].as_array().expect("a list");
        let rises = |key: &str| buckets.is_sorted_by_key(|bucket| bucket[key].as_f64().expect("a number"));
        assert!(rises("le") && rises("count") && (20..30).contains(&buckets.len()), "{kind}");
    }
    let text = place.ok(&["export", "ls"]);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0].join(" "), "NAME ACCESS CONNECTED READS WRITES ERRORS READ P99 WRITE P99 SOCKET");
    let [name, access, _, reads, writes, errors, .., shown] = lines[1].as_slice() else { panic!("{text}") };
    assert_eq!([*name, *access, *reads, *writes, *errors], ["desk-1", "read-write", "6", "8", "2"]);
    assert_eq!(PathBuf::from(shown), socket);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn modes_and_places_are_the_operators_choice() {
    let (place, daemon) = place();
    let path = place.path("guest.sock");
    let text = path.to_str().expect("text");
    let socket = export(&place, &["desk-1", "--socket", text, "--socket-mode", "660", "--read-only"]);
    assert_eq!(socket, path);
    assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o660);
    assert_ne!(write(&mut connect(&path), 0, 1), 0, "read-only");
    place.run(&["export", "start", "desk-2", "--socket", text]).fails(4, "another server answers");
    place.run(&["export", "start", "desk-2", "--queues", "0"]).fails(2, "1 to 16 queues");
    place.run(&["export", "start", "nobody"]).fails(3, "nobody");
    place.run(&["export", "start"]).fails(2, "");
    assert_eq!(daemon.stop().code, Some(0));
    assert!(!path.exists(), "sockets go with the daemon");
}

/// A daemon that is root gives its sockets away, also when it comes back after a kill; any other says that it cannot.
#[test]
fn a_socket_may_belong_to_the_user_of_the_virtual_machine() {
    let (place, daemon) = place();
    let path = place.path("guest.sock");
    let text = path.to_str().expect("text");
    let order = |owner| {
        ["export", "start", "desk-1", "--socket", text, "--socket-mode", "660", "--socket-owner", owner]
    };
    place.run(&order("no-such-user:0")).fails(2, "there is no user no-such-user");
    place.run(&order("0:no-such-group")).fails(2, "there is no group no-such-group");
    place.run(&["export", "start", "desk-1", "--socket-owner", "0"]).fails(2, "--socket");
    let planned = [&order("no-such-user")[..], &["--dry-run"]].concat();
    place.run(&planned).fails(2, "there is no user no-such-user");
    if !rustix::process::geteuid().is_root() {
        place.run(&order("54321:54322")).fails(1, "cannot be given to another owner");
        return assert!(!path.exists());
    }
    place.ok(&order("54321:54322"));
    let owner = || {
        let found = path.metadata().expect("there");
        (found.uid(), found.gid(), MetadataExt::mode(&found) & 0o777)
    };
    assert_eq!(owner(), (54_321, 54_322, 0o660));
    assert_eq!(read(&mut connect(&path), 5 * 4096), [7; BLOCK]);
    daemon.kill();
    let daemon = place.serve(&[]);
    assert_eq!(owner(), (54_321, 54_322, 0o660));
    assert_eq!(read(&mut connect(&path), 5 * 4096), [7; BLOCK]);
    assert_eq!(daemon.stop().code, Some(0));
    assert!(!path.exists(), "sockets go with the daemon");
}

#[test]
fn without_a_daemon_nothing_is_exported() {
    let place = Place::in_memory().with_pool();
    place.ok(&["volume", "create", "disk", "--size", "4M"]);
    place.run(&["export", "start", "disk"]).fails(7, "only a daemon exports");
    assert_eq!(place.json(&["export", "ls"])["items"].as_array().map(Vec::len), Some(0));
}

#[test]
fn acknowledged_writes_survive_a_kill_of_the_daemon() {
    let (place, daemon) = place();
    let mut driver = connect(&export(&place, &["desk-1"]));
    for block in 0..64 {
        assert_eq!(write(&mut driver, block * 4096, u8::try_from(block + 1).expect("small")), 0);
    }
    daemon.kill();
    drop(driver);
    let daemon = place.serve(&[]);
    let mut driver = connect(&export(&place, &["desk-1"]));
    for block in 0..64 {
        assert_eq!(read(&mut driver, block * 4096), [u8::try_from(block + 1).expect("small"); BLOCK]);
    }
    drop(driver);
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

/// Nanoseconds of CPU that the daemon's threads for virtual machines have used.
fn cpu_of_doors(daemon: &Daemon) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.process_id())).expect("our own process");
    let used = |task: std::io::Result<fs::DirEntry>| {
        let task = task.expect("a thread").path();
        let name = fs::read_to_string(task.join("comm")).ok()?;
        let used = fs::read_to_string(task.join("schedstat")).ok()?;
        name.starts_with("vhost-").then(|| used.split(' ').next()?.parse::<u64>().ok()).flatten()
    };
    tasks.filter_map(used).sum()
}

#[test]
fn an_idle_export_uses_less_than_a_thousandth_of_a_core() {
    let (place, daemon) = place();
    let mut driver = connect(&export(&place, &["desk-1"]));
    assert_eq!(write(&mut driver, 0, 1), 0);
    // Until the worker has stopped looking for more.
    driver.wait(100).expect("waited");
    let before = cpu_of_doors(&daemon);
    assert!(before > 0, "threads were found");
    driver.wait(3000).expect("waited");
    let used = cpu_of_doors(&daemon) - before;
    assert!(used < 3_000_000, "{used} ns of CPU in 3 s");
    drop(driver);
    assert_eq!(daemon.stop().code, Some(0));
}

/// Nanoseconds of CPU that the doors take for 50 writes with pauses of 5 ms.
fn cpu_of_lonely_writes(written: &str, options: &[&str]) -> u64 {
    let place = Place::in_memory().with_pool();
    place.ok(&["volume", "create", "v", "--size", "1M"]);
    let config = place.path("offshoot.toml");
    fs::write(&config, format!("[[pool]]\npath = {:?}\n{written}", place.pool())).expect("written");
    let config = config.to_str().expect("text");
    let daemon = place.serve(&[&["--config", config], options].concat());
    let mut driver = connect(&export(&place, &["v"]));
    assert_eq!(write(&mut driver, 0, 1), 0);
    let before = cpu_of_doors(&daemon);
    for byte in 0..50 {
        assert_eq!(write(&mut driver, 0, byte), 0);
        driver.wait(5).expect("waited");
    }
    let used = cpu_of_doors(&daemon) - before;
    drop(driver);
    assert_eq!(daemon.stop().code, Some(0));
    used
}

#[test]
fn a_worker_looks_for_work_as_long_as_it_is_told_and_then_sleeps() {
    let usual = cpu_of_lonely_writes("", &[]);
    let awake = cpu_of_lonely_writes("spin = \"10ms\"\n", &[]);
    // What is typed goes before what is written.
    let asleep = cpu_of_lonely_writes("spin = \"10ms\"\n", &["--spin", "0"]);
    assert!(awake > 4 * asleep && awake > 3 * usual, "{asleep}, {usual} and {awake} ns");
    let place = Place::in_memory().with_pool();
    place.run(&["serve", "--spin", "1s"]).fails(2, "such as 400us");
}

#[test]
fn an_export_is_offered_at_the_addresses_that_are_told() {
    let place = Place::in_memory().with_pool();
    place.ok(&["volume", "create", "v", "--size", "1M"]);
    let usual = place.ok(&["export", "show", "v", "--for", "nbd"]);
    assert!(usual.contains(place.run_directory().to_str().expect("text")), "{usual}");
    let daemon = place.serve(&["--tcp", "127.0.0.1:0"]);
    place.ok(&["export", "start", "v"]);
    let socket = place.path("nbd.sock");
    let socket = socket.to_str().expect("text");
    let listed = place.json(&["export", "ls"])["items"][0]["nbd"].clone();
    assert_eq!(listed[0], format!("nbd+unix:///v?socket={socket}"));
    let tcp = listed[1].as_str().and_then(|uri| uri.strip_prefix("nbd://")?.strip_suffix("/v"));
    let address = tcp.expect("an address").to_owned();
    drop(std::net::TcpStream::connect(address).expect("the daemon listens there"));
    let told = place.ok(&["export", "show", "v", "--for", "nbd"]);
    assert!(told.contains(&format!("socket='{socket}'")), "{told}");
    assert_eq!(daemon.stop().code, Some(0));
}
