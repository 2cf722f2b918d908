//! Limits of speed as an operator sets them, over both doors.

use crate::cli_program::Place;
use crate::nbd_client::{Client, Command};
use crate::vhost_client::{Ask, Driver};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// At 50 requests a second, with a burst of 100 ms: at once five and the next one, and the others in 20 ms each.
const REQUESTS: u32 = 31;
const LEAST: Duration = Duration::from_millis(500);

#[expect(clippy::disallowed_methods, reason = "how fast the daemon may be is a matter of real time")]
fn timed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}

fn read(client: &mut Client) {
    let read = client.call(&Command::Read { offset: 0, length: 4096 });
    assert_eq!(read.expect("served").expect("read").len(), 4096);
}

#[test]
fn exports_are_as_fast_as_the_operator_lets_them_be() {
    let place = Place::in_memory().with_pool();
    for volume in ["slow", "free", "machine"] {
        place.ok(&["volume", "create", volume, "--size", "16M"]);
    }
    let daemon = place.serve(&["--limit", "slow=iops:50,bps:1G", "--limit", "another=bps:1M"]);
    let open = |export| Client::open(&place.path("nbd.sock"), export).expect("served");
    let (mut slow, mut free) = (open("slow"), open("free"));
    let time = timed(|| (0..REQUESTS).for_each(|_| read(&mut slow)));
    assert!(time >= LEAST, "{time:?}");
    // What has no limit has begun long before, were it as slow.
    let time = timed(|| (0..50 * REQUESTS).for_each(|_| read(&mut free)));
    assert!(time < 10 * LEAST, "{time:?}");
    slow.close().and_then(|()| free.close()).expect("served");

    let socket = place.ok(&["export", "start", "machine", "--iops", "1000", "--bandwidth", "204800B"]);
    let mut driver = Driver::connect(Path::new(socket.trim_end()), 1, 4096).expect("the daemon listens");
    let read = Ask::Read { offset: 0, length: 4096 };
    let time = timed(|| (0..REQUESTS).for_each(|_| assert_eq!(driver.run(read).expect("an answer"), 0)));
    assert!(time >= LEAST, "{time:?}");
    let listed = place.json(&["export", "ls"]);
    let export = &listed["items"][0];
    assert_eq!((&export["iops"], &export["bytes_per_second"]), (&1000.into(), &204_800.into()));
    drop(driver);
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn limits_change_while_a_machine_is_at_work() {
    let place = Place::in_memory().with_pool();
    place.ok(&["volume", "create", "desk-{1..2}", "--size", "16M"]);
    let daemon = place.serve(&[]);
    let sockets = place.ok(&["export", "start", "desk-*", "--bandwidth", "1G"]);
    let socket = sockets.lines().next().expect("a socket");
    let mut driver = Driver::connect(Path::new(socket), 1, 4096).expect("the daemon listens");
    let read = Ask::Read { offset: 0, length: 4096 };
    let mut rounds = || timed(|| (0..REQUESTS).for_each(|_| assert_eq!(driver.run(read).expect("read"), 0)));
    rounds();
    place.ok(&["export", "set", "desk-*", "--iops", "50"]);
    let time = rounds();
    assert!(time >= LEAST, "{time:?}");
    let limits = |place: &Place| {
        let listed = place.json(&["export", "ls", "desk-1"]);
        (listed["items"][0]["iops"].clone(), listed["items"][0]["bytes_per_second"].clone())
    };
    assert_eq!(limits(&place), (50.into(), (1_u64 << 30).into()), "what was not given stays");
    place.ok(&["export", "set", "desk-1", "--iops", "5", "--dry-run"]);
    assert_eq!(limits(&place).0, 50);
    place.ok(&["export", "set", "desk-1", "--iops", "none", "--bandwidth", "2G"]);
    // As slow as before it would take fifty times as long.
    let time = (0..10).map(|_| rounds()).min().expect("some");
    assert!(time < LEAST, "{time:?}");
    drop(driver);
    assert_eq!(daemon.stop().code, Some(0));
    let daemon = place.serve(&[]);
    assert_eq!(limits(&place), (Value::Null, (2_u64 << 30).into()), "it comes back as it was");
    place.ok(&["export", "stop", "desk-1"]);
    for dry in [None, Some("--dry-run")] {
        let words = ["export", "set", "desk-1", "--iops", "5"];
        place.run(&[words.as_slice(), dry.as_slice()].concat()).fails(3, "desk-1 is not exported");
    }
    place.run(&["export", "set", "desk-2"]).fails(2, "--iops");
    place.run(&["export", "set", "desk-2", "--iops", "0"]).fails(2, "nothing would ever be done");
    assert_eq!(daemon.stop().code, Some(0));
    place.run(&["export", "set", "desk-2", "--iops", "5"]).fails(7, "only a daemon exports");
}

#[test]
fn what_is_no_limit_is_refused() {
    let place = Place::new().with_pool();
    place.run(&["serve", "--limit", "slow=iops:0"]).fails(2, "nothing would ever be done");
    place.run(&["serve", "--limit", "slow"]).fails(2, "lacks the '='");
    place.run(&["export", "start", "v", "--bandwidth", "fast"]).fails(2, "a size is a number");
}
