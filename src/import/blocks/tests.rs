use super::{BlockTable, Blocks, Geometry, MIB};
use crate::import::map::{Place, Run};
use crate::import::source_file::SourceFile;
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use std::fs::File;
use std::os::unix::fs::FileExt;
use tempfile::NamedTempFile;

const TABLE: u64 = 3 * MIB;
const FIRST_FREE: u64 = 4;

/// A file of so many mebibytes with these entries; everything before the first free mebibyte is taken.
fn file(entries: &[u64], mebibytes: u64) -> (NamedTempFile, SourceFile) {
    let named = NamedTempFile::new().expect("a file");
    let file: &File = named.as_file();
    file.set_len(mebibytes * MIB).expect("a length");
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    file.write_all_at(&bytes, TABLE).expect("written");
    let source = SourceFile::open(named.path(), "x").expect("a file");
    (named, source)
}

fn table(geometry: Geometry) -> BlockTable {
    let parts = vec![0..MIB, MIB..2 * MIB, 2 * MIB..TABLE, TABLE..FIRST_FREE * MIB];
    BlockTable::new(geometry, TABLE..FIRST_FREE * MIB, parts).expect("a table that is long enough")
}

fn geometry(blocks: u64) -> Geometry {
    Geometry { disk_bytes: blocks * MIB, block_bytes: MIB, sector_bytes: 512 }
}

fn runs(geometry: Geometry, entries: &[u64], mebibytes: u64) -> Result<Vec<Run>, String> {
    let (_named, source) = file(entries, mebibytes);
    let table = table(geometry);
    let mut blocks = Blocks::new(&source, &table, "x");
    let mut runs = Vec::new();
    while let Some(run) = blocks.next().map_err(|failure| failure.why)? {
        runs.push(run);
    }
    Ok(runs)
}

fn at(mebibyte: u64) -> Place {
    Place::File { index: 0, offset: mebibyte * MIB }
}

fn present(mebibyte: u64) -> u64 {
    mebibyte * MIB + 6
}

#[test]
fn blocks_that_follow_each_other_are_one_run() {
    let entries = [present(4), present(5), 0, 2, 3, present(7), present(6), 1];
    let expected = [(2, at(4)), (3, Place::Zero), (1, at(7)), (1, at(6)), (1, Place::Zero)];
    let expected = expected.map(|(mebibytes, place)| Run { length: mebibytes * MIB, place });
    assert_eq!(runs(geometry(8), &entries, 8).expect("good"), expected);
}

#[test]
fn a_disk_may_end_inside_of_its_last_block_and_the_file_with_it() {
    let geometry = Geometry { disk_bytes: 9 * MIB + 512, block_bytes: 8 * MIB, sector_bytes: 512 };
    let entries = [present(4), present(12)];
    let run = Run { length: 9 * MIB + 512, place: at(4) };
    assert_eq!(runs(geometry, &entries, 14).expect("good"), [run]);
    let why = runs(geometry, &entries, 13).expect_err("cut");
    assert!(why.ends_with("block 1 of its disk lies behind the file's end, at byte 12582912"), "{why}");
}

#[test]
fn entries_of_bitmaps_are_skipped() {
    // Sixteen of these blocks have one.
    let geometry = Geometry { disk_bytes: 17 << 28, block_bytes: 1 << 28, sector_bytes: 512 };
    let mut entries = [0; 18];
    (entries[16], entries[17]) = (u64::MAX, present(4));
    let expected = [Run { length: 16 << 28, place: Place::Zero }, Run { length: 1 << 28, place: at(4) }];
    assert_eq!(runs(geometry, &entries, 260).expect("good"), expected);
    let larger = Geometry { sector_bytes: 4096, ..geometry };
    let why = runs(larger, &entries, 260).expect_err("the entry is a block's");
    assert!(why.contains("block 16 of its disk"), "{why}");
}

#[test]
fn an_entry_that_is_wrong_is_named() {
    let cases = [
        (present(0), "lies where something else lies, at byte 0"),
        (present(3), "lies where something else lies, at byte 3145728"),
        (present(4), "lies where something else lies, at byte 4194304"),
        (present(8), "lies behind the file's end, at byte 8388608"),
        (u64::MAX << 20 | 6, "lies behind the file's end"),
        (present(5) | 8, "has an entry of nonsense"),
        (present(5) | 1 << 19, "has an entry of nonsense"),
        (present(5) | 1, "is partly in a parent, and there is none"),
        (4, "is in a state that nobody knows"),
    ];
    for (entry, expected) in cases {
        let why = runs(geometry(3), &[present(4), 0, entry], 8).expect_err(expected);
        assert!(why.contains("is not whole: block 2 of its disk ") && why.contains(expected), "{why}");
    }
}

#[test]
fn a_table_is_long_enough_for_its_disk() {
    let table = |blocks| BlockTable::new(geometry(blocks), TABLE..TABLE + MIB, Vec::new());
    // Behind each 4096 entries of blocks there is one of a bitmap, if another block follows.
    let most = MIB / 8 - 31;
    assert!(table(most).is_some());
    assert_eq!(table(most + 1), None);
}

#[test]
fn a_table_that_ends_while_it_is_read_says_so() {
    let entries: Vec<u64> = vec![0; 9000];
    let (named, source) = file(&entries, 8);
    let table = table(geometry(9000));
    let mut blocks = Blocks::new(&source, &table, "x");
    named.as_file().set_len(TABLE + 5000 * 8).expect("cut");
    let failure = blocks.next().expect_err("cut");
    assert!(failure.why.ends_with("ended early, inside of its table of blocks"), "{failure}");
}

proptest! {
    /// Whatever a table says, what is read is inside of the file, once, and where nothing else is.
    #[test]
    fn any_table_is_refused_or_makes_a_disk_of_what_the_file_has(
        entries in prop::collection::vec(
            prop_oneof![1 => any::<u64>(), 20 => 0_u64..4, 60 => (4_u64..40).prop_map(present)],
            1..8,
        ),
        missing_sectors in 0_u64..2048,
    ) {
        let blocks = u64::try_from(entries.len()).expect("few");
        let geometry = Geometry { disk_bytes: blocks * MIB - missing_sectors * 512, ..geometry(blocks) };
        if let Ok(runs) = runs(geometry, &entries, 40) {
            prop_assert_eq!(runs.iter().map(|run| run.length).sum::<u64>(), geometry.disk_bytes);
            let mut places: Vec<_> = runs.iter().filter_map(|run| match run.place {
                Place::File { offset, .. } => Some(offset..offset + run.length),
                _ => None,
            }).collect();
            places.sort_by_key(|place| place.start);
            prop_assert!(places.iter().all(|place| place.start >= FIRST_FREE * MIB && place.end <= 40 * MIB));
            prop_assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start));
        }
    }
}
