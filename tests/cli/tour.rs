//! The commands on a good day: with a daemon and without one, and the same either way.

use crate::cli_program::Place;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

fn items(place: &Place) -> Vec<(String, u64, u64)> {
    let listing = place.json(&["ls"]);
    let items = listing["items"].as_array().expect("a list").iter();
    items
        .map(|item| {
            let number = |key: &str| item[key].as_u64().expect("bytes as integers");
            (item["name"].as_str().expect("a name").to_owned(), number("size"), number("owned"))
        })
        .collect()
}

fn mapped(place: &Place) -> u64 {
    place.ok(&["pool", "settle"]);
    place.json(&["df"])["mapped"].as_u64().expect("bytes as integers")
}

/// A day's work; returns what it printed as data.
fn tour(place: &Place) -> Vec<Value> {
    let mut seen = Vec::new();
    place.disk("v1.raw", 16, 7, &[0, 1, 2, 100, 4095]);
    place.disk("v2.raw", 16, 7, &[0, 1, 2, 101]);
    let empty = mapped(place);
    let mut import = |version: &str, file: &str| {
        let view = place.json(&["image", "import", version, file]);
        assert_eq!(view["apiVersion"], "offshoot/v1");
        seen.push(view);
    };
    import("golden@v1", "v1.raw");
    assert_eq!(mapped(place) - empty, 5 * 4096, "zeros are stored nowhere");
    import("golden@v2", "v2.raw");
    assert_eq!(mapped(place) - empty, 6 * 4096, "a version stores what differs");
    place.ok(&["clone", "create", "golden@v1", "desk-{01..25}"]);
    assert_eq!(mapped(place) - empty, 6 * 4096, "a clone copies nothing");
    assert_eq!(items(place).len(), 27);
    place.ok(&["snap", "create", "desk-{01..03}@before"]);
    place.ok(&["snap", "rollback", "desk-02@before", "--yes"]);
    place.ok(&["volume", "create", "scratch", "--size", "8M"]);
    place.ok(&["volume", "resize", "scratch", "--size", "16M"]);
    place.ok(&["clone", "create", "desk-01@before", "late", "--size", "32M"]);
    seen.push(json!(items(place)));
    place.ok(&["rm", "--yes", "--recursive", "desk-{01..25}", "scratch"]);
    place.ok(&["rm", "--yes", "late"]);
    place.ok(&["image", "rm", "--yes", "golden@v1", "golden@v2"]);
    assert_eq!(items(place), []);
    assert_eq!(mapped(place), empty, "all space is back");
    let report = place.json(&["pool", "check"]);
    assert_eq!((&report["errors"], &report["leaked_blocks"]), (&json!([]), &json!(0)));
    seen
}

#[test]
fn a_command_does_the_same_with_a_daemon_and_without() {
    let alone = Place::new().with_pool();
    let served = Place::new().with_pool();
    let daemon = served.serve(&[]);
    assert!(daemon.ready.contains("nbd+unix:///?socket=/"), "{}", daemon.ready);
    assert_eq!(tour(&alone), tour(&served));
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    served.ok(&["pool", "check"]);
    let left: Vec<_> = fs::read_dir(served.run_directory()).expect("readable").collect();
    assert!(left.len() <= 1, "at most the tail: {left:?}");
}

#[test]
fn commands_find_the_pool_again_after_the_daemon_was_killed() {
    let place = Place::new().with_pool();
    let daemon = place.serve(&[]);
    place.ok(&["volume", "create", "v", "--size", "8M"]);
    place.ok(&["snap", "create", "v@one"]);
    daemon.kill();
    assert_eq!(items(&place).len(), 2);
    place.ok(&["pool", "check"]);
    let daemon = place.serve(&[]);
    assert_eq!(items(&place).len(), 2);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_pool_grows_while_it_is_served() {
    let place = Place::new().with_pool();
    let capacity = |place: &Place| place.json(&["df"])["capacity"].as_u64().expect("bytes");
    let before = capacity(&place);
    let daemon = place.serve(&[]);
    place.run(&["pool", "grow", "--size", "128M"]).fails(2, "does not shrink");
    place.ok(&["pool", "grow", "--size", "512M"]);
    let grown = capacity(&place);
    assert!(grown > before, "{grown} after {before}");
    assert_eq!(daemon.stop().code, Some(0));
    assert_eq!(capacity(&place), grown);
    place.ok(&["pool", "check"]);
}

/// Every command but `serve`: one document on request, and what it did in words otherwise.
#[test]
fn each_command_gives_one_document_on_request_and_no_data_otherwise() {
    let place = Place::new();
    place.disk("v1.raw", 16, 7, &[0, 1, 2]);
    let round = |verbs: &[&str]| {
        let arguments: Vec<&str> = verbs.iter().copied().chain(["-o", "json"]).collect();
        place.run(&arguments)
    };
    let day: [(&str, &str); 14] = [
        ("PoolCreated", "pool create p.pool --size 64M"),
        ("Import", "image import golden@v1 v1.raw"),
        ("Cloned", "clone create golden@v1 desk-{1..3}"),
        ("SnapshotsTaken", "snap create desk-{1..2}@s"),
        ("RolledBack", "snap rollback --yes desk-1@s"),
        ("VolumesCreated", "volume create a b --size 1M"),
        ("VolumeResized", "volume resize a --size 2M"),
        ("Removed", "rm --yes --recursive a b desk-1"),
        ("PoolGrown", "pool grow --size 128M"),
        ("PoolThinned", "pool thin"),
        ("PoolSettled", "pool settle"),
        ("PoolStatus", "pool status"),
        ("EntryList", "ls"),
        ("Space", "df"),
    ];
    for (kind, line) in day {
        let ended = round(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.err);
        let document: Value = serde_json::from_str(&ended.out).expect("one document and nothing else");
        assert_eq!(
            (&document["apiVersion"], &document["kind"]),
            (&json!("offshoot/v1"), &json!(kind)),
            "{line}"
        );
    }
    let ended = place.run(&["clone", "create", "golden@v1", "quiet"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""));
    assert!(ended.err.contains("1 clone of golden@v1"), "{}", ended.err);
    assert_eq!(round(&["clone", "create", "golden@v1", "quiet"]).out, "", "a failure is no data");
}

#[test]
fn thinning_gives_back_what_no_clone_uses_any_more() {
    let place = Place::new().with_pool();
    let blocks: Vec<u64> = (0..100).map(|block| block * 7).collect();
    for (version, byte) in [("v1", 1), ("v2", 2), ("v3", 3)] {
        place.disk("golden.raw", 8, byte, &blocks);
        let base: &[&str] = if byte == 1 { &["--no-base"] } else { &["--base", "golden@v1"] };
        place.ok(&[&["image", "import", &format!("golden@{version}"), "golden.raw"], base].concat());
    }
    place.ok(&["rm", "--yes", "golden@v1"]);
    place.ok(&["pool", "settle"]);
    let mapped = || place.json(&["df"])["mapped"].as_u64().expect("bytes");
    assert_eq!(mapped(), 300 * 4096, "what is removed keeps its blocks for two versions");
    let daemon = place.serve(&[]);
    place.ok(&["pool", "thin"]);
    assert_eq!(daemon.stop().code, Some(0));
    assert_eq!(mapped(), 200 * 4096);
    place.ok(&["pool", "thin"]);
    assert_eq!(mapped(), 200 * 4096);
    place.ok(&["pool", "check"]);
}

#[test]
fn a_thousand_clones_are_one_quick_command_and_take_next_to_nothing() {
    let place = Place::new().with_pool();
    place.disk("golden.raw", 2048, 7, &(0..20_000).map(|block| block * 13).collect::<Vec<_>>());
    place.ok(&["image", "import", "golden@v1", "golden.raw"]);
    let used = |place: &Place| {
        place.ok(&["pool", "settle"]);
        let figures = place.json(&["df"]);
        let bytes = |key: &str| figures[key].as_u64().expect("bytes as integers");
        bytes("mapped") + bytes("metadata_used")
    };
    let before = used(&place);
    let start = now();
    place.ok(&["clone", "create", "golden@v1", "desk-{0001..1000}"]);
    let took = start.elapsed();
    let taken = used(&place) - before;
    println!("1,000 clones in {took:?}, start and end of the program included; {taken} bytes");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(taken < 8 << 20, "{taken} bytes");
    assert_eq!(items(&place).len(), 1001);
    let daemon = place.serve(&[]);
    place.ok(&["rm", "--yes", "desk-{0001..1000}"]);
    assert_eq!(used(&place), before, "all of it is back");
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[expect(clippy::disallowed_methods, reason = "a claim about time is measured by the clock")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn overcommit_and_fill_raise_alerts_with_an_exit_code() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "{a,b,c,d}", "--size", "256M"]);
    let calm = place.run(&["pool", "status"]);
    assert!(!calm.out.contains("alert:"), "{}", calm.out);
    assert_eq!(calm.code, Some(0));
    let promised = place.run(&["pool", "status", "--overcommit-max", "2"]);
    assert!(promised.out.contains("alert: critical: overcommit is"), "{}", promised.out);
    assert_eq!(promised.code, Some(5));
    let full = place.run(&["pool", "status", "--critical", "0"]);
    assert!(full.out.contains("alert: critical: data space is 0 % used"), "{}", full.out);
    assert_eq!(full.code, Some(5));
}

#[test]
fn help_and_version_are_data() {
    let place = Place::new();
    assert!(place.ok(&["--version"]).starts_with("offshoot "));
    assert!(place.ok(&["--help"]).contains("Exit codes: 0 ok"));
    for verb in ["pool", "image", "volume", "clone", "snap", "export", "rm", "ls", "df", "serve"] {
        place.ok(&[verb, "--help"]);
    }
}
