//! Whatever is typed wrong or found broken: one error of three lines, nothing changed, nothing left behind.

use crate::cli_program::{Ended, Place, end, signal};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};

#[test]
fn a_size_that_is_none_is_refused() {
    let place = Place::new();
    let empty = place.inventory();
    let cases = [
        ("0", "at least 4096"),
        ("1", "no multiple of 4096"),
        ("1000000", "no multiple of 4096; the next one is 1003520"),
        ("-5G", "cannot be negative"),
        ("", "--size"),
        ("ten", "a number and a unit"),
        ("10X", "no unit"),
        ("1.2.3G", "a number and a unit"),
        ("8E", "larger than"),
        ("99999999999999999999999999999999", "larger than"),
        ("1e99", "no unit"),
        ("١٠G", "a number and a unit"),
    ];
    for (size, why) in cases {
        place.run(&["pool", "create", "p.pool", "--size", size]).fails(2, why);
        place.run(&["volume", "create", "v", "--size", size]).fails(2, why);
        place.run(&["pool", "grow", "--size", size]).fails(2, why);
    }
    assert_eq!(place.inventory(), empty);
}

#[test]
fn sizes_no_pool_or_volume_can_have_are_refused_by_the_engine() {
    let place = Place::new();
    let empty = place.inventory();
    for size in ["4096", "64K"] {
        let ended = place.run(&["pool", "create", "p.pool", "--size", size]);
        assert_eq!(ended.code.map(|code| code != 0), Some(true), "{}", ended.err);
        ended.fails(ended.code.expect("a code"), "");
        assert_eq!(place.inventory(), empty);
    }
}

#[test]
fn a_name_that_is_none_is_refused() {
    let place = Place::new().with_pool();
    let before = place.inventory();
    let long = "a".repeat(300);
    let bomb = "{0..9999}{0..9999}{0..9999}";
    let cases = [
        ("../../etc/passwd", "starts with '.'"),
        ("a/b/c", "contains '/'"),
        ("/abs", "starts with '/'"),
        ("a\u{1b}[31mb", "contains"),
        ("a\nb", "contains"),
        ("", "empty"),
        (long.as_str(), "300 bytes"),
        ("ä", "starts with"),
        ("a b", "contains ' '"),
        ("a@b", "not of a volume"),
        ("a@b@c", "more than one"),
        (bomb, "more than 10000 names"),
        ("a{1..", "no partner"),
        ("{x..y}", "neither"),
        ("same same", "contains ' '"),
    ];
    for (name, why) in cases {
        let ended = place.run(&["volume", "create", "--size", "1M", "--", name]);
        ended.fails(2, why);
        assert!(!ended.err.contains('\u{1b}'), "no control character reaches the terminal");
    }
    place.run(&["volume", "create", "--size", "1M", "a", "a"]).fails(2, "named twice");
    place.run(&["clone", "create", "golden", "x"]).fails(2, "names no snapshot");
    place.run(&["snap", "create", "x"]).fails(2, "names no snapshot");
    assert_eq!(place.inventory(), before);
    assert_eq!(place.json(&["ls"])["items"], serde_json::json!([]));
}

#[test]
fn a_mistyped_command_is_a_usage_error() {
    let place = Place::new();
    for arguments in [vec![], vec!["frobnicate"], vec!["pool"], vec!["pool", "create"], vec!["ls", "--frob"]]
    {
        place.run(&arguments).fails(2, "");
    }
    let mut without_pool = place.command(&["ls"]);
    end(without_pool.env_remove("OFFSHOOT_POOL").spawn().expect("started")).fails(2, "no pool is named");
}

/// Files that are no pool, with what the error has to say.
fn impostors(place: &Place) -> Vec<(&'static str, i32, &'static str)> {
    fs::write(place.path("empty"), b"").expect("written");
    fs::write(place.path("text"), "dear diary\n".repeat(10_000)).expect("written");
    let mut qcow2 = vec![0; 1 << 20];
    qcow2[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    fs::write(place.path("qcow2"), qcow2).expect("written");
    File::create(place.path("zeros")).and_then(|file| file.set_len(64 << 20)).expect("made");
    fs::create_dir(place.path("directory")).expect("made");
    vec![
        ("missing", 3, "No such file"),
        ("directory", 2, "no file and no block device"),
        ("empty", 1, "not one block long"),
        ("text", 1, "not an Offshoot pool"),
        ("qcow2", 1, "not an Offshoot pool"),
        ("zeros", 1, "not an Offshoot pool"),
    ]
}

#[test]
fn a_file_that_is_no_pool_is_refused_and_not_touched() {
    let place = Place::new();
    let impostors = impostors(&place);
    let before = place.inventory();
    for (name, code, why) in impostors {
        let commands: [&[&str]; 5] = [
            &["--pool", name, "ls"],
            &["--pool", name, "clone", "create", "golden@v1", "x"],
            &["pool", "check", name],
            &["pool", "status", name],
            &["--pool", name, "serve", "--socket", "nbd.sock"],
        ];
        for command in commands {
            place.run(command).fails(code, why);
            assert_eq!(place.inventory(), before, "{command:?}");
        }
    }
}

#[test]
fn a_pool_that_was_cut_short_is_refused_and_not_touched() {
    let place = Place::new().with_pool();
    let file = File::options().write(true).open(place.pool()).expect("there");
    for length in [200 << 20, 1 << 20, 4096, 100] {
        file.set_len(length).expect("cut");
        let before = place.inventory();
        for command in [&["ls"][..], &["pool", "check"], &["volume", "create", "v", "--size", "1M"]] {
            place.run(command).fails(1, "");
            assert_eq!(place.inventory(), before, "{length} {command:?}");
        }
    }
}

/// Changes the first block of a pool, and gives it a checksum that fits or leaves it without.
fn change_label(place: &Place, at: usize, byte: u8, seal: bool) {
    let file = File::options().read(true).write(true).open(place.pool()).expect("there");
    let mut label = vec![0; 4096];
    file.read_exact_at(&mut label, 0).expect("a block");
    // Any byte may be there already where an identifier is.
    label[at] = if seal { byte } else { !label[at] };
    if seal {
        label[12..16].fill(0);
        let checksum = crc32c::crc32c(&label);
        label[12..16].copy_from_slice(&checksum.to_le_bytes());
    }
    file.write_all_at(&label, 0).expect("written");
}

#[test]
fn a_pool_of_a_newer_format_or_with_a_damaged_label_is_refused_and_not_touched() {
    for (at, byte, seal, why) in [(8, 99, true, "format version 99"), (20, 99, false, "label is damaged")] {
        let place = Place::new().with_pool();
        change_label(&place, at, byte, seal);
        let before = place.inventory();
        for command in
            [&["ls"][..], &["pool", "check"], &["clone", "create", "a@b", "c"], &["serve", "--socket", "s"]]
        {
            place.run(command).fails(1, why);
            assert_eq!(place.inventory(), before);
        }
    }
}

#[test]
fn a_pool_is_never_made_over_something() {
    let place = Place::new().with_pool();
    fs::write(place.path("precious"), "data").expect("written");
    std::os::unix::fs::symlink("precious", place.path("link")).expect("linked");
    std::os::unix::fs::symlink("nowhere", place.path("dangling")).expect("linked");
    fs::create_dir(place.path("directory")).expect("made");
    let before = place.inventory();
    for name in ["p.pool", "precious", "link", "dangling", "directory"] {
        place.run(&["pool", "create", name, "--size", "64M"]).fails(4, "there already");
    }
    place
        .run(&["pool", "create", "no/such/directory/p", "--size", "64M"])
        .fails(3, "no directory no/such/directory");
    place.run(&["pool", "create", "q", "--size", "64M", "--name", "a/b"]).fails(2, "is no name");
    assert_eq!(place.inventory(), before);
}

#[test]
fn a_pool_in_use_is_refused_and_its_holder_named() {
    let place = Place::new().with_pool();
    let other = Place::new();
    fs::hard_link(place.pool(), place.path("hard")).expect("linked");
    std::os::unix::fs::symlink("p.pool", place.path("soft")).expect("linked");
    let daemon = place.serve(&[]);
    let holder = daemon.process_id().to_string();
    place.run(&["serve", "--socket", "second.sock"]).fails(4, &holder);
    for name in ["p.pool", "hard", "soft"] {
        let path = place.path(name);
        let mut elsewhere = other.command(&["volume", "create", "v", "--size", "1M"]);
        let child = elsewhere.env("OFFSHOOT_POOL", path).spawn().expect("started");
        end(child).fails(4, &holder);
    }
    assert_eq!(place.json(&["ls"])["items"], serde_json::json!([]), "the first is not disturbed");
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    place.ok(&["pool", "check"]);
}

#[test]
fn a_run_directory_that_is_not_private_or_not_in_memory_is_refused() {
    let place = Place::new().with_pool();
    let before = place.inventory();
    let open = tempfile::tempdir_in("/dev/shm").expect("tmpfs");
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    fs::set_permissions(disk.path(), fs::Permissions::from_mode(0o700)).expect("ours");
    for (directory, why) in [(open.path(), "other users may enter"), (disk.path(), "not on tmpfs")] {
        let mut command = place.command(&["volume", "create", "v", "--size", "1M"]);
        end(command.env("OFFSHOOT_RUN_DIR", directory).spawn().expect("started")).fails(1, why);
    }
    assert_eq!(place.inventory(), before);
}

#[test]
fn what_is_no_raw_image_is_not_imported() {
    let place = Place::new().with_pool();
    let before = place.json(&["pool", "status"]);
    fs::write(place.path("empty.raw"), b"").expect("written");
    fs::write(place.path("disk.qcow2"), b"QFI\xfb\0\0\0\x03and so on").expect("written");
    fs::create_dir(place.path("directory")).expect("made");
    let cases = [
        ("missing.raw", 3, "No such file"),
        ("empty.raw", 2, "0 B long"),
        ("disk.qcow2", 2, "is qcow2"),
        ("directory", 2, "neither a file nor a block device"),
        ("/dev/null", 2, "neither a file nor a block device"),
    ];
    for (file, code, why) in cases {
        place.run(&["image", "import", "golden@v1", file]).fails(code, why);
    }
    let disk = place.disk("golden.raw", 1, 7, &[3]);
    let disk = disk.to_str().expect("plain");
    place.run(&["image", "import", "golden", disk]).fails(2, "names no version");
    place.run(&["image", "import", "../golden@v1", disk]).fails(2, "is no name");
    place.run(&["image", "import", "golden@v1", disk, "--base", "golden@v0"]).fails(3, "does not exist");
    assert_eq!(place.json(&["ls"])["items"], serde_json::json!([]));
    assert_eq!(place.json(&["pool", "status"])["mapped"], before["mapped"]);
    place.ok(&["pool", "check"]);
}

/// Imports 128 MiB without holes, stops the program after its first line, and lets `disturb` at the file.
fn import_disturbed(place: &Place, disturb: impl FnOnce(&File)) -> Ended {
    let path = place.path("big.raw");
    fs::write(&path, vec![0x5a; 128 << 20]).expect("written");
    let mut child = place.command(&["image", "import", "golden@v1", "big.raw"]).spawn().expect("started");
    let mut err = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    err.read_line(&mut line).expect("a line");
    assert!(line.contains("%)"), "{line}");
    signal(&child, Signal::STOP);
    disturb(&File::options().write(true).open(&path).expect("there"));
    signal(&child, Signal::CONT);
    std::io::copy(&mut err, &mut std::io::sink()).ok();
    end(child)
}

#[test]
fn an_image_that_changes_or_ends_while_it_is_read_is_not_imported() {
    let place = Place::new().with_pool();
    let mapped = || place.json(&["pool", "status"])["mapped"].clone();
    let before = mapped();
    let disturbances: [fn(&File); 3] = [
        |file| file.set_len(1 << 20).expect("cut"),
        |file| file.set_len(200 << 20).expect("longer"),
        |file| file.write_all_at(b"x", 0).expect("written"),
    ];
    for disturb in disturbances {
        let ended = import_disturbed(&place, disturb);
        assert_eq!(ended.code, Some(1));
        assert_eq!(place.json(&["ls"])["items"], serde_json::json!([]), "nothing of it is left");
        assert_eq!(mapped(), before);
    }
    place.ok(&["pool", "check"]);
}

#[test]
fn a_cancelled_import_leaves_nothing_behind() {
    let place = Place::new().with_pool();
    fs::write(place.path("big.raw"), vec![0x5a; 128 << 20]).expect("written");
    let before = place.json(&["pool", "status"])["mapped"].clone();
    let daemon = place.serve(&[]);
    for daemon in [Some(daemon), None] {
        let mut child = place.command(&["image", "import", "golden@v1", "big.raw"]).spawn().expect("started");
        let mut err = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        err.read_line(&mut line).expect("a line");
        signal(&child, Signal::INT);
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut err, &mut rest).expect("text");
        assert_eq!(end(child).code, Some(1), "{rest}");
        assert!(rest.contains("why: it was cancelled; nothing of it is left"), "{rest}");
        assert_eq!(place.json(&["ls"])["items"], serde_json::json!([]));
        assert_eq!(place.json(&["pool", "status"])["mapped"], before);
        if let Some(daemon) = daemon {
            assert_eq!(daemon.stop().code, Some(0));
        }
    }
    place.ok(&["pool", "check"]);
}

#[test]
fn nothing_is_destroyed_without_being_asked_for() {
    let place = Place::new().with_pool();
    place.ok(&["volume", "create", "v", "--size", "8M"]);
    place.ok(&["snap", "create", "v@one"]);
    place.run(&["rm", "v@one"]).fails(6, "no terminal");
    place.run(&["snap", "rollback", "v@one"]).fails(6, "no terminal");
    place.run(&["volume", "resize", "v", "--size", "4M"]).fails(6, "loses its last 4 MiB");
    place.run(&["image", "rm", "v@one", "--yes"]).fails(2, "is a snapshot, not a version");
    place.run(&["rm", "--yes", "v@one", "nobody"]).fails(3, "nobody does not exist");
    place.run(&["clone", "create", "v@two", "x"]).fails(3, "v@two");
    place.run(&["clone", "create", "v@one", "w", "v"]).fails(4, "exists");
    place.run(&["snap", "create", "v@one"]).fails(4, "exists");
    place.run(&["volume", "create", "v", "--size", "8M"]).fails(4, "exists");
    let names = place.json(&["ls"])["items"].as_array().map(Vec::len);
    assert_eq!(names, Some(2), "all of that changed nothing");
    place.ok(&["pool", "check"]);
}

/// Runs a script with a small tmpfs on `full`.
fn with_small_file_system(place: &Place, script: &str) -> Ended {
    fs::create_dir(place.path("full")).expect("made");
    let whole = format!("mount -t tmpfs -o size=8m tmpfs full || exit 77\n{script}");
    let ended = end(place.in_mount_namespace(&whole).spawn().expect("started"));
    assert_ne!(ended.code, Some(77), "a mount of its own takes root: {}", ended.err);
    ended
}

#[test]
fn a_pool_on_a_full_file_system_is_not_made_and_nothing_stays() {
    let place = Place::new();
    let script = "dd if=/dev/zero of=full/ballast bs=4096 2> /dev/null\n\
        $OFFSHOOT pool create full/p.pool --size 64M; code=$?; ls full; exit $code";
    let Ended { code, out, err } = with_small_file_system(&place, script);
    assert_eq!(out, "ballast\n", "{err}");
    assert!(matches!(code, Some(1 | 5)), "{code:?} {err}");
    assert_eq!(err.lines().count(), 3, "{err}");
}

#[test]
fn a_read_only_file_system_is_reported_and_can_still_be_looked_at() {
    let place = Place::new();
    let script = "dd if=/dev/null of=full/x 2> /dev/null\n\
        mount -o remount,size=256m full && $OFFSHOOT pool create full/p.pool --size 64M 2> /dev/null || exit 78\n\
        export OFFSHOOT_POOL=full/p.pool\n\
        mount -o remount,ro full || exit 79\n\
        $OFFSHOOT ls > /dev/null || exit 80\n\
        $OFFSHOOT pool create full/q.pool --size 64M 2> /dev/null && exit 81\n\
        $OFFSHOOT volume create v --size 1M";
    let Ended { code, err, .. } = with_small_file_system(&place, script);
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(err.lines().count(), 3, "{err}");
    assert!(err.contains("ead-only"), "{err}");
}

#[test]
fn a_door_that_would_be_open_to_others_is_not_opened() {
    let place = Place::new().with_pool();
    for address in ["0.0.0.0:10809", "192.0.2.1:10809", "[::]:10809"] {
        place.run(&["serve", "--socket", "nbd.sock", "--tcp", address]).fails(2, "loopback");
    }
    place.run(&["serve", "--socket", "no/such/directory/nbd.sock"]).fails(1, "No such file");
    fs::write(place.path("precious"), "data").expect("written");
    place.run(&["serve", "--socket", "precious"]).fails(1, "");
    assert_eq!(fs::read(place.path("precious")).expect("there"), b"data");
    place.ok(&["pool", "check"]);
}
