use super::{PAGE, SECTOR, byte, sectors};
use crate::simulated::{Rot, SimulatedDisk};
use proptest::prelude::{Strategy, any, prop_assert_eq, prop_oneof, proptest};

#[derive(Debug, Clone)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Zero { offset: u64, length: u64 },
    Resize { sectors: u64 },
}

fn change() -> impl Strategy<Value = Change> {
    let end = 40 * PAGE;
    prop_oneof![
        4 => (0..end, proptest::collection::vec(any::<u8>(), 1..9000))
            .prop_map(|(offset, bytes)| Change::Write { offset, bytes }),
        2 => (0..end, 0..3 * PAGE).prop_map(|(offset, length)| Change::Zero { offset, length }),
        1 => (0..80 * 8_u64).prop_map(|sectors| Change::Resize { sectors }),
    ]
}

proptest! {
    #[test]
    fn a_disk_is_like_an_array_of_bytes(changes in proptest::collection::vec(change(), 1..30)) {
        let mut disk = SimulatedDisk::new(40 * PAGE);
        let mut model = vec![0_u8; 40 * 4096];
        for change in changes {
            let size = u64::try_from(model.len()).expect("small");
            match change {
                Change::Write { offset, bytes } => {
                    let count = usize::try_from(size.saturating_sub(offset)).expect("small").min(bytes.len());
                    if count > 0 {
                        disk.write(offset, &bytes[..count]);
                        let start = usize::try_from(offset).expect("small");
                        model[start..start + count].copy_from_slice(&bytes[..count]);
                    }
                }
                Change::Zero { offset, length } => {
                    let length = size.saturating_sub(offset).min(length);
                    if length > 0 {
                        disk.zero(offset, length);
                        let start = usize::try_from(offset).expect("small");
                        model[start..start + usize::try_from(length).expect("small")].fill(0);
                    }
                }
                Change::Resize { sectors } => {
                    disk.resize(sectors * SECTOR);
                    model.resize(usize::try_from(sectors * SECTOR).expect("small"), 0);
                }
            }
        }
        let mut contents = vec![1; model.len()];
        disk.read(0, &mut contents);
        prop_assert_eq!(&contents, &model);
        let mut again = SimulatedDisk::new(u64::try_from(model.len()).expect("small"));
        again.write(0, &model);
        prop_assert_eq!(again.hash(), disk.hash());
        prop_assert_eq!(again.pages(), disk.pages());
        prop_assert_eq!(again, disk);
    }
}

#[test]
fn a_disk_of_64_mib_costs_only_what_was_written() {
    let mut disk = SimulatedDisk::new(64 << 20);
    disk.write((64 << 20) - 1, &[1]);
    disk.write(0, &[0; 8192]);
    assert_eq!(disk.pages(), 1);
    assert_eq!(disk.written_pages().collect::<Vec<_>>(), vec![16383]);
}

#[test]
fn a_clone_is_independent() {
    let mut disk = SimulatedDisk::new(64 * PAGE);
    disk.write(0, &[1; 4096]);
    let before = disk.clone();
    disk.write(0, &[2; 4096]);
    assert_eq!((byte(&before, 0), byte(&disk, 0)), (Some(1), Some(2)));
    assert_ne!(before.hash(), disk.hash());
}

#[test]
fn the_hash_depends_on_where_a_page_is_and_on_the_size() {
    let hash = |size: u64, page: u64| {
        let mut disk = SimulatedDisk::new(size * PAGE);
        disk.write(page * PAGE, &[9; 4096]);
        disk.hash()
    };
    let hashes = [hash(8, 0), hash(8, 1), hash(9, 1)];
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
    // Two equal pages must not cancel out.
    let mut twice = SimulatedDisk::new(8 * PAGE);
    twice.write(0, &[9; 4096]);
    twice.write(PAGE, &[9; 4096]);
    assert_ne!(twice.hash(), SimulatedDisk::new(8 * PAGE).hash());
}

/// Counts of distinct states are compared between runs and machines.
#[test]
fn the_hash_is_the_same_in_every_run() {
    let mut disk = SimulatedDisk::new(8 * PAGE);
    disk.write(0, &[1; 4096]);
    assert_eq!(disk.hash(), HASH_OF_ONES);
}

/// Of a disk of eight pages whose first is all ones.
const HASH_OF_ONES: u128 = 0x6e4df9264e2eaf84896dfbaecfaf73d1;

#[test]
fn each_rot_changes_one_page_and_only_as_much_as_it_says() {
    let mut disk = SimulatedDisk::new(8 * PAGE);
    (0..8).for_each(|page| disk.write(page * PAGE, &[0x55; 4096]));
    for (rot, changed_max) in
        [(Rot::Bit, 1), (Rot::Byte, 1), (Rot::Zeroed, 4096), (Rot::Random, 4096), (Rot::Hole, 512)]
    {
        let mut rotten = disk.clone();
        rotten.rot(3, rot, 11);
        assert_eq!(rotten.differing_pages(&disk), vec![3], "{rot:?}");
        let mut contents = [0; 4096];
        rotten.read(3 * PAGE, &mut contents);
        let changed = contents.iter().filter(|byte| **byte != 0x55).count();
        assert!((1..=changed_max).contains(&changed), "{rot:?} changed {changed} bytes");
    }
    let mut hole = disk.clone();
    hole.rot(3, Rot::Hole, 11);
    assert_eq!(sectors(&hole, 3).iter().filter(|byte| **byte == 0).count(), 1);
}
