//! What a pool holds comes back as a file, whole or not at all.

use crate::cli_program::{Place, end};
use crate::{cancel, disk, measured, path, tool};
use std::fs;
use std::os::unix::fs::MetadataExt;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 24 * MIB + 4096;

fn with_version(place: Place) -> (Place, String) {
    let place = place.with_pool();
    let raw = disk::mixed(&place, "disk.raw", SIZE, 1);
    place.ok(&["image", "import", "golden@v1", &raw]);
    (place, raw)
}

#[test]
fn an_export_is_what_was_imported_and_goes_round() {
    let (place, raw) = with_version(Place::new());
    for format in ["raw", "qcow2"] {
        let out = path(&place.path(&format!("out.{format}"))).to_owned();
        let view = place.json(&["image", "export", "golden@v1", &out, "--format", format]);
        assert_eq!((view["size"].as_u64(), &view["kind"]), (Some(SIZE), &"ImageExported".into()));
        tool("qemu-img", &["compare", "-f", "raw", "-F", format, &raw, &out]);
        if format == "qcow2" {
            tool("qemu-img", &["check", "-f", "qcow2", &out]);
        }
        let version = format!("round-{format}@v1");
        place.ok(&["image", "import", &version, &out, "--format", format]);
        let again = path(&place.path("again.raw")).to_owned();
        place.ok(&["image", "export", &version, &again, "--force"]);
        assert!(fs::read(&again).expect("there") == fs::read(&raw).expect("there"), "{format}");
    }
    let out = fs::metadata(place.path("out.raw")).expect("there");
    assert_eq!((out.len(), out.mode() & 0o777), (SIZE, 0o600));
    assert!(out.blocks() * 512 < 9 * MIB, "holes stay holes: {} bytes", out.blocks() * 512);
    place.ok(&["pool", "check"]);
    measured::assert_modest();
}

#[test]
fn volumes_and_snapshots_are_exported_as_they_are_at_that_moment() {
    let (place, _) = with_version(Place::new());
    place.ok(&["clone", "create", "golden@v1", "desk"]);
    place.ok(&["snap", "create", "desk@before"]);
    let daemon = place.serve(&[]);
    let uri = |name: &str| format!("nbd+unix:///{name}?socket={}", place.path("nbd.sock").display());
    tool("qemu-io", &["-f", "raw", "-c", "write -P 9 5M 100k", "-c", "discard 0 1M", &uri("desk")]);
    for (name, format) in
        [("desk", "raw"), ("desk", "qcow2"), ("desk@before", "raw"), ("desk@before", "qcow2")]
    {
        let out = path(&place.path("out")).to_owned();
        place.ok(&["image", "export", name, &out, "--format", format, "--force"]);
        tool("qemu-img", &["compare", "-f", "raw", "-F", format, &uri(name), &out]);
    }
    assert_eq!(daemon.stop().code, Some(0));
}

/// More than one table, data at the edges of clusters and tables, and parts of a disk without a table.
#[test]
fn a_large_and_mostly_empty_volume_is_exported_to_a_small_image() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "large", "--size", "3T"]);
    let daemon = place.serve(&[]);
    let uri = format!("nbd+unix:///large?socket={}", place.path("nbd.sock").display());
    let writes = ["0 4k", "65024 1k", "512M 64k", "536805376 128k", "1000G 1", "3145727M 1M"];
    let commands: Vec<String> =
        writes.iter().zip(1..).map(|(range, byte)| format!("write -P {byte} {range}")).collect();
    let arguments = commands.iter().flat_map(|command| ["-c", command]);
    tool("qemu-io", &["-f", "raw"].into_iter().chain(arguments).chain([uri.as_str()]).collect::<Vec<_>>());
    let out = path(&place.path("out.qcow2")).to_owned();
    place.ok(&["image", "export", "large", &out, "--format", "qcow2"]);
    tool("qemu-img", &["check", "-f", "qcow2", &out]);
    tool("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", &uri, &out]);
    assert!(fs::metadata(&out).expect("there").len() < 4 * MIB);
    let ended = place.run(&["image", "import", "other@v1", &out, "--format", "qcow2"]);
    ended.fails(2, "3 TiB, and 1 TiB are the most");
    place.ok(&["image", "import", "other@v1", &out, "--format", "qcow2", "--size-max", "3T"]);
    tool("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri, &uri.replace("large", "other@v1")]);
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
}

#[test]
fn a_volume_in_use_is_not_exported_and_its_snapshot_is() {
    let (place, _) = with_version(Place::new());
    place.ok(&["clone", "create", "golden@v1", "desk"]);
    let daemon = place.serve(&[]);
    place.ok(&["export", "start", "desk"]);
    let ended = place.run(&["image", "export", "desk", "out.raw"]);
    ended.fails(4, "desk is in use");
    assert!(ended.err.contains("try: offshoot snap create desk@SNAPSHOT"), "{}", ended.err);
    place.ok(&["snap", "create", "desk@now"]);
    place.ok(&["image", "export", "desk@now", "out.raw"]);
    assert_eq!(daemon.stop().code, Some(0));
}

fn partial(place: &Place) -> usize {
    let entries = place.path("").read_dir().expect("readable");
    entries
        .filter(|entry| entry.as_ref().is_ok_and(|e| e.file_name().display().to_string().starts_with('.')))
        .count()
}

#[test]
fn an_export_never_harms_what_is_there() {
    let (place, _) = with_version(Place::new());
    fs::write(place.path("there"), b"mine").expect("written");
    fs::create_dir(place.path("folder")).expect("made");
    for format in ["raw", "qcow2"] {
        let export = |more: &[&str]| {
            place.run(&[&["image", "export", "golden@v1", "--format", format], more].concat())
        };
        export(&["there"]).fails(4, "is there already");
        export(&["folder", "--force"]).fails(4, "is no plain file");
        export(&["/dev/null", "--force"]).fails(4, "is no plain file");
        export(&["nowhere/out"]).fails(3, "no file can be made in");
    }
    assert_eq!(fs::read(place.path("there")).expect("there"), b"mine");
    place.run(&["image", "export", "nobody", "out"]).fails(3, "nobody");
    place.run(&["image", "export", "golden@v1", "out", "--format", "vmdk"]).fails(2, "read and not written");
    assert_eq!((partial(&place), place.path("out").exists()), (0, false));
    place.ok(&["image", "export", "golden@v1", "there", "--force"]);
    assert_eq!(fs::metadata(place.path("there")).expect("there").len(), SIZE);
}

#[test]
fn a_cancelled_export_leaves_nothing_behind() {
    let place = Place::new();
    place.ok(&["pool", "create", "p.pool", "--size", "512M"]);
    let raw = path(&place.path("big.raw")).to_owned();
    disk::large(&raw, 256, |number| disk::noise(MIB, number + 5));
    place.ok(&["image", "import", "golden@v1", &raw]);
    for format in ["raw", "qcow2"] {
        let export = ["image", "export", "golden@v1", "out", "--format", format];
        cancel(&place, &export);
        assert_eq!((partial(&place), place.path("out").exists()), (0, false), "{format}");
    }
    place.ok(&["pool", "check"]);
}

/// A file system of 8 MiB, seen by nobody else.
#[test]
fn an_export_to_a_full_file_system_fails_with_its_reason_and_leaves_nothing_behind() {
    let (place, _) = with_version(Place::new());
    for format in ["raw", "qcow2"] {
        let script = format!(
            "mkdir -p small && mount -t tmpfs -o size=2m small small && \
             \"$OFFSHOOT\" image export golden@v1 small/out --format {format}; code=$?; ls -A small; exit $code"
        );
        let ended = end(place.in_mount_namespace(&script).spawn().expect("started"));
        ended.fails(5, "No space left");
    }
}

#[test]
fn an_export_by_a_daemon_is_the_same() {
    let (place, raw) = with_version(Place::new());
    let daemon = place.serve(&[]);
    for format in ["raw", "qcow2"] {
        let out = path(&place.path(&format!("out.{format}"))).to_owned();
        place.ok(&["image", "export", "golden@v1", &out, "--format", format]);
        tool("qemu-img", &["compare", "-f", "raw", "-F", format, &raw, &out]);
    }
    assert_eq!(daemon.stop().code, Some(0));
}
