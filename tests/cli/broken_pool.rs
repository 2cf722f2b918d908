//! Pools to which something has happened: metadata that rotted, a crash tail that is gone, another machine, a file system
//! that ran full. What cannot be had is said in one clear error, and nothing is made worse.

use crate::cli_program::{Place, end};
use crate::nbd_client::{Client, Command, read_block, write_block};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use tempfile::TempDir;

const BLOCK_BYTES: u64 = 4096;
const BLOCK: usize = 4096;

/// A write that nobody flushes.
fn write(place: &Place, volume: &str, block: u64, byte: u8) {
    write_block(&place.path("nbd.sock"), volume, block, byte);
}

/// The byte a block is full of.
fn read(place: &Place, volume: &str, block: u64) -> u8 {
    let daemon = place.serve(&[]);
    let byte = read_block(&place.path("nbd.sock"), volume, block);
    assert_eq!(daemon.stop().code, Some(0));
    byte
}

/// A pool with a written volume, whose daemon was killed.
fn killed() -> Place {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "8M"]);
    let daemon = place.serve(&[]);
    write(&place, "v", 3, 7);
    daemon.kill();
    place
}

fn run_directory() -> TempDir {
    let private = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(private).tempdir_in("/dev/shm").expect("tmpfs")
}

fn remove_tail(place: &Place) {
    let entries = fs::read_dir(place.run_directory()).expect("readable");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let tail = paths.find(|path| path.extension().is_some_and(|ending| ending == "tail"));
    fs::remove_file(tail.expect("a killed daemon leaves its tail")).expect("ours");
}

/// Flips a bit in every page of the tree of some volume. The page says in its first bytes what it is.
fn rot_extent_trees(pool: &Path) -> usize {
    let file = File::options().read(true).write(true).open(pool).expect("there");
    let blocks = file.metadata().expect("there").len() / BLOCK_BYTES;
    let mut page = vec![0; BLOCK];
    let mut rotten = 0;
    for block in 0..blocks {
        file.read_exact_at(&mut page, block * BLOCK_BYTES).expect("a block");
        if page.starts_with(b"OSTN") && page[8] == 1 {
            page[100] ^= 1;
            file.write_all_at(&page, block * BLOCK_BYTES).expect("written");
            rotten += 1;
        }
    }
    rotten
}

#[test]
fn rotten_metadata_is_found_and_named_by_a_check_and_never_read_as_data() {
    let place = Place::new().with_pool();
    place.disk("golden.raw", 16, 7, &(0..200).map(|block| block * 3).collect::<Vec<_>>());
    place.ok(&["image", "import", "golden@v1", "golden.raw"]);
    assert_eq!(place.run(&["pool", "check"]).code, Some(0));
    assert!(rot_extent_trees(&place.pool()) > 0);
    let checked = place.run(&["pool", "check"]);
    assert_eq!(checked.code, Some(2), "{} {}", checked.out, checked.err);
    assert!(checked.out.contains("damage: ") && checked.out.contains("golden@v1"), "{}", checked.out);
    let daemon = place.serve(&[]);
    let mut client = Client::open(&place.path("nbd.sock"), "golden@v1").expect("served");
    let read = Command::Read { offset: 0, length: u32::try_from(BLOCK).expect("small") };
    const EIO: u32 = 5;
    assert_eq!(client.call(&read).expect("served"), Err(EIO));
    client.close().expect("served");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_pool_whose_acknowledged_writes_are_gone_opens_only_when_told_so() {
    let place = killed();
    remove_tail(&place);
    let before = place.inventory();
    let lost = "writes acknowledged since are gone";
    for command in [&["volume", "create", "w", "--size", "1M"][..], &["pool", "check"], &["serve"]] {
        place.run(command).fails(6, lost);
        assert_eq!(place.inventory(), before, "{command:?}");
    }
    let looked = place.run(&["ls"]);
    assert!(looked.err.starts_with("note: ") && looked.err.contains("lost"), "{}", looked.err);
    assert_eq!(looked.code, Some(0), "looking is allowed");
    let accepted = place.run(&["pool", "check", "--accept-lost-writes"]);
    assert_eq!(accepted.code, Some(0), "{}", accepted.err);
    assert!(accepted.err.contains("are lost"), "{}", accepted.err);
    assert_eq!(place.run(&["volume", "create", "w", "--size", "1M"]).code, Some(0), "once is enough");
    assert_eq!(read(&place, "v", 3), 0);
    place.ok(&["pool", "check"]);
}

#[test]
fn serve_takes_the_word_for_it_too() {
    let place = killed();
    remove_tail(&place);
    let ended = place.serve(&["--accept-lost-writes"]).stop();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    place.ok(&["pool", "check"]);
}

#[test]
fn a_tail_left_behind_somewhere_is_not_replayed_after_the_pool_was_used_elsewhere() {
    let place = killed();
    let elsewhere = run_directory();
    let there = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        end(command.env("OFFSHOOT_RUN_DIR", elsewhere.path()).spawn().expect("started")).ok()
    };
    there(&["pool", "check", "--accept-lost-writes"]);
    there(&["snap", "create", "v@elsewhere"]);
    assert_eq!(read(&place, "v", 3), 0, "what was given up stays given up");
    place.ok(&["pool", "check"]);
}

/// Runs a script as on a machine that has started anew: its file system with a fresh run directory, another boot id.
fn on_another_machine(place: &Place, script: &str) -> crate::cli_program::Ended {
    let whole = format!(
        "echo 01234567-89ab-cdef-0123-456789abcdef > boot_id && mkdir -p other && chmod 700 other && \
         mount --bind boot_id /proc/sys/kernel/random/boot_id && mount -t tmpfs -o mode=700 tmpfs other || exit 77\n{script}"
    );
    let mut command = place.in_mount_namespace(&whole);
    let ended = end(command.env("OFFSHOOT_RUN_DIR", place.path("other")).spawn().expect("started"));
    assert_ne!(ended.code, Some(77), "mounts of its own take root: {}", ended.err);
    ended
}

#[test]
fn a_pool_moves_to_another_machine_and_back() {
    let place = killed();
    let ended = on_another_machine(&place, "$OFFSHOOT snap create v@there && $OFFSHOOT pool check");
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("when its machine stopped; all that was flushed is there"), "{}", ended.err);
    assert_eq!(read(&place, "v", 3), 0, "what was not flushed was lost with its machine");
    let names = place.json(&["ls"])["items"].as_array().map(Vec::len);
    assert_eq!(names, Some(2), "what was done there is here");
    place.ok(&["pool", "check"]);
}

#[test]
fn a_file_system_that_runs_full_ends_an_import_and_not_the_pool() {
    let place = Place::new();
    fs::write(place.path("big.raw"), vec![0x5a; 96 << 20]).expect("written");
    let script = "mount -t tmpfs -o size=64m tmpfs full || exit 77\n\
        export OFFSHOOT_POOL=full/p.pool\n\
        $OFFSHOOT pool create full/p.pool --size 256M 2> /dev/null || exit 78\n\
        $OFFSHOOT volume create v --size 8M 2> /dev/null || exit 79\n\
        $OFFSHOOT image import golden@v1 big.raw 2> import.err; [ $? = 5 ] || exit 80\n\
        $OFFSHOOT ls -o json\n\
        $OFFSHOOT pool check > /dev/null || exit 81\n\
        mount -o remount,size=256m full\n\
        $OFFSHOOT image import golden@v1 big.raw 2> /dev/null || exit 82\n\
        exec $OFFSHOOT pool check > /dev/null";
    fs::create_dir(place.path("full")).expect("made");
    let ended = end(place.in_mount_namespace(script).spawn().expect("started"));
    let said = fs::read_to_string(place.path("import.err")).unwrap_or_default();
    assert_eq!(ended.code, Some(0), "{} {said}", ended.err);
    let left: serde_json::Value = serde_json::from_str(&ended.out).expect("a listing");
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "{left}");
    assert!(said.contains("error: golden@v1 was not imported (OFFSHOOT0501)\nwhy: "), "{said}");
}
