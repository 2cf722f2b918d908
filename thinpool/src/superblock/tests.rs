//! Claims about superblocks.

use super::choose::Choice;
use super::codec::{CHECKSUM, VERSION};
use super::features::Bits;
use super::{CopyDamage, Features, Further, Opener, State, Superblock, SuperblockError, choose};
use crate::geometry::{Geometry, GeometryOptions, superblock_places};
use crate::ids::DeviceId;
use crate::journal::{BatchNumber, Position};
use cow_tree::Pointer;
use cow_tree::units::{BlockAddress, Generation, PoolId, Tag};
use proptest::prelude::{any, proptest};

const POOL: PoolId = PoolId([3; 16]);
type Disk = [[u8; 4096]; 4];

fn superblock(generation: u64) -> Superblock {
    let options = GeometryOptions { journal_blocks: Some(8), group_blocks: Some(32) };
    let geometry = Geometry::plan(128 * 4096, options).expect("128 blocks are enough");
    let root = |block, level| {
        let tag = Tag { line: 1, sequence: 2 };
        Some(Pointer { address: BlockAddress(block), tag, checksum: 0xdead_beef, low: 7, level })
    };
    Superblock {
        generation: Generation(generation),
        state: State::Serving,
        incarnation: [4; 16],
        boot_id: [5; 16],
        opener: Opener::new(4711, "host-1"),
        journal: Position { number: BatchNumber(9), block: 6 },
        last_sequence: 77,
        next_layer: 12,
        next_line: 11,
        catalog_root: root(20, 1),
        group_table_root: root(21, 0),
        ..Superblock::of_new_pool(POOL, &geometry)
    }
}

fn write(disk: &mut Disk, superblock: &Superblock) {
    for (home, page) in superblock.copies() {
        disk[index(home)] = page;
    }
}

fn index(home: BlockAddress) -> usize {
    usize::try_from(home.in_device() - 1).expect("one of four")
}

fn disk(generations: &[u64]) -> Disk {
    let mut disk = [[0; 4096]; 4];
    generations.iter().for_each(|generation| write(&mut disk, &superblock(*generation)));
    disk
}

fn read(disk: &Disk) -> Result<Choice, SuperblockError> {
    let [first, second, third, fourth] = superblock_places();
    choose(POOL, [(first, &disk[0]), (second, &disk[1]), (third, &disk[2]), (fourth, &disk[3])])
}

fn reseal(page: &mut [u8; 4096]) {
    let checksum = CHECKSUM.checksum(page);
    CHECKSUM.put_u32(page, checksum);
}

#[test]
fn a_superblock_is_these_bytes() {
    let [(home, page), _] = superblock(6).copies();
    assert_eq!(home, BlockAddress(1));
    assert_eq!(&page[..12], b"OFSTSUPR\x01\0\0\0");
    assert_eq!(page[12..16], GOLDEN_CHECKSUM);
    assert_eq!(page[32..48], [1, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(page[48..80], [[0; 28].as_slice(), &[2, 0, 0, 0]].concat());
    assert_eq!(page[112..120], [0x67, 0x12, 0, 0, 6, 0, 0, 0]);
    assert_eq!(&page[120..128], b"host-1\0\0");
    assert_eq!(page[184..200], [9, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 11, 0, 0, 0]);
    assert_eq!(page[216..224], [20, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(page[224..248], *b"\x01\0\0\0\x02\0\0\0\x07\0\0\0\0\0\0\0\xef\xbe\xad\xde\x01\0\0\0");
    assert_eq!(page[280..312], [0; 32]);
    assert_eq!(page[312..320], [128, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(page[336..344], [32, 0, 0, 0, 0, 0, 0, 0]);
}
const GOLDEN_CHECKSUM: [u8; 4] = [219, 203, 213, 216];

#[test]
fn a_counter_at_its_end_is_damage() {
    for (at, name) in [(184, "journal position"), (200, "last sequence"), (208, "next layer")] {
        let mut disk = disk(&[6]);
        for page in disk.iter_mut().filter(|page| page[0] != 0) {
            page[at..at + 8].fill(0xff);
            reseal(page);
        }
        let Err(SuperblockError::NoneWhole(damaged)) = read(&disk) else { panic!("{name} is at its end") };
        assert_eq!(damaged[0].1, CopyDamage::Field(name));
    }
}

#[test]
fn the_newest_whole_generation_counts() {
    let choice = read(&disk(&[6, 7])).expect("two whole generations");
    assert_eq!(choice, Choice { superblock: superblock(7), damaged: vec![] });
    let choice = read(&disk(&[8, 7])).expect("two whole generations");
    assert_eq!(choice.superblock, superblock(8));
}

#[test]
fn rot_in_any_one_copy_costs_nothing() {
    for number in 0..4 {
        let mut disk = disk(&[6, 7]);
        disk[number][1000] ^= 1;
        let choice = read(&disk).expect("three copies are whole");
        assert_eq!(choice.superblock, superblock(7));
        assert_eq!(choice.damaged, [(superblock_places()[number], CopyDamage::Checksum)]);
    }
}

#[test]
fn a_generation_torn_in_both_copies_leaves_the_one_before() {
    let mut disk = disk(&[6, 7]);
    disk[1][512..].fill(0xff);
    disk[3] = [0; 4096];
    let choice = read(&disk).expect("generation 6 is whole");
    assert_eq!(choice.superblock, superblock(6));
    assert_eq!(choice.damaged.len(), 2);
}

#[test]
fn one_new_copy_is_enough_and_the_other_is_reported() {
    let mut disk = disk(&[6, 7]);
    let [(home, page), (other, _)] = superblock(8).copies();
    disk[index(home)] = page;
    let choice = read(&disk).expect("one copy of generation 8");
    assert_eq!(choice.superblock, superblock(8));
    assert_eq!(choice.damaged, [(other, CopyDamage::Behind)]);
}

#[test]
fn every_flipped_bit_is_detected() {
    let [(home, page), _] = superblock(6).copies();
    for bit in 0..page.len() * 8 {
        let mut flipped = page;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Superblock::parse(&flipped, home, POOL).is_err(), "bit {bit}");
    }
}

#[test]
fn copies_that_contradict_each_other_are_not_decided_by_guess() {
    let mut disk = disk(&[6, 7]);
    let other = Superblock { last_sequence: 78, ..superblock(7) };
    let [_, (home, page)] = other.copies();
    disk[index(home)] = page;
    assert_eq!(read(&disk), Err(SuperblockError::Disagreement(Generation(7))));
}

#[test]
fn a_copy_in_the_wrong_place_or_pool_does_not_count() {
    let mut disk = disk(&[6, 7]);
    disk.swap(1, 3);
    let choice = read(&disk).expect("generation 6 is whole");
    assert_eq!(choice.superblock, superblock(6));
    assert_eq!(choice.damaged[0], (BlockAddress(2), CopyDamage::Address(BlockAddress(4))));
    let foreign = Superblock { pool: PoolId([9; 16]), ..superblock(9) };
    write(&mut disk, &foreign);
    let choice = read(&disk).expect("generation 6 is whole");
    assert_eq!(choice.damaged, [2, 4].map(|block| (BlockAddress(block), CopyDamage::Pool(foreign.pool))));
    let [(home, mut page), _] = superblock(6).copies();
    page[40] = 7;
    reseal(&mut page);
    assert_eq!(
        Superblock::parse(&page, home, POOL),
        Err(super::codec::Rejected::Damaged(CopyDamage::Slot(Generation(7))))
    );
}

#[test]
fn nothing_whole_says_what_is_wrong_with_each_copy() {
    let mut disk = disk(&[7]);
    disk[1][20] ^= 1;
    disk[3][0] ^= 1;
    let error = read(&disk).expect_err("nothing is whole");
    assert_eq!(
        error.to_string(),
        "no copy of the superblock is whole; block 1: it holds only zeros; block 2: its checksum does not match; \
         block 3: it holds only zeros; block 4: it is not a superblock"
    );
}

#[test]
fn unknown_features_refuse_or_forbid_writing() {
    let with = |features| {
        let mut disk = disk(&[6, 7]);
        write(&mut disk, &Superblock { features, ..superblock(8) });
        read(&disk)
    };
    let refused = with(Features { incompatible: 0b1010, ..Features::default() }).expect_err("unknown bits");
    assert_eq!(refused, SuperblockError::Incompatible(Bits(0b1010)));
    assert!(refused.to_string().ends_with("(incompatible feature bits 1, 3)"));
    let readable = with(Features { read_only_compatible: 2, ..Features::default() }).expect("may be read");
    assert_eq!(readable.superblock.features.unknown_read_only_compatible(), 2);
    let ignorable = with(Features { compatible: 2, ..Features::default() }).expect("may be ignored");
    assert_eq!(ignorable.superblock.features.unknown_read_only_compatible(), 0);
}

/// With two further devices.
fn of_three_devices() -> Superblock {
    let mut superblock = superblock(6);
    for (byte, blocks) in [(1, 40), (2, 50)] {
        superblock.join(Further { id: DeviceId([byte; 16]), blocks });
    }
    superblock
}

#[test]
fn further_devices_come_back_and_an_older_build_refuses_them() {
    let superblock = of_three_devices();
    let [(home, page), _] = superblock.copies();
    assert_eq!(Superblock::parse(&page, home, POOL).as_ref(), Ok(&superblock));
    assert_eq!(page[64..72], [1, 0, 0, 0, 0, 0, 0, 0], "incompatible bit 0");
    assert_eq!(page[340..344], [2, 0, 0, 0]);
    assert_eq!(page[344..360], [1; 16]);
    assert_eq!(page[360..368], [40, 0, 0, 0, 0, 0, 0, 0]);
    let geometry = superblock.geometry().expect("it was parsed");
    assert_eq!(geometry.devices(), [128, 40, 50]);
}

#[test]
fn further_devices_that_cannot_be_are_damage() {
    let damage = |change: &dyn Fn(&mut [u8; 4096])| {
        let [(home, mut page), _] = of_three_devices().copies();
        change(&mut page);
        reseal(&mut page);
        match Superblock::parse(&page, home, POOL) {
            Err(super::codec::Rejected::Damaged(damage)) => damage,
            other => panic!("damage, not {other:?}"),
        }
    };
    let number = CopyDamage::Field("number of further devices");
    assert_eq!(damage(&|page| page[340] = 16), number);
    assert_eq!(damage(&|page| page[340] = 0), number, "the flag says that there are some");
    assert_eq!(damage(&|page| page[64] = 0), number, "a build that knows of none would open it");
    assert!(matches!(damage(&|page| page[360] = 3), CopyDamage::Geometry(_)), "three blocks hold no group");
}

#[test]
fn a_newer_format_in_any_copy_is_refused_even_beside_whole_older_ones() {
    let mut disk = disk(&[6, 7]);
    VERSION.put_u32(&mut disk[0], 2);
    assert_eq!(
        read(&disk).expect("three are whole").superblock,
        superblock(7),
        "without its checksum: damage"
    );
    reseal(&mut disk[0]);
    assert_eq!(read(&disk), Err(SuperblockError::Newer { found: 2, known: 1 }));
}

#[test]
fn a_long_host_name_loses_its_end() {
    let opener = Opener::new(1, &"ü".repeat(40));
    assert_eq!(opener.host(), "ü".repeat(32));
    let opener = Opener::new(1, &format!("a{}", "ü".repeat(40)));
    assert_eq!(opener.host().len(), 63);
    let superblock = Superblock { opener, ..superblock(6) };
    let [(home, page), _] = superblock.copies();
    assert_eq!(Superblock::parse(&page, home, POOL), Ok(superblock));
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_panic(
        at in 0..4096usize,
        noise in proptest::collection::vec(any::<u8>(), 0..400),
        length in 0..4200usize,
    ) {
        let [(home, mut page), _] = superblock(6).copies();
        let end = (at + noise.len()).min(4096);
        page[at..end].copy_from_slice(&noise[..end - at]);
        reseal(&mut page);
        if let Ok(parsed) = Superblock::parse(&page, home, POOL) {
            assert!(parsed.geometry().is_ok());
        }
        let short = vec![0; length];
        assert!(Superblock::parse(&short, home, POOL).is_err());
    }
}
