//! Images are imported bit for bit, whatever their kind.

use crate::cli_program::{Place, end, signal};
use crate::{cancel, disk, measured, path, tool};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};

const MIB: u64 = 1 << 20;

/// What a version holds is what qemu-img makes of the image.
#[track_caller]
pub(crate) fn assert_same(place: &Place, image: &str, format: &str, version: &str) {
    let reference = path(&place.path("reference.raw")).to_owned();
    tool("qemu-img", &["convert", "-f", format, "-O", "raw", image, &reference]);
    assert_same_raw(place, &reference, version);
}

#[track_caller]
pub(crate) fn assert_same_raw(place: &Place, raw: &str, version: &str) {
    let daemon = place.serve(&[]);
    let uri = format!("nbd+unix:///{version}?socket={}", place.path("nbd.sock").display());
    tool("qemu-img", &["compare", "-f", "raw", "-F", "raw", raw, &uri]);
    assert_eq!(daemon.stop().code, Some(0));
}

fn image(place: &Place, name: &str, format: &str, options: &[&str]) -> String {
    let raw = disk::mixed(place, "disk.raw", 24 * MIB + 512, 1);
    let image = path(&place.path(name)).to_owned();
    let fixed = ["convert", "-f", "raw", "-O", format];
    tool("qemu-img", &[&fixed, options, &[&raw, &image]].concat());
    image
}

#[test]
fn images_of_every_kind_are_imported_bit_for_bit() {
    let kinds: [(&str, &str, &[&str]); 14] = [
        ("plain", "qcow2", &[]),
        ("old", "qcow2", &["-o", "compat=0.10"]),
        ("zlib", "qcow2", &["-c"]),
        ("zstd", "qcow2", &["-c", "-o", "compression_type=zstd"]),
        ("extended", "qcow2", &["-o", "extended_l2=on,cluster_size=128k"]),
        ("large-clusters", "qcow2", &["-o", "cluster_size=2M"]),
        ("small-clusters", "qcow2", &["-o", "cluster_size=512"]),
        ("allocated", "qcow2", &["-o", "preallocation=metadata"]),
        ("sparse", "vmdk", &["-o", "subformat=monolithicSparse"]),
        ("stream", "vmdk", &["-o", "subformat=streamOptimized"]),
        ("dynamic", "vhdx", &["-o", "subformat=dynamic"]),
        ("fixed", "vhdx", &["-o", "subformat=fixed"]),
        ("small-blocks", "vhdx", &["-o", "block_size=1M"]),
        ("raw", "raw", &[]),
    ];
    let place = Place::new().with_pool();
    for (name, format, options) in kinds {
        let image = image(&place, name, format, options);
        let version = format!("{name}@v1");
        let view = place.json(&["image", "import", &version, &image, "--format", format]);
        assert_eq!(view["size"].as_u64().expect("bytes").next_multiple_of(4096), view["size"], "{name}");
        assert_same(&place, &image, format, &version);
    }
    place.ok(&["pool", "check"]);
    measured::assert_modest();
}

/// The active state counts, not a snapshot's.
#[test]
fn internal_snapshots_are_left_out() {
    let place = Place::new().with_pool();
    let image = image(&place, "snapshots.qcow2", "qcow2", &[]);
    tool("qemu-img", &["snapshot", "-c", "one", &image]);
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 9 0 1M", &image]);
    place.ok(&["image", "import", "golden@v1", &image, "--format", "qcow2"]);
    assert_same(&place, &image, "qcow2", "golden@v1");
}

fn json(place: &Place, arguments: &[&str]) -> Value {
    place.json(arguments)
}

#[test]
fn a_version_from_an_image_stores_what_differs_from_its_base() {
    let place = Place::new().with_pool();
    let image = image(&place, "disk.qcow2", "qcow2", &[]);
    let import = |version: &str| json(&place, &["image", "import", version, &image, "--format", "qcow2"]);
    let first = import("golden@v1");
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 9 1M 8k", "-c", "write -z 0 64k", &image]);
    let second = import("golden@v2");
    assert_eq!((&second["base"], &second["stored"]), (&"golden@v1".into(), &8192.into()));
    assert_eq!(first["size"], second["size"]);
    assert_same(&place, &image, "qcow2", "golden@v2");
    place.ok(&["pool", "check"]);
}

/// Three images, each on the one before.
fn chain(place: &Place) -> [String; 3] {
    let base = image(place, "base.vmdk", "vmdk", &[]);
    let [middle, top] = ["middle.qcow2", "top.qcow2"].map(|name| path(&place.path(name)).to_owned());
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "vmdk", "-b", &base, &middle]);
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 1 1M 100k", &middle]);
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &middle, &top, "40M"]);
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 2 1M 4k", "-c", "write -z 2M 64k", &top]);
    [base, middle, top]
}

#[test]
fn a_chain_is_imported_when_every_file_of_it_is_named() {
    let place = Place::new().with_pool();
    let [base, middle, top] = chain(&place);
    let import = |more: &[&str]| {
        let fixed = ["image", "import", "golden@v1", &top, "--format", "qcow2"];
        place.run(&[&fixed, more].concat())
    };
    import(&[]).fails(2, "middle.qcow2\", which is not named");
    import(&["--backing", &middle]).fails(2, "base.vmdk\", which is not named");
    import(&["--backing", &base, "--backing", &middle]).fails(2, "middle.qcow2\", and");
    import(&["--backing", &middle, "--backing", &base, "--backing", &base]).fails(2, "has no backing file");
    import(&["--backing", &middle, "--backing", "nothing/base.vmdk"]).fails(3, "No such file");
    assert_eq!(place.json(&["ls"])["items"], serde_json::json!([]));
    import(&["--backing", &middle, "--backing", &base]).ok();
    assert_same(&place, &top, "qcow2", "golden@v1");
}

/// What lies beneath is found where the operator says it is, not where the image says.
#[test]
fn a_backing_file_is_the_one_that_is_named() {
    let place = Place::new().with_pool();
    let [base, middle, top] = chain(&place);
    let elsewhere = place.path("elsewhere");
    std::fs::create_dir(&elsewhere).expect("made");
    let moved = path(&elsewhere.join("base.vmdk")).to_owned();
    std::fs::copy(&base, &moved).expect("copied");
    std::fs::write(&base, b"nothing that is an image").expect("written");
    let import = ["image", "import", "golden@v1", &top, "--format", "qcow2", "--backing", &middle];
    place.ok(&[&import[..], &["--backing", &moved]].concat());
    std::fs::copy(&moved, &base).expect("copied");
    assert_same(&place, &top, "qcow2", "golden@v1");
}

#[test]
fn an_image_is_imported_by_a_daemon_as_without_one() {
    let alone = Place::new().with_pool();
    let served = Place::new().with_pool();
    let daemon = served.serve(&[]);
    let import = |place: &Place| {
        image(place, "disk.vhdx", "vhdx", &[]);
        place.json(&["image", "import", "golden@v1", "disk.vhdx", "--format", "vhdx"])
    };
    assert_eq!(import(&alone), import(&served));
    assert_eq!(daemon.stop().code, Some(0));
}

/// 192 MiB that do not compress.
fn big_image(place: &Place) -> String {
    let raw = path(&place.path("big.raw")).to_owned();
    disk::large(&raw, 192, |number| disk::noise(MIB, number + 5));
    let image = path(&place.path("big.qcow2")).to_owned();
    tool("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &raw, &image]);
    image
}

/// As large, and nothing of it lies in the image as it is.
fn big_compressed_image(place: &Place) -> String {
    let raw = path(&place.path("big.raw")).to_owned();
    disk::large(&raw, 192, |number| (0..MIB / 8).flat_map(|at| (at + number).to_be_bytes()).collect());
    let image = path(&place.path("big.qcow2")).to_owned();
    tool("qemu-img", &["convert", "-c", "-f", "raw", "-O", "qcow2", &raw, &image]);
    image
}

/// Whether a process runs: one that has ended and that nobody has asked for does not.
fn runs(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("readable").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    };
    numbers.filter(is_child).collect()
}

#[test]
fn a_killed_program_takes_its_child_with_it_and_the_next_opening_cleans_up() {
    let place = Place::new().with_pool();
    let image = big_compressed_image(&place);
    let import = ["image", "import", "golden@v1", &image, "--format", "qcow2"];
    let mut child = place.command(&import).spawn().expect("started");
    let mut err = BufReader::new(child.stderr.take().expect("piped"));
    err.read_line(&mut String::new()).expect("a line");
    signal(&child, Signal::STOP);
    let readers = children(child.id());
    assert!(!readers.is_empty(), "somebody reads the image");
    signal(&child, Signal::KILL);
    end(child);
    let begun = std::time::Instant::now();
    while readers.iter().any(|reader| runs(*reader)) {
        assert!(begun.elapsed().as_secs() < 10, "it outlives its parent");
    }
    place.ok(&["pool", "check"]);
    assert_eq!(place.json(&["ls"])["items"], serde_json::json!([]));
}

#[test]
fn a_cancelled_import_of_an_image_leaves_nothing_behind() {
    let place = Place::new().with_pool();
    let before = place.json(&["pool", "status"])["mapped"].clone();
    for make in [big_image, big_compressed_image] {
        let image = make(&place);
        let import = ["image", "import", "golden@v1", &image, "--format", "qcow2"];
        cancel(&place, &import);
        assert_eq!(place.json(&["ls"])["items"], serde_json::json!([]));
        assert_eq!(place.json(&["pool", "status"])["mapped"], before);
    }
    place.ok(&["pool", "check"]);
}

#[test]
fn without_qemu_the_failure_says_what_to_install() {
    let place = Place::new().with_pool();
    let image = image(&place, "disk.qcow2", "qcow2", &[]);
    let mut command = place.command(&["image", "import", "golden@v1", &image, "--format", "qcow2"]);
    let ended = end(command.env("PATH", "/nonexistent").spawn().expect("started"));
    ended.fails(1, "is needed for it and is not installed");
    assert!(ended.err.contains("try: apt install qemu-utils"), "{}", ended.err);
}
