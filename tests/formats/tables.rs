//! qcow2 images whose header is good and whose inside is not: what is beyond it is read by a contained process, which may
//! refuse or misread it, but neither hang nor grow nor look elsewhere.

use crate::hostile::{Attack, MIB};

const CLUSTER: u64 = 64 << 10;

fn at(attack: &Attack, offset: u64) -> u64 {
    let offset = usize::try_from(offset).expect("small");
    u64::from_be_bytes(attack.bytes()[offset..offset + 8].try_into().expect("eight"))
}

const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const OWNED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;

/// The table that maps the first half gibibyte.
fn map(attack: &Attack) -> u64 {
    let first = at(attack, 40);
    at(attack, first) & OFFSET
}

#[test]
fn a_table_that_is_its_own_table_is_refused() {
    let attack = Attack::qcow2();
    let first = at(&attack, 40);
    attack.patch(first, &(first | OWNED).to_be_bytes());
    attack.fails(1, "is not whole");
}

#[test]
fn clusters_that_are_not_there_are_refused() {
    for entry in [1_u64 << 40, OFFSET, 17 * CLUSTER + 512] {
        let attack = Attack::qcow2();
        attack.patch(map(&attack), &(entry | OWNED).to_be_bytes());
        attack.fails(1, "is not whole");
    }
}

/// All clusters are the header: what would otherwise be a small image of a large disk full of one cluster's bytes.
#[test]
fn clusters_that_are_used_many_times_are_refused() {
    let attack = Attack::qcow2();
    attack.patch(map(&attack), &((2 * CLUSTER) | OWNED).to_be_bytes().repeat(256));
    attack.fails(1, "is not whole");
}

#[test]
fn compressed_clusters_of_nonsense_are_refused() {
    for entry in [CLUSTER | COMPRESSED, OFFSET | COMPRESSED, !OWNED] {
        let attack = Attack::new("qcow2", &["-c"]);
        attack.patch(map(&attack), &entry.to_be_bytes().repeat(100));
        attack.fails(1, "");
    }
    let attack = Attack::new("qcow2", &["-c"]);
    let entries = (0..256).map(|number| at(&attack, map(&attack) + number * 8));
    let compressed = entries.into_iter().find(|entry| entry & COMPRESSED != 0).expect("text is compressed");
    attack.patch((compressed & ((1 << 54) - 1)) + 20, &[0xa5; 64]);
    attack.fails(1, "cannot read");
}

#[test]
fn references_that_are_counted_wrong_are_refused() {
    let attack = Attack::qcow2();
    let counts = at(&attack, 48);
    attack.patch(counts, &(1_u64 << 50).to_be_bytes());
    attack.fails(1, "is not whole");
    let attack = Attack::qcow2();
    attack.patch(at(&attack, 48), &at(&attack, 48).to_be_bytes());
    attack.fails(1, "is not whole");
}

/// CVE-2014-0145 and its like: a table of snapshots whose fields reach beyond everything.
#[test]
fn snapshots_of_nonsense_are_refused() {
    let attack = Attack::qcow2();
    let end = u64::try_from(attack.bytes().len()).expect("small").next_multiple_of(CLUSTER);
    attack.cut(end + CLUSTER);
    for (count, fill) in [(1_u32, 0xff_u8), (100, 0xff), (1000, 0)] {
        attack.patch(60, &count.to_be_bytes());
        attack.patch(64, &end.to_be_bytes());
        attack.patch(end, &vec![fill; usize::try_from(CLUSTER).expect("small")]);
        attack.fails(1, "");
    }
}

/// Half of a download is no image, whichever half.
#[test]
fn what_lacks_its_end_is_refused() {
    for length in [4 * MIB, CLUSTER, 200, 50, 3] {
        let attack = Attack::qcow2();
        attack.cut(length);
        attack.fails(1, "");
    }
}

/// A file as long as files get, which takes no space: what is counted per cluster must not be counted here.
#[test]
fn a_file_that_is_mostly_a_hole_takes_no_memory() {
    let attack = Attack::qcow2();
    attack.cut(1 << 43);
    attack.ends();
}
