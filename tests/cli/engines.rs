//! `--io`: the way to the pool's bytes, as the kernel sees it.

use crate::cli_program::{Daemon, Place};
use std::fs;

/// Rings a daemon has open, and whether it maps the pool's file.
fn seen(daemon: &Daemon) -> (usize, bool) {
    let process = format!("/proc/{}", daemon.process_id());
    let descriptors = fs::read_dir(format!("{process}/fd")).expect("our own process");
    let target = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
    let rings = descriptors.filter_map(target).filter(|path| path.ends_with("anon_inode:[io_uring]")).count();
    let maps = fs::read_to_string(format!("{process}/maps")).expect("our own process");
    (rings, maps.lines().any(|line| line.ends_with("/p.pool")))
}

/// What is seen of a daemon that is started with these arguments; then data is written and read through it.
fn serve_and_see(place: &Place, arguments: &[&str]) -> (usize, bool) {
    let daemon = place.serve(arguments);
    place.ok(&["image", "import", "img@v1", "disk.raw"]);
    place.ok(&["rm", "--yes", "img@v1"]);
    let seen = seen(&daemon);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    place.ok(&["pool", "check"]);
    seen
}

#[test]
fn each_engine_is_the_one_that_was_asked_for() {
    let place = Place::on_disk().with_pool();
    place.disk("disk.raw", 8, 7, &[0, 5, 2047]);
    let (inline, mapped) = serve_and_see(&place, &["--io", "inline"]);
    assert!(!mapped);
    let (uring, mapped) = serve_and_see(&place, &["--io", "uring"]);
    assert!(!mapped);
    // The door has rings of its own.
    assert!(uring > inline, "{uring} rings with io_uring, {inline} without");
}

#[test]
fn a_pool_in_memory_may_be_mapped_and_takes_no_ring_by_itself() {
    let place = Place::in_memory().with_pool();
    place.disk("disk.raw", 8, 7, &[0, 5, 2047]);
    let (mapped, is_mapped) = serve_and_see(&place, &["--io", "mapped"]);
    assert!(is_mapped);
    let (auto, is_mapped) = serve_and_see(&place, &[]);
    assert!(!is_mapped);
    assert_eq!(auto, mapped, "rings besides the door's");
}

#[test]
fn an_engine_that_cannot_be_is_a_clear_error() {
    let place = Place::on_disk().with_pool();
    place.run(&["pool", "check", "--io", "mapped"]).fails(2, "is not in memory");
    place.run(&["serve", "--io", "mapped"]).fails(2, "is not in memory");
    place.run(&["pool", "create", "q.pool", "--size", "64M", "--io", "mapped"]).fails(2, "is not in memory");
    assert!(!place.path("q.pool").exists());
    let ended = place.command(&["pool", "check"]).env("OFFSHOOT_IO", "fast").output().expect("it starts");
    assert_eq!(ended.status.code(), Some(2));
    place.ok(&["pool", "check", "--io", "uring"]);
}
