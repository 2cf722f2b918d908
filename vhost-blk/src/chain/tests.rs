use super::{Broken, Chain, DESCRIPTORS_MAX, Span, Table, Turn, take_front, take_last_byte};
use crate::memory::GuestMemory;
use std::sync::Arc;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{ByteValued, GuestAddress, GuestRegionMmap};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const SIZE: u16 = 8;
const TABLE: Table = Table { address: GuestAddress(0x1000), size: SIZE };

fn memory() -> GuestMemory {
    let region = GuestRegionMmap::from_range(GuestAddress(0), 0x10000, None).expect("memory");
    GuestMemory::new(vec![Arc::new(region)]).expect("one region")
}

fn put(memory: &GuestMemory, table: u64, index: u16, what: (u64, u32, u16, u16)) {
    let (address, length, flags, next) = what;
    let descriptor = Descriptor::new(address, length, flags, next);
    memory.write(GuestAddress(table + u64::from(index) * 16), descriptor.as_slice()).expect("inside");
}

fn walk(descriptors: &[(u64, u32, u16, u16)]) -> Result<Chain, Broken> {
    let memory = memory();
    for (index, descriptor) in (0..).zip(descriptors) {
        put(&memory, 0x1000, index, *descriptor);
    }
    let mut chain = Chain::default();
    chain.walk(&memory, TABLE, 0).map(|()| chain)
}

fn span(address: u64, length: u32) -> Span {
    Span { address: GuestAddress(address), length }
}

#[test]
fn a_chain_is_what_it_names_in_its_order() {
    let chain =
        walk(&[(0x2000, 16, NEXT, 2), (0, 0, 0, 0), (0x3000, 512, NEXT | WRITE, 3), (0x4000, 1, WRITE, 0)]);
    let chain = chain.expect("whole");
    assert_eq!(chain.readable, [span(0x2000, 16)]);
    assert_eq!(chain.writable, [span(0x3000, 512), span(0x4000, 1)]);
}

#[test]
fn lies_are_seen() {
    for (descriptors, broken) in [
        (vec![(0, 1, NEXT, 1), (0, 1, NEXT, 0)], Broken::Endless),
        (vec![(0, 1, NEXT, 0)], Broken::Endless),
        (vec![(0, 1, NEXT, SIZE)], Broken::NoSuchDescriptor),
        (vec![(0, 1, NEXT, u16::MAX)], Broken::NoSuchDescriptor),
        (vec![(0, 1, NEXT | WRITE, 1), (0, 1, 0, 0)], Broken::Order),
        (vec![(0x2000, 17, INDIRECT, 0)], Broken::IndirectTable),
        (vec![(0x2000, 0, INDIRECT, 0)], Broken::IndirectTable),
        (vec![(0x2000, !15, INDIRECT, 0)], Broken::IndirectTable),
        (vec![(u64::MAX, 16, INDIRECT, 0)], Broken::OutsideMemory),
        (vec![(0x20000, 32, INDIRECT, 0)], Broken::OutsideMemory),
    ] {
        assert_eq!(walk(&descriptors).map(drop), Err(broken), "{descriptors:?}");
    }
}

#[test]
fn an_indirect_table_is_walked_and_may_hold_no_other() {
    let memory = memory();
    put(&memory, 0x1000, 0, (0x2000, 32, INDIRECT, 0));
    put(&memory, 0x2000, 0, (0x3000, 16, NEXT, 1));
    put(&memory, 0x2000, 1, (0x4000, 1, WRITE, 0));
    let mut chain = Chain::default();
    chain.walk(&memory, TABLE, 0).expect("whole");
    assert_eq!(
        (chain.readable.as_slice(), chain.writable.as_slice()),
        (&[span(0x3000, 16)][..], &[span(0x4000, 1)][..])
    );
    put(&memory, 0x2000, 1, (0x2000, 32, INDIRECT, 0));
    assert_eq!(chain.walk(&memory, TABLE, 0), Err(Broken::IndirectTable));
}

#[test]
fn a_walk_ends_at_its_bound() {
    let memory = memory();
    let entries = DESCRIPTORS_MAX + 1;
    put(&memory, 0x1000, 0, (0x2000, u32::from(entries) * 16, INDIRECT, 0));
    for index in 0..entries {
        put(&memory, 0x2000, index, (0, 1, if index + 1 < entries { NEXT } else { 0 }, index + 1));
    }
    assert_eq!(Chain::default().walk(&memory, TABLE, 0), Err(Broken::Endless));
}

#[test]
fn a_turn_is_over_after_one_long_chain_or_many_short_ones() {
    let memory = memory();
    let chain_of = |count: u16| {
        put(&memory, 0x1000, 0, (0x2000, u32::from(count) * 16, INDIRECT, 0));
        for index in 0..count {
            put(&memory, 0x2000, index, (0, 1, if index + 1 < count { NEXT } else { 0 }, index + 1));
        }
        let mut chain = Chain::default();
        chain.walk(&memory, TABLE, 0).expect("whole");
        chain
    };
    for (descriptors, chains) in [(2, 96), (3, 64), (64, 3), (191, 2), (192, 1), (1000, 1)] {
        let chain = chain_of(descriptors);
        let mut turn = Turn::default();
        for _ in 0..chains {
            assert!(!turn.is_over(), "{chains} chains of {descriptors}");
            turn.count(&chain);
        }
        assert!(turn.is_over(), "{chains} chains of {descriptors}");
    }
}

#[test]
fn headers_and_status_are_taken_wherever_they_lie() {
    let memory = memory();
    memory.write(GuestAddress(0x100), b"abcdef").expect("inside");
    let mut spans = vec![span(0x100, 1), span(0x900, 0), span(0x101, 3), span(0x104, 10)];
    let mut bytes = [0; 5];
    assert_eq!(take_front(&memory, &mut spans, &mut bytes), Some(()));
    assert_eq!((&bytes, spans.as_slice()), (b"abcde", &[span(0x105, 9)][..]));
    assert_eq!(take_front(&memory, &mut vec![span(0, 4)], &mut bytes), None, "too few");
    assert_eq!(take_front(&memory, &mut vec![span(u64::MAX, 9)], &mut bytes), None, "nowhere");
    let mut spans = vec![span(0x100, 512), span(0x700, 1), span(0x900, 0)];
    assert_eq!(take_last_byte(&mut spans), Some(GuestAddress(0x700)));
    assert_eq!(take_last_byte(&mut spans), Some(GuestAddress(0x2ff)));
    assert_eq!(spans, [span(0x100, 511)]);
    assert_eq!(take_last_byte(&mut vec![span(5, 0)]), None);
}
