//! Programs nobody here wrote, against the real daemon: they copy, compare, map, check, and do at random what they do
//! for a living. Each of them must be content, and at the end the pool's metadata agree.

#[path = "../cli_program/mod.rs"]
mod cli_program;
mod commands;
mod contexts;
mod matrix;
#[path = "../nbd_client/mod.rs"]
mod nbd_client;
mod oracle;
mod peers;
mod secure;

use cli_program::{Daemon, Place};
use nbd_client::{Client, Command};
use peers::{Mounted, Nbdkit, run, uri};
use serde_json::Value;
use std::fs;
use std::path::Path;

const MIB: u64 = 1 << 20;

/// The daemon ends clean, and the pool it leaves is whole.
fn end(place: &Place, daemon: Daemon) {
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    place.ok(&["pool", "check"]);
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A disk with an ext4 file system that holds this repository's source, as golden@v1, and a clone of it.
fn with_file_system(place: Place) -> Place {
    let image = place.path("golden.raw");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    fs::File::create(&image).and_then(|file| file.set_len(64 * MIB)).expect("made");
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-d", root, path(&image)]);
    let place = place.with_pool();
    place.ok(&["image", "import", "golden@v1", "golden.raw"]);
    place.ok(&["clone", "create", "golden@v1", "desk"]);
    place
}

#[test]
fn qemu_reads_and_writes_what_is_there() {
    let place = with_file_system(Place::new());
    let daemon = place.serve(&[]);
    let (golden, back) = (place.path("golden.raw"), place.path("back.raw"));
    for export in ["golden@v1", "desk"] {
        run("qemu-img", &["compare", "-f", "raw", "-F", "raw", path(&golden), &uri(&place, export)]);
    }
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &uri(&place, "desk"), path(&back)]);
    assert!(fs::read(&golden).expect("there") == fs::read(&back).expect("there"), "convert brings all back");
    place.ok(&["volume", "create", "copy", "--size", "64M"]);
    run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", path(&golden), &uri(&place, "copy")]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &uri(&place, "golden@v1"), &uri(&place, "copy")]);
    end(&place, daemon);
}

/// Some disks answer all they have by one interrupt, and then stand still until the client has heard of it.
#[test]
fn clients_of_a_pool_on_a_disk_get_every_answer_of_a_batch() {
    let place = Place::on_disk().with_pool();
    fs::write(place.path("full.raw"), vec![0x5a; 32 << 20]).expect("written");
    place.ok(&["image", "import", "full@v1", "full.raw"]);
    let daemon = place.serve(&["--io", "uring"]);
    for depth in ["8", "32", "100"] {
        let requests =
            ["bench", "-f", "raw", "-t", "none", "-c", "3000", "-s", "4096", "-S", "69632", "-d", depth];
        let minute = ["60", "qemu-img"].into_iter().chain(requests);
        run("timeout", &minute.chain([uri(&place, "full@v1").as_str()]).collect::<Vec<_>>());
    }
    end(&place, daemon);
}

#[test]
fn nbdcopy_copies_in_and_out() {
    let place = with_file_system(Place::new());
    place.ok(&["volume", "create", "copy", "--size", "64M"]);
    let daemon = place.serve(&[]);
    let (golden, back) = (place.path("golden.raw"), place.path("back.raw"));
    run("nbdcopy", &[path(&golden), &uri(&place, "copy")]);
    run("nbdcopy", &[uri(&place, "copy").as_str(), path(&back)]);
    assert!(fs::read(&golden).expect("there") == fs::read(&back).expect("there"), "nbdcopy brings all back");
    run("nbdcopy", &[uri(&place, "desk"), uri(&place, "copy")]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", path(&golden), &uri(&place, "copy")]);
    end(&place, daemon);
}

#[test]
fn nbdinfo_shows_the_map_of_what_was_written() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "16M"]);
    let daemon = place.serve(&[]);
    let mut blocks = vec![false; 4096];
    let mut client = Client::open(&place.path("nbd.sock"), "v").expect("served");
    let runs = [(0, 1), (5, 3), (255, 2), (1000, 700), (1500, 10), (4000, 96), (2000, 1), (2002, 1)];
    for (start, length) in runs {
        write(&mut client, start, length);
        blocks[start..start + length].fill(true);
    }
    for (start, length) in [(1100, 50), (255, 1), (4090, 6), (600, 10)] {
        trim(&mut client, start, length);
        blocks[start..start + length].fill(false);
    }
    assert_eq!(map(&place, "v"), extents(&blocks));
    // What a clone shares is as much there as what it owns.
    client.close().expect("served");
    place.ok(&["snap", "create", "v@s"]);
    place.ok(&["clone", "create", "v@s", "w"]);
    let mut client = Client::open(&place.path("nbd.sock"), "w").expect("served");
    write(&mut client, 20, 2);
    trim(&mut client, 1200, 100);
    let before = blocks.clone();
    blocks[20..22].fill(true);
    blocks[1200..1300].fill(false);
    assert_eq!(map(&place, "w"), extents(&blocks));
    assert_eq!(map(&place, "v@s"), extents(&before));
    end(&place, daemon);
}

fn bytes(blocks: usize) -> u64 {
    u64::try_from(blocks * 4096).expect("small")
}

fn write(client: &mut Client, start: usize, length: usize) {
    let data = vec![0x5a; length * 4096];
    let write = Command::Write { offset: bytes(start), flags: 0, data };
    client.call(&write).expect("served").expect("written");
}

fn trim(client: &mut Client, start: usize, length: usize) {
    let length = u32::try_from(length * 4096).expect("small");
    let trim = Command::Trim { offset: bytes(start), flags: 0, length };
    client.call(&trim).expect("served").expect("trimmed");
}

/// Offset, length, and whether there is data.
type Extents = Vec<(u64, u64, bool)>;

fn extents(blocks: &[bool]) -> Extents {
    let mut extents = Extents::new();
    for run in blocks.chunk_by(|one, other| one == other) {
        let offset = extents.last().map_or(0, |(offset, length, _)| offset + length);
        extents.push((offset, bytes(run.len()), run[0]));
    }
    extents
}

fn map(place: &Place, export: &str) -> Extents {
    let text = run("nbdinfo", &["--map", "--json", &uri(place, export)]);
    let items: Vec<Value> = serde_json::from_str(&text).expect("a list");
    let number = |item: &Value, key: &str| item[key].as_u64().expect("a number");
    let mut extents = Extents::new();
    for item in &items {
        let (offset, length, kind) = (number(item, "offset"), number(item, "length"), number(item, "type"));
        assert!(kind == 0 || kind == 3, "data, or a hole that reads as zeros: {item}");
        match extents.last_mut() {
            Some((_, last, is_data)) if *is_data == (kind == 0) => *last += length,
            _ => extents.push((offset, length, kind == 0)),
        }
    }
    extents
}

#[test]
fn fio_finds_every_checksum_it_wrote() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "64M"]);
    let daemon = place.serve(&[]);
    let uri = format!("--uri={}", uri(&place, "v"));
    for (pattern, block) in
        [("randwrite", "--bsrange=512-64k"), ("randrw", "--bs=4k"), ("write", "--bs=256k")]
    {
        let pattern = format!("--rw={pattern}");
        let fixed = ["--name=verify", "--ioengine=nbd", "--size=64m", "--iodepth=16", "--verify=crc32c"];
        let more =
            ["--do_verify=1", "--verify_fatal=1", "--randseed=7", "--minimal", "--verify_state_save=0"];
        run("fio", &[&fixed[..], &more, &[&pattern, block, &uri]].concat());
    }
    end(&place, daemon);
}

#[test]
fn a_file_system_changed_on_a_clone_is_clean_and_its_image_is_untouched() {
    let place = with_file_system(Place::new());
    let daemon = place.serve(&[]);
    let mounted = Mounted::new(&place, "desk");
    let changes = place.path("changes");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock");
    let script: String = (0..40).map(|n| format!("mkdir d{n}\nwrite {source} d{n}/lock\n")).collect();
    fs::write(&changes, script + "rm main.rs\nrm d3/lock\nrmdir d3\n").expect("written");
    run("debugfs", &["-w", "-f", path(&changes), path(&mounted.file)]);
    run("e2fsck", &["-f", "-n", path(&mounted.file)]);
    mounted.unmount();
    let copy = place.path("desk.raw");
    run("nbdcopy", &[uri(&place, "desk").as_str(), path(&copy)]);
    run("e2fsck", &["-f", "-n", path(&copy)]);
    let listing = run("debugfs", &["-R", "ls -l d39", path(&copy)]);
    assert!(listing.contains("lock"), "{listing}");
    let golden = place.path("golden.raw");
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", path(&golden), &uri(&place, "golden@v1")]);
    end(&place, daemon);
}

/// The file is a disk: it never changes its size. nbdfuse lets nobody map it.
const FSX_SETTINGS: &str = "blockmode = true
[opsize]
max = 131072
[weights]
read = 4
write = 4
mapread = 0
mapwrite = 0
truncate = 0
fsync = 0.2
fdatasync = 0.2
invalidate = 0.5
";

#[test]
fn fsx_sees_the_file_it_believes_in() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "8M"]);
    let daemon = place.serve(&[]);
    let mounted = Mounted::new(&place, "v");
    let settings = place.path("fsx.toml");
    fs::write(&settings, FSX_SETTINGS).expect("written");
    let artifacts = place.path("");
    let arguments =
        ["-N", "10000", "-S", "4711", "-P", path(&artifacts), "-f", path(&settings), path(&mounted.file)];
    run(&fsx(), &arguments);
    mounted.unmount();
    end(&place, daemon);
}

/// Where Cargo installs programs, unless it is on the way.
fn fsx() -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    let cargo = std::env::var("CARGO_HOME").unwrap_or(format!("{home}/.cargo"));
    let own = format!("{cargo}/bin/fsx");
    if Path::new(&own).exists() { own } else { "fsx".to_owned() }
}

#[test]
fn two_servers_answer_the_same_commands_alike() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", &commands::DISK_BYTES.to_string()]);
    let daemon = place.serve(&[]);
    let nbdkit = Nbdkit::memory(commands::DISK_BYTES);
    for seed in 0..4 {
        let mut ours = Client::open(&place.path("nbd.sock"), "v").expect("served");
        let mut theirs = Client::open(&nbdkit.socket, "").expect("served");
        for (number, command) in (0..5_000).zip(commands::Commands::new(seed)) {
            let (ours, theirs) = (ours.call(&command), theirs.call(&command));
            let (ours, theirs) = (ours.expect("served"), theirs.expect("served"));
            assert!(
                ours == theirs,
                "seed {seed}, command {number}: {}",
                commands::show(&command, &ours, &theirs)
            );
        }
        ours.close().expect("served");
        theirs.close().expect("served");
        place.ok(&["snap", "create", &format!("v@s{seed}")]);
    }
    end(&place, daemon);
}
