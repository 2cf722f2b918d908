//! VHDX, whose table of blocks is read here: images of every kind, and images in which one number is wrong.

use crate::cli_program::{Place, end};
use crate::hostile::{Attack, MIB};
use crate::imports::assert_same;
use crate::{disk, path, tool};
use std::process::Output;

const KIB: u64 = 1 << 10;
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const REGIONS: [u64; 2] = [192 * KIB, 256 * KIB];
/// Where qemu-img puts them.
const TABLE: u64 = 2 * MIB;
const METADATA: u64 = 3 * MIB;
/// Images damaged by chance.
const ROUNDS: u64 = 24;
/// Where a region's entry has what.
const OFFSET: u64 = 16;
const LENGTH: u64 = 24;

#[test]
fn disks_of_every_size_and_blocks_of_every_size_are_imported_bit_for_bit() {
    let place = Place::new().with_pool();
    let sizes = [24 * MIB + 512, 33 * MIB + 4096 + 1024];
    for (number, size) in sizes.into_iter().enumerate() {
        let raw = disk::mixed(&place, "disk.raw", size, 3);
        for options in
            ["subformat=fixed", "subformat=dynamic", "block_size=1M", "block_size=32M", "log_size=3M"]
        {
            let image = path(&place.path("image.vhdx")).to_owned();
            tool("qemu-img", &["convert", "-f", "raw", "-O", "vhdx", "-o", options, &raw, &image]);
            let version = format!("golden{number}@{}", options.replace('=', "-"));
            place.ok(&["image", "import", &version, &image, "--format", "vhdx", "--no-base"]);
            assert_same(&place, &image, "vhdx", &version);
        }
    }
    place.ok(&["pool", "check"]);
}

/// Behind 16 blocks of 256 MiB the table has an entry that belongs to none of them. Blocks lie in the order they were written in.
#[test]
fn a_sparse_disk_of_large_blocks_is_imported_bit_for_bit() {
    let place = Place::new().with_pool();
    let image = path(&place.path("image.vhdx")).to_owned();
    for (size, block) in [("4400M", "256M"), ("6G", "1M")] {
        let option = format!("block_size={block}");
        tool("qemu-img", &["create", "-q", "-f", "vhdx", "-o", &option, &image, size]);
        let writes = ["write -P 7 4300M 64k", "write -P 8 5M 1M", "write -P 9 0 4k", "write -z 5M 64k"];
        let writes: Vec<&str> = writes.into_iter().flat_map(|write| ["-c", write]).collect();
        tool("qemu-io", &[&["-f", "vhdx"], &writes[..], &[&image]].concat());
        let view = place.json(&["image", "import", "golden@v1", &image, "--format", "vhdx", "--no-base"]);
        assert_eq!(view["stored"], (1_u64 << 20) + 4096, "zeros of blocks are not stored");
        assert_same(&place, &image, "vhdx", "golden@v1");
        place.ok(&["image", "rm", "--yes", "golden@v1"]);
    }
}

#[test]
fn nothing_serves_a_vhdx_that_is_all_there_is() {
    let place = Place::new().with_pool();
    let raw = disk::mixed(&place, "disk.raw", 16 * MIB, 4);
    let image = path(&place.path("image.vhdx")).to_owned();
    tool("qemu-img", &["convert", "-f", "raw", "-O", "vhdx", &raw, &image]);
    let programs = place.path("programs");
    std::fs::create_dir(&programs).expect("made");
    std::os::unix::fs::symlink("/usr/bin/qemu-img", programs.join("qemu-img")).expect("made");
    let mut command = place.command(&["image", "import", "golden@v1", &image, "--format", "vhdx"]);
    end(command.env("PATH", &programs).spawn().expect("started")).ok();
    assert_same(&place, &image, "vhdx", "golden@v1");
}

/// A chain is served: who is beneath decides what a block that is not there reads as.
#[test]
fn a_vhdx_beneath_another_image_is_imported_bit_for_bit() {
    let place = Place::new().with_pool();
    let raw = disk::mixed(&place, "disk.raw", 16 * MIB, 5);
    let [base, top] = ["base.vhdx", "top.qcow2"].map(|name| path(&place.path(name)).to_owned());
    tool("qemu-img", &["convert", "-f", "raw", "-O", "vhdx", &raw, &base]);
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "vhdx", "-b", &base, &top]);
    tool("qemu-io", &["-f", "qcow2", "-c", "write -P 1 1M 100k", &top]);
    place.ok(&["image", "import", "golden@v1", &top, "--format", "qcow2", "--backing", &base]);
    assert_same(&place, &top, "qcow2", "golden@v1");
}

fn find(attack: &Attack, bytes: &[u8]) -> u64 {
    let found = attack.bytes().windows(bytes.len()).position(|window| window == bytes);
    u64::try_from(found.expect("in the image")).expect("small")
}

#[test]
fn an_image_with_a_parent_is_refused() {
    let attack = Attack::new("vhdx", &[]);
    // File parameters lie at the start of what the metadata's table tells of.
    let metadata = find(&attack, b"metadata");
    let parameters = [0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d];
    let entry = usize::try_from(find(&attack, &parameters)).expect("small");
    let offset = u32::from_le_bytes(attack.bytes()[entry + 16..entry + 20].try_into().expect("four"));
    attack.patch(metadata + u64::from(offset) + 4, &[2]);
    attack.fails(2, "differs from another disk");
    let attack = Attack::new("vhdx", &[]);
    let locator =
        [0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c];
    attack.patch(metadata + 32, &locator);
    attack.fails(2, "differs from another disk");
}

/// Makes the checksums of a header or a table of regions right.
fn seal(attack: &Attack, offset: u64) {
    let start = usize::try_from(offset).expect("small");
    let length = if HEADERS.contains(&offset) { 4096 } else { 64 << 10 };
    let mut bytes = attack.bytes()[start..start + length].to_vec();
    bytes[4..8].fill(0);
    attack.patch(offset + 4, &crc32c::crc32c(&bytes).to_le_bytes());
}

/// An image with these bytes changed in both of two copies.
fn changed(copies: [u64; 2], within: u64, bytes: &[u8]) -> Attack {
    let attack = Attack::new("vhdx", &[]);
    for copy in copies {
        attack.patch(copy + within, bytes);
        seal(&attack, copy);
    }
    attack
}

#[test]
fn a_header_that_makes_no_sense_is_refused() {
    let cases: [(u64, Vec<u8>, i32, &str); 8] = [
        (0, b"dead".to_vec(), 1, "no header that is whole"),
        (48, vec![7; 16], 2, "its log has to be replayed"),
        (64, vec![1, 0], 1, "a log of version 1"),
        (66, vec![2, 0], 1, "has version 2"),
        (68, vec![0; 4], 1, "has its log where none can be"),
        (68, vec![0xff; 4], 1, "ends before its log"),
        (72, vec![0xff; 8], 1, "ends before its log"),
        (72, (2 * MIB).to_le_bytes().to_vec(), 1, "has two of its parts at byte 2097152"),
    ];
    for (within, bytes, code, why) in cases {
        changed(HEADERS, within, &bytes).fails(code, why);
    }
    let attack = Attack::new("vhdx", &[]);
    HEADERS.iter().for_each(|header| attack.patch(*header + 100, b"x"));
    attack.fails(1, "no header that is whole");
    attack.patch(0, b"x");
    attack.fails(2, "is not vhdx");
    let attack = changed(HEADERS, 8, &[9; 8]);
    attack.patch(HEADERS[0] + 16, &[1; 16]);
    seal(&attack, HEADERS[0]);
    attack.fails(1, "two headers that differ and are both number 651061555542690057");
}

/// Where the entry of a region begins: the one whose offset is this.
fn region(attack: &Attack, offset: u64) -> u64 {
    let entries = [16, 48];
    let is_it = |entry: &u64| {
        let at = usize::try_from(REGIONS[0] + entry + OFFSET).expect("small");
        attack.bytes()[at..at + 8] == offset.to_le_bytes()
    };
    entries.into_iter().find(is_it).expect("it has one")
}

/// What the table says of the first block.
fn first_entry(attack: &Attack) -> u64 {
    let at = usize::try_from(TABLE).expect("small");
    let entry = u64::from_le_bytes(attack.bytes()[at..at + 8].try_into().expect("eight"));
    assert_eq!(entry & 7, 6, "the disk begins with noise");
    entry
}

#[test]
fn regions_that_make_no_sense_are_refused() {
    let attack = Attack::new("vhdx", &[]);
    let (table, metadata) = (region(&attack, TABLE), region(&attack, METADATA));
    let far = (1_u64 << 62).to_le_bytes();
    let cases: [(u64, &[u8], i32, &str); 15] = [
        (0, b"dead", 1, "no table of regions that is whole"),
        (8, &[0xff; 4], 1, "has 4294967295 regions"),
        (8, &[0; 4], 1, "has no metadata"),
        (table, &[7; 16], 1, "has no table of blocks"),
        (table + OFFSET, &far, 1, "ends before its table of blocks"),
        (table + OFFSET, &[0xff; 8], 1, "ends before its table of blocks"),
        (table + OFFSET, &[0; 8], 1, "has its table of blocks where none can be"),
        (table + OFFSET, &[1], 1, "has its table of blocks where none can be"),
        (table + OFFSET, &METADATA.to_le_bytes(), 1, "has two of its parts at byte 3145728"),
        (table + LENGTH, &[0; 4], 1, "has its table of blocks where none can be"),
        (table + LENGTH, &[0xff; 4], 1, "ends before its table of blocks"),
        (metadata + OFFSET, &far, 1, "ends before its metadata"),
        (metadata + OFFSET, &MIB.to_le_bytes(), 1, "has no table of metadata where it should be"),
        (metadata + LENGTH, &[1, 0, 0, 0], 1, "has its metadata where none can be"),
        (table + LENGTH, &[0, 0, 32, 0], 1, "has two of its parts at byte 3145728"),
    ];
    for (within, bytes, code, why) in cases {
        changed(REGIONS, within, bytes).fails(code, why);
    }
    let attack = Attack::new("vhdx", &[]);
    REGIONS.iter().for_each(|copy| attack.patch(*copy + 8, &[0xff; 4]));
    attack.fails(1, "no table of regions that is whole");
    let id = attack.bytes()[usize::try_from(REGIONS[0] + table).expect("small")..][..16].to_vec();
    changed(REGIONS, metadata, &id).fails(1, "has its table of blocks twice");
    // Nobody knows this one, and it lies where the first block does.
    for (required, code, why) in [(1, 2, "needs a region that nobody knows"), (0, 1, "is not whole")] {
        let attack = changed(REGIONS, 8, &[3]);
        let place = first_entry(&attack) - 6;
        for copy in REGIONS {
            attack.patch(copy + 80, &[7; 16]);
            attack.patch(copy + 80 + OFFSET, &place.to_le_bytes());
            attack.patch(copy + 80 + LENGTH, &[0, 0, 16, 0, required]);
            seal(&attack, copy);
        }
        attack.fails(code, why);
    }
}

#[test]
fn metadata_that_makes_no_sense_is_refused() {
    let good = Attack::new("vhdx", &[]);
    let entry = |id: &[u8]| find(&good, id);
    let item = |entry: u64| {
        let at = usize::try_from(entry + 16).expect("small");
        METADATA + u64::from(u32::from_le_bytes(good.bytes()[at..at + 4].try_into().expect("four")))
    };
    let parameters = entry(&[0x37, 0x67, 0xa1, 0xca]);
    let size = entry(&[0x24, 0x42, 0xa5, 0x2f]);
    let sectors = entry(&[0x1d, 0xbf, 0x41, 0x81]);
    let cases: [(u64, &[u8], i32, &str); 18] = [
        (METADATA, b"x", 1, "no table of metadata"),
        (METADATA + 10, &[0xff; 2], 1, "has 65535 items of metadata"),
        (METADATA + 10, &[0; 2], 1, "lacks a part of its metadata"),
        (parameters, &[7; 16], 2, "needs an item of metadata that nobody knows"),
        (parameters + 16, &[0xff; 4], 1, "has an item of metadata outside of it"),
        (parameters + 16, &[0; 4], 1, "has an item of metadata outside of it"),
        (parameters + 20, &[7], 1, "has an item of metadata of 7 bytes for 8"),
        (parameters + 20, &[0xff; 4], 1, "has an item of metadata outside of it"),
        (item(parameters), &[0; 4], 1, "has blocks of 0 bytes"),
        (item(parameters), &[0, 0, 24, 0], 1, "has blocks of 1572864 bytes"),
        (item(parameters), &[0, 0, 0, 0x20], 1, "has blocks of 536870912 bytes"),
        (item(parameters) + 4, &[2], 2, "differs from another disk"),
        (item(size), &[0; 8], 1, "is empty"),
        (item(size), &[1], 1, "has a disk of 16777217 bytes"),
        (item(size), &[0xff; 8], 1, "has a disk of 18446744073709551615 bytes"),
        (item(size), &(1_u64 << 42).to_le_bytes(), 1, "too few for the blocks of its disk"),
        (item(sectors), &[0; 4], 1, "has sectors of 0 bytes"),
        (sectors + 20, &[0; 4], 1, "has an item of metadata of 0 bytes for 4"),
    ];
    for (offset, bytes, code, why) in cases {
        let attack = Attack::new("vhdx", &["-o", "block_size=1M"]);
        attack.patch(offset, bytes);
        attack.fails(code, why);
    }
    let attack = Attack::new("vhdx", &[]);
    let id = attack.bytes()[usize::try_from(parameters).expect("small")..][..16].to_vec();
    attack.patch(size, &id);
    attack.fails(1, "has an item of its metadata twice");
}

#[test]
fn a_block_that_is_elsewhere_is_refused() {
    let good = Attack::new("vhdx", &["-o", "block_size=1M"]);
    let first = first_entry(&good);
    let length = u64::try_from(good.bytes().len()).expect("small").next_multiple_of(MIB);
    let cases =
        [6, MIB + 6, METADATA + 6, TABLE + 6, length + 6, (1 << 60) + 6, u64::MAX, first + 8, first + 1, 4];
    for entry in cases {
        let attack = Attack::new("vhdx", &["-o", "block_size=1M"]);
        attack.patch(TABLE, &entry.to_le_bytes());
        attack.fails(1, "is not whole");
    }
    let attack = Attack::new("vhdx", &["-o", "block_size=1M"]);
    attack.patch(TABLE, &first.to_le_bytes().repeat(2));
    attack.fails(1, "block 1 of its disk lies where something else lies");
    for state in [0, 1, 2, 3] {
        let attack = Attack::new("vhdx", &["-o", "block_size=1M"]);
        attack.patch(TABLE, &(first - 6 + state).to_le_bytes());
        attack.succeeds();
    }
}

/// Bytes changed anywhere where an image tells of itself: it is imported as qemu-img reads it, or refused.
#[test]
fn a_damaged_image_is_refused_or_read_as_qemu_reads_it() {
    let attack = Attack::new("vhdx", &["-o", "block_size=1M"]);
    let good = attack.bytes();
    let places = [0, HEADERS[0], HEADERS[1], REGIONS[0], REGIONS[1], METADATA, METADATA + 64 * KIB, TABLE];
    let mut imported = 0;
    for round in 0..ROUNDS {
        std::fs::write(&attack.image, &good).expect("written");
        let noise = disk::noise(12, round);
        let place = places[usize::from(noise[0]) % places.len()];
        for change in noise[1..9].chunks(4).take(1 + usize::from(noise[9] % 2)) {
            attack.patch(place + u64::from(change[0] % 160), &change[1..1 + usize::from(change[2] % 3)]);
        }
        if noise[10].is_multiple_of(2) {
            HEADERS.into_iter().chain(REGIONS).for_each(|copy| seal(&attack, copy));
        }
        let raw = path(&attack.place.path("theirs.raw")).to_owned();
        let theirs = convert(&attack.image, &raw);
        let import = ["image", "import", "golden@v1", &attack.image, "--format", "vhdx"];
        let ended = crate::measured::modestly(|| attack.place.run(&import));
        if ended.code == Some(0) {
            assert!(theirs.status.success(), "round {round}");
            crate::imports::assert_same_raw(&attack.place, &raw, "golden@v1");
            attack.place.ok(&["image", "rm", "--yes", "golden@v1"]);
            attack.place.ok(&["pool", "settle"]);
            imported += 1;
        } else {
            assert!(ended.code == Some(1) || ended.code == Some(2), "round {round}: {ended:?}");
        }
        attack.nothing_is_left();
    }
    assert!((1..ROUNDS).contains(&imported), "{imported} of {ROUNDS} were imported");
}

fn convert(image: &str, raw: &str) -> Output {
    let arguments = ["convert", "-f", "vhdx", "-O", "raw", image, raw];
    std::process::Command::new("qemu-img").args(arguments).output().expect("it runs")
}

#[test]
fn what_lacks_its_end_is_refused() {
    let attack = Attack::new("vhdx", &[]);
    for length in [10 * MIB, 3 * MIB, 200 << 10, 70 << 10, 9] {
        attack.cut(length);
        attack.fails(1, "");
    }
}
