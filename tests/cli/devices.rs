//! Pools on several files, as operators meet them: made, filled, moved, grown, and each way a file can be the wrong one.

use crate::cli_program::Place;
use crate::nbd_client::{read_block, write_block};
use crate::vhost_client::{Ask, Driver};
use std::fs::{self, File};
use std::path::Path;

const MIB: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 4096;
const BLOCK: usize = 4096;

/// A pool on three files of 128 MiB.
fn three() -> Place {
    let place = Place::new();
    place.ok(&["pool", "create", "p.pool", "p1.pool", "p2.pool", "--size", "128M"]);
    place
}

/// A disk of which so many MiB are data.
fn import(place: &Place, version: &str, mebibytes: u64) {
    place.disk("golden.raw", mebibytes + 1, 7, &(0..mebibytes * 256).collect::<Vec<_>>());
    place.ok(&["image", "import", version, "golden.raw"]);
}

/// A figure of each device, in MiB.
fn figures(place: &Place, name: &str) -> Vec<u64> {
    let status = place.json(&["pool", "status"]);
    let devices = status["devices"].as_array().expect("a list");
    devices.iter().map(|device| device[name].as_u64().expect("bytes") / MIB).collect()
}

fn write(place: &Place, volume: &str, block: u64, byte: u8) {
    write_block(&place.path("nbd.sock"), volume, block, byte);
}

fn read(place: &Place, volume: &str, block: u64) -> u8 {
    read_block(&place.path("nbd.sock"), volume, block)
}

fn is_clean(place: &Place) {
    let checked = place.run(&["pool", "check"]);
    assert_eq!(checked.code, Some(0), "{} {}", checked.out, checked.err);
}

#[test]
fn a_pool_on_three_files_gives_each_its_share_and_is_there_after_a_kill() {
    let place = three();
    import(&place, "golden@v1", 90);
    let mapped = figures(&place, "mapped");
    assert_eq!(mapped.iter().sum::<u64>(), 90);
    // Journal and metadata are on the first, which has less for data.
    let room: Vec<u64> =
        mapped.iter().zip(figures(&place, "free")).map(|(mapped, free)| mapped + free).collect();
    for (device, room_of_device) in mapped.iter().zip(&room) {
        let share = 90 * room_of_device / room.iter().sum::<u64>();
        assert!(*device > 10 && device.abs_diff(share) <= 3, "{mapped:?} of {room:?}");
    }
    assert_eq!(figures(&place, "size"), [128, 128, 128]);
    place.ok(&["clone", "create", "golden@v1", "desk"]);
    let daemon = place.serve(&[]);
    (0..40).for_each(|number| write(&place, "desk", number * 512, 9));
    assert_eq!(figures(&place, "size"), [128, 128, 128], "the daemon tells them, too");
    daemon.kill();
    is_clean(&place);
    let daemon = place.serve(&[]);
    for (block, byte) in [(0, 9), (1, 7), (512, 9), (39 * 512, 9), (39 * 512 + 1, 7)] {
        assert_eq!(read(&place, "desk", block), byte, "block {block}");
    }
    assert_eq!(daemon.stop().code, Some(0));
    is_clean(&place);
    let table = place.ok(&["pool", "status"]);
    for line in ["device 0  ", "p.pool: 128 MiB, ", "device 2  ", "p2.pool: 128 MiB, "] {
        assert!(table.contains(line), "{table}");
    }
}

#[test]
fn every_engine_serves_several_files() {
    for engine in ["uring", "inline", "mapped"] {
        let place = Place::in_memory();
        place.ok(&["pool", "create", "p.pool", "p1.pool", "--size", "64M", "--io", engine]);
        place.ok(&["volume", "create", "v", "--size", "32M", "--io", engine]);
        let daemon = place.serve(&["--io", engine]);
        (0..20).for_each(|number| write(&place, "v", number * 300, 5));
        (0..20).for_each(|number| assert_eq!(read(&place, "v", number * 300), 5));
        assert_eq!(daemon.stop().code, Some(0));
        is_clean(&place);
    }
}

/// A disk answers through a ring, and memory at once: whoever sleeps has to hear of both.
#[test]
fn clients_and_a_virtual_machine_use_a_pool_on_a_disk_and_in_memory() {
    let place = Place::on_disk();
    let memory = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
    let second = memory.path().join("p1.pool").to_string_lossy().into_owned();
    place.ok(&["pool", "create", "p.pool", &second, "--size", "64M"]);
    place.ok(&["volume", "create", "v", "--size", "32M"]);
    place.ok(&["volume", "create", "w", "--size", "32M"]);
    let daemon = place.serve(&[]);
    (0..30).for_each(|number| write(&place, "v", number * 256, 5));
    (0..30).for_each(|number| assert_eq!(read(&place, "v", number * 256), 5));
    let socket = place.ok(&["export", "start", "w"]);
    let mut driver = Driver::connect(Path::new(socket.trim_end()), 4, BLOCK).expect("the daemon listens");
    driver.fill(0, &[6; BLOCK]);
    for number in 0..30 {
        let write = Ask::Write { offset: number << 20, length: BLOCK };
        assert_eq!(driver.run(write).expect("an answer"), 0);
    }
    for number in 0..30 {
        driver.fill(0, &[0; BLOCK]);
        assert_eq!(driver.run(Ask::Read { offset: number << 20, length: BLOCK }).expect("an answer"), 0);
        assert_eq!(driver.bytes(0, BLOCK), [6; BLOCK], "mebibyte {number}");
    }
    drop(driver);
    let status = place.json(&["pool", "status"]);
    let blocks = |device: usize| status["devices"][device]["mapped"].as_u64().expect("bytes") / BLOCK_BYTES;
    assert!(blocks(0) >= 5 && blocks(1) >= 5 && blocks(0) + blocks(1) == 60, "{status}");
    assert_eq!(daemon.stop().code, Some(0));
    is_clean(&place);
}

#[test]
fn files_that_moved_are_found_beside_the_first_or_where_the_operator_says_and_from_then_on() {
    let place = three();
    place.ok(&["volume", "create", "v", "--size", "8M"]);
    fs::create_dir(place.path("all")).expect("a directory");
    for name in ["p.pool", "p1.pool", "p2.pool"] {
        fs::rename(place.path(name), place.path("all").join(name)).expect("moved");
    }
    place.ok(&["ls", "--pool", "all/p.pool"]);
    place.ok(&["volume", "create", "w", "--size", "8M", "--pool", "all/p.pool"]);
    fs::rename(place.path("all/p1.pool"), place.path("elsewhere")).expect("moved");
    let gone = place.run(&["ls", "--pool", "all/p.pool"]);
    gone.fails(3, "device 1 of the pool (id ");
    gone.fails(3, "134217728 bytes) is missing; it was last seen at /");
    assert!(gone.err.contains("try: --device with the path where device 1 is now"), "{}", gone.err);
    let told = ["--pool", "all/p.pool", "--device", "elsewhere"];
    place.ok(&[&["volume", "create", "x", "--size", "8M"], &told[..]].concat());
    let names = place.ok(&["ls", "--pool", "all/p.pool"]);
    assert!(["v", "w", "x"].iter().all(|name| names.contains(name)), "{names}");
    let not_first = place.run(&["ls", "--pool", "all/p2.pool"]);
    not_first.fails(2, "it is device 2 of the pool p, and a pool is opened by its device 0");
}

#[test]
fn each_file_that_is_not_the_right_one_is_refused_and_nothing_is_changed() {
    let place = three();
    place.ok(&["pool", "create", "q.pool", "q1.pool", "q2.pool", "--size", "128M"]);
    fs::copy(place.path("p1.pool"), place.path("old")).expect("copied");
    place.ok(&["volume", "create", "v", "--size", "8M"]);
    fs::copy(place.path("p1.pool"), place.path("copy")).expect("copied");
    let short = File::create(place.path("short")).expect("a file");
    std::io::copy(&mut File::open(place.path("p1.pool")).expect("there"), &mut &short).expect("copied");
    short.set_len(64 * MIB).expect("cut");
    File::create(place.path("empty")).and_then(|file| file.set_len(128 * MIB)).expect("a file");
    fs::rename(place.path("p1.pool"), place.path("p1")).expect("moved");
    let before = place.inventory();
    let with = |devices: &[&str]| {
        let devices = devices.iter().flat_map(|path| ["--device", path]);
        place.run(&["volume", "create", "w", "--size", "8M"].into_iter().chain(devices).collect::<Vec<_>>())
    };
    with(&["q1.pool"]).fails(2, "q1.pool is device 1 of another pool, q");
    with(&["q.pool"]).fails(2, "q.pool is device 0 of another pool, q");
    with(&["p1", "copy"]).fails(2, "p1 and copy are both device 1 of the pool (id ");
    with(&["p.pool"]).fails(2, "p.pool is device 0 of the pool, which has 3");
    with(&["empty"]).fails(2, "empty: this is not an Offshoot pool");
    with(&["short"]).fails(1, "134217728 bytes) with its end cut off: it has 67108864 bytes");
    with(&["old"]).fails(1, "old is an older copy of device 1 of the pool (id ");
    with(&["nowhere"]).fails(2, "nowhere: ");
    fs::copy(place.path("empty"), place.path("p1.pool")).expect("copied");
    with(&[]).fails(3, "where now there is something else: this is not an Offshoot pool");
    fs::remove_file(place.path("p1.pool")).expect("ours");
    with(&[]).fails(3, "device 1 of the pool (id ");
    assert_eq!(place.inventory(), before);
    with(&["p1"]).ok();
    with(&["p1"]).fails(4, "exists already");
}

#[test]
fn a_file_is_added_and_takes_its_share() {
    let place = Place::new().with_pool();
    import(&place, "golden@v1", 100);
    let before = place.json(&["df"])["capacity"].as_u64().expect("bytes");
    place.run(&["pool", "grow", "--add", "p1.pool"]).fails(2, "--size is missing");
    let added = place.json(&["pool", "grow", "--add", "p1.pool", "--size", "512M"]);
    assert_eq!((added["index"].as_u64(), added["size"].as_u64()), (Some(1), Some(512 * MIB)));
    assert!(added["capacity"].as_u64().expect("bytes") > before + 480 * MIB);
    import(&place, "other@v1", 150);
    let mapped = figures(&place, "mapped");
    assert!(mapped[1] >= 110 && mapped.iter().sum::<u64>() == 250, "{mapped:?}");
    let status = place.json(&["pool", "status"]);
    assert_eq!(status["devices"][1]["id"].as_str().map(str::len), Some(32));
    is_clean(&place);
    place.run(&["pool", "grow", "--add", "p1.pool", "--size", "512M"]).fails(4, "in use by this process");
    place.run(&["pool", "grow", "--add", "golden.raw", "--size", "512M"]).fails(4, "is there already");
    let daemon = place.serve(&[]);
    place.run(&["pool", "grow", "--add", "p2.pool", "--size", "512M"]).fails(4, "a daemon serves the pool");
    assert!(!place.path("p2.pool").exists());
    place.ok(&["pool", "grow", "--size", "768M"]);
    assert_eq!(figures(&place, "size"), [256, 768], "the last one grows, also below a daemon");
    assert_eq!(daemon.stop().code, Some(0));
    is_clean(&place);
}

#[test]
fn what_an_addition_that_was_killed_has_left_is_taken_by_the_next_one() {
    let place = Place::new().with_pool();
    File::create(place.path("p1.pool")).and_then(|file| file.set_len(64 * MIB)).expect("a file");
    place.run(&["pool", "grow", "--add", "p1.pool", "--size", "32M"]).fails(4, "is there already");
    place.ok(&["pool", "grow", "--add", "p1.pool", "--size", "64M"]);
    assert_eq!(figures(&place, "size"), [256, 64]);
    is_clean(&place);
}

#[test]
fn a_pool_that_cannot_be_made_on_all_files_is_made_on_none() {
    let place = Place::new();
    File::create(place.path("taken")).expect("a file");
    let before = place.inventory();
    let make =
        |paths: &[&str], size: &str| place.run(&[&["pool", "create", "--size", size][..], paths].concat());
    make(&["p.pool", "p1.pool", "taken"], "64M").fails(4, "taken is there already");
    make(&["p.pool", "p.pool"], "64M").fails(4, "p.pool is there already");
    make(&["p.pool", "p1.pool"], "32K").fails(2, "too small");
    let many: Vec<String> = (0..17).map(|number| format!("m{number}")).collect();
    make(&many.iter().map(String::as_str).collect::<Vec<_>>(), "64M").fails(2, "at most 16 devices");
    assert_eq!(place.inventory(), before);
}
