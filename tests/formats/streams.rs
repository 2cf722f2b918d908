//! Compressed raw disks, whose size only their end tells.

use crate::cli_program::Place;
use crate::imports::assert_same_raw;
use crate::measured::modestly;
use crate::{disk, path};
use std::fs;

const MIB: u64 = 1 << 20;

/// Compressed by the programs everybody uses; gives the file's path.
fn compressed(place: &Place, raw: &str, format: &str) -> String {
    let file = path(&place.path(&format!("disk.{format}"))).to_owned();
    let program = if format == "raw.gz" { "gzip" } else { "zstd" };
    let output = std::process::Command::new(program).args(["-c", "-1", raw]).output().expect("it runs");
    assert!(output.status.success());
    fs::write(&file, output.stdout).expect("written");
    file
}

#[test]
fn a_stream_is_imported_bit_for_bit_and_grows_and_shrinks_its_version() {
    let place = Place::new().with_pool();
    let large = disk::mixed(&place, "large.raw", 90 * MIB + 4096, 1);
    let small = disk::mixed(&place, "small.raw", 20 * MIB + 512, 1);
    for (format, image) in [("raw.gz", "gz"), ("raw.zst", "zst")] {
        for (version, raw) in [("v1", &large), ("v2", &small), ("v3", &large)] {
            let version = format!("{image}@{version}");
            let file = compressed(&place, raw, format);
            let view = place.json(&["image", "import", &version, &file, "--format", format]);
            let size = fs::metadata(raw).expect("there").len().next_multiple_of(4096);
            assert_eq!(view["size"], size, "{version}");
            assert_same_raw(&place, raw, &version);
        }
        let view = place.json(&["ls"]);
        assert!(view["items"].as_array().expect("a list").iter().all(|item| item["kind"] == "version"));
    }
    place.ok(&["pool", "check"]);
}

#[test]
fn a_stream_of_several_members_is_one_disk() {
    let place = Place::new().with_pool();
    let raw = disk::mixed(&place, "disk.raw", 12 * MIB, 3);
    let bytes = fs::read(&raw).expect("there");
    for format in ["raw.gz", "raw.zst"] {
        let mut all = Vec::new();
        for (number, part) in bytes.chunks(5 << 20).enumerate() {
            let name = path(&place.path(&format!("part{number}"))).to_owned();
            fs::write(&name, part).expect("written");
            all.extend(fs::read(compressed(&place, &name, format)).expect("there"));
        }
        let file = place.path("joined");
        fs::write(&file, all).expect("written");
        let version = format!("{}@v1", format.replace('.', "-"));
        place.ok(&["image", "import", &version, path(&file), "--format", format]);
        assert_same_raw(&place, &raw, &version);
    }
}

#[test]
fn a_stream_that_is_cut_or_wrong_is_refused_and_leaves_nothing_behind() {
    let place = Place::new().with_pool();
    let before = place.json(&["pool", "status"])["mapped"].clone();
    let raw = disk::mixed(&place, "disk.raw", 12 * MIB, 3);
    for format in ["raw.gz", "raw.zst"] {
        let whole = fs::read(compressed(&place, &raw, format)).expect("there");
        let mut wrong = whole.clone();
        let middle = whole.len() / 2;
        wrong[middle..middle + 64].fill(0xa5);
        let flawed = [whole[..whole.len() - 9].to_vec(), whole[..2].to_vec(), wrong, b"no stream".to_vec()];
        for bytes in flawed {
            fs::write(place.path("flawed"), bytes).expect("written");
            let import = ["image", "import", "golden@v1", "flawed", "--format", format];
            modestly(|| place.run(&import)).fails(1, &format!("is no whole {format}"));
        }
    }
    assert_eq!(place.json(&["ls"])["items"], serde_json::json!([]));
    assert_eq!(place.json(&["pool", "status"])["mapped"], before);
    place.ok(&["pool", "check"]);
}

/// A megabyte that becomes a gigabyte of zeros: no space, and no more than is allowed.
#[test]
fn a_bomb_of_zeros_takes_no_space_and_ends_where_it_is_told_to() {
    let place = Place::new().with_pool();
    let raw = path(&place.path("zeros.raw")).to_owned();
    fs::File::create(&raw).and_then(|file| file.set_len(1 << 30)).expect("made");
    for format in ["raw.gz", "raw.zst"] {
        let file = compressed(&place, &raw, format);
        let import = ["image", "import", "golden@v1", &file, "--format", format];
        let limited = [&import[..], &["--size-max", "64M"]].concat();
        modestly(|| place.run(&limited)).fails(2, "holds more than 64 MiB");
        let view = modestly(|| place.json(&import));
        assert_eq!((&view["stored"], &view["size"]), (&0.into(), &(1_u64 << 30).into()));
        place.ok(&["image", "rm", "--yes", "golden@v1"]);
    }
    place.ok(&["pool", "check"]);
}

/// RFC 8878: a frame whose header asks for 2 GiB of window, and a block of one byte.
#[test]
fn a_stream_that_asks_for_gigabytes_of_memory_is_refused() {
    let place = Place::new().with_pool();
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3, 0b1001, 0, 0, 7];
    fs::write(place.path("window.zst"), frame).expect("written");
    let import = ["image", "import", "golden@v1", "window.zst", "--format", "raw.zst"];
    modestly(|| place.run(&import)).fails(1, "too much memory");
}
