use super::{BLOCKS_MAX, PAGE_BYTES, PageError, PageIdentity, checksum, checksum_of, decode, encode};
use crate::geometry::{GroupIndex, Slot};
use crate::groups::bitmap::Bitmap;
use crate::groups::{GroupEntry, GroupKind};
use cow_tree::units::{BlockAddress, Generation, PoolId};
use proptest::prelude::{any, proptest};

const IDENTITY: PageIdentity = PageIdentity {
    pool: PoolId([0x11; 16]),
    group: GroupIndex(5),
    address: BlockAddress(0x0203),
    generation: Generation(9),
};

const LENGTH: usize = 1000;

fn bitmap() -> Bitmap {
    let mut bitmap = Bitmap::empty();
    bitmap.insert(2..4);
    bitmap.insert(64..74);
    bitmap
}

fn entry_for(page: &[u8; PAGE_BYTES]) -> GroupEntry {
    GroupEntry {
        kind: GroupKind::Data,
        slot: Slot::First,
        allocated: 12,
        checksum: checksum_of(page),
        generation: IDENTITY.generation,
    }
}

/// Changes a page and makes its checksum right again, so that only what was changed is wrong.
fn forged(change: impl FnOnce(&mut [u8; PAGE_BYTES])) -> ([u8; PAGE_BYTES], GroupEntry) {
    let mut page = encode(&IDENTITY, &bitmap());
    change(&mut page);
    let right = checksum(&page).to_le_bytes();
    page[12..16].copy_from_slice(&right);
    let entry = entry_for(&page);
    (page, entry)
}

fn verdict(change: impl FnOnce(&mut [u8; PAGE_BYTES])) -> Result<Bitmap, PageError> {
    let (page, entry) = forged(change);
    decode(&page, &IDENTITY, &entry, LENGTH)
}

#[test]
fn a_bitmap_page_has_exactly_these_bytes() {
    let page = encode(&IDENTITY, &bitmap());
    assert_eq!(&page[..12], b"OFSTBITS\x01\0\0\0");
    assert_eq!(&page[12..16], &0x9d95_5f6a_u32.to_le_bytes());
    assert_eq!(&page[16..32], &[0x11; 16]);
    assert_eq!(&page[32..48], &[5, 0, 0, 0, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&page[48..64], &[9, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&page[64..74], &[0b1100, 0, 0, 0, 0, 0, 0, 0, 0xff, 0b11]);
    assert!(page[74..].iter().all(|byte| *byte == 0));
    assert_eq!(decode(&page, &IDENTITY, &entry_for(&page), LENGTH), Ok(bitmap()));
}

#[test]
fn a_page_that_is_not_the_one_expected_is_refused_by_name() {
    assert_eq!(verdict(|page| page[0] = b'X'), Err(PageError::Magic));
    assert_eq!(verdict(|page| page[8] = 2), Err(PageError::Format(2)));
    for identity_byte in [16, 31, 32, 40, 48, 60, 63] {
        assert_eq!(verdict(|page| page[identity_byte] ^= 1), Err(PageError::Identity), "{identity_byte}");
    }
    assert_eq!(verdict(|page| page[56] = 11), Err(PageError::Count));
    assert_eq!(verdict(|page| page[64] |= 16), Err(PageError::Count));
    assert_eq!(verdict(|page| page[64] = 0b1001), Err(PageError::Bounds), "a bitmap slot");
    let past_the_end = |page: &mut [u8; PAGE_BYTES]| {
        page[64] = 0b100;
        page[64 + LENGTH / 8] = 1;
    };
    assert_eq!(verdict(past_the_end), Err(PageError::Bounds));
    let (page, entry) = forged(|_| ());
    let miscounted = GroupEntry { allocated: 11, ..entry };
    assert_eq!(decode(&page, &IDENTITY, &miscounted, LENGTH), Err(PageError::Count), "the entry's count");
    assert_eq!(decode(&[0; 100], &IDENTITY, &forged(|_| ()).1, LENGTH), Err(PageError::Length(100)));
}

#[test]
fn an_older_page_of_the_same_group_is_not_taken_for_the_one_that_counts() {
    let (page, entry) = forged(|_| ());
    let newer = GroupEntry { checksum: entry.checksum ^ 1, ..entry };
    assert_eq!(decode(&page, &IDENTITY, &newer, LENGTH), Err(PageError::Stale));
}

#[test]
fn a_full_group_of_the_longest_length_decodes() {
    let mut full = Bitmap::empty();
    full.insert(2..BLOCKS_MAX);
    let page = encode(&IDENTITY, &full);
    let entry = GroupEntry { allocated: full.count(), ..entry_for(&page) };
    assert_eq!(decode(&page, &IDENTITY, &entry, BLOCKS_MAX), Ok(full));
}

proptest! {
    #[test]
    fn damage_of_any_bit_is_found(at in 0..PAGE_BYTES * 8) {
        let (mut page, entry) = forged(|_| ());
        page[at / 8] ^= 1 << (at % 8);
        assert!(decode(&page, &IDENTITY, &entry, LENGTH).is_err());
    }

    #[test]
    fn hostile_pages_never_panic(bytes in proptest::collection::vec(any::<u8>(), PAGE_BYTES), allocated in any::<u32>(), length in any::<usize>()) {
        let forge = |page: &mut [u8; PAGE_BYTES]| page[56..].copy_from_slice(&bytes[56..]);
        let (page, entry) = forged(forge);
        let entry = GroupEntry { allocated, ..entry };
        assert!(decode(&page, &IDENTITY, &entry, length).is_err());
        assert!(decode(&bytes, &IDENTITY, &entry, length).is_err());
    }
}
