//! Claims about labels.

use super::{CHECKSUM, Foreign, Label, LabelError, VERSION};
use crate::ids::DeviceId;
use cow_tree::units::PoolId;
use proptest::prelude::{any, prop_assert_eq, proptest};

fn label() -> Label {
    Label {
        pool: PoolId([0xab; 16]),
        device_index: 0,
        device_count: 1,
        device_bytes: 1 << 30,
        created_unix: 1_700_000_000,
        name: "tank".to_owned(),
        device_id: DeviceId::default(),
    }
}

fn foreign(at: usize, bytes: &[u8]) -> Foreign {
    let mut page = [0; 4096];
    page[at..at + bytes.len()].copy_from_slice(bytes);
    match Label::parse(&page) {
        Err(LabelError::NotAPool(foreign)) => foreign,
        other => panic!("not a pool, but {other:?}"),
    }
}

#[test]
fn a_label_is_these_bytes() {
    let page = label().encode();
    assert_eq!(&page[..12], b"OFFSHOOT\x01\0\0\0");
    assert_eq!(page[12..16], GOLDEN_CHECKSUM);
    assert_eq!(page[16..32], [0xab; 16]);
    assert_eq!(page[32..40], [0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(page[40..48], [0, 0, 0, 0x40, 0, 0, 0, 0]);
    assert_eq!(page[48..56], [0x00, 0xf1, 0x53, 0x65, 0, 0, 0, 0]);
    assert_eq!(&page[56..64], b"\x04\0\0\0tank");
    assert_eq!(page[64..], [0; 4032]);
}
const GOLDEN_CHECKSUM: [u8; 4] = [30, 142, 218, 64];

#[test]
fn names_up_to_the_bound_come_back() {
    for name in ["", "p", "größe", &"n".repeat(255)] {
        let label = Label { name: name.to_owned(), ..label() };
        assert_eq!(Label::parse(&label.encode()), Ok(label));
    }
}

#[test]
fn the_label_of_a_further_device_has_its_own_id() {
    let further = Label { device_index: 2, device_count: 3, device_id: DeviceId([7; 16]), ..label() };
    let page = further.encode();
    assert_eq!(page[32..40], [2, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(page[316..332], [7; 16]);
    assert_eq!(Label::parse(&page), Ok(further));
}

#[test]
#[should_panic(expected = "checked before")]
fn a_longer_name_never_reaches_a_device() {
    drop(Label { name: "n".repeat(256), ..label() }.encode().to_vec());
}

#[test]
fn every_flipped_bit_is_detected() {
    let page = label().encode();
    for bit in 0..page.len() * 8 {
        let mut flipped = page;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Label::parse(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn what_is_not_a_pool_is_named() {
    assert_eq!(foreign(0, &[]), Foreign::Empty);
    assert_eq!(foreign(0, b"QFI\xfb"), Foreign::Qcow);
    assert_eq!(foreign(1080, &[0x53, 0xef]), Foreign::Ext);
    assert_eq!(foreign(510, &[0x55, 0xaa]), Foreign::BootSector);
    assert_eq!(foreign(510, b"\x55\xaaEFI PART"), Foreign::Gpt);
    assert_eq!(foreign(4086, b"SWAPSPACE2"), Foreign::Swap);
    assert_eq!(foreign(100, b"?"), Foreign::Unknown);
    let message = LabelError::NotAPool(Foreign::Qcow).to_string();
    assert_eq!(message, "this is not an Offshoot pool: it looks like a qcow2 image");
}

#[test]
fn a_newer_version_is_not_called_damage() {
    let mut page = label().encode();
    VERSION.put_u32(&mut page, 7);
    assert!(matches!(Label::parse(&page), Err(LabelError::Damaged(_))), "a version without its checksum");
    let checksum = CHECKSUM.checksum(&page);
    CHECKSUM.put_u32(&mut page, checksum);
    assert_eq!(Label::parse(&page), Err(LabelError::Newer { found: 7, known: 1 }));
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_panic(mut page in proptest::collection::vec(any::<u8>(), 0..4200)) {
        assert!(Label::parse(&page).is_err());
        page.resize(4096, 0);
        page[..8].copy_from_slice(b"OFFSHOOT");
        VERSION.put_u32(&mut page, 1);
        let checksum = CHECKSUM.checksum(&page);
        CHECKSUM.put_u32(&mut page, checksum);
        if let Ok(label) = Label::parse(&page) {
            prop_assert_eq!(Label::parse(&label.encode()), Ok(label));
        }
    }
}
