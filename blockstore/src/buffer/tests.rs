//! Buffers: disjoint halves, joining, and no byte of an earlier use in a zeroed buffer.

use super::{BUFFER_ALIGNMENT, Buffer, Loan, is_zero};
use memmap2::{MmapMut, MmapRaw};
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

#[test]
fn memory_is_aligned() {
    for length in [1, 512, 4096, 5000, 1 << 20] {
        assert!(Buffer::zeroed(length).as_ptr().addr().is_multiple_of(BUFFER_ALIGNMENT));
    }
}

#[test]
fn zeroed_shows_nothing_of_an_earlier_buffer() {
    for length in [512, 4096, 5000, 8192, 128 << 10, 1 << 20] {
        for _ in 0..100 {
            let mut buffer = Buffer::zeroed(length);
            assert!(buffer.is_zero());
            buffer.fill(0xA5);
        }
    }
}

#[test]
fn a_half_that_outlives_the_other_keeps_its_bytes() {
    let mut head = Buffer::from_slice(&[7; 8192]);
    let tail = head.split_off(4096);
    drop(head);
    let other = Buffer::from_slice(&[9; 8192]);
    assert!(tail.iter().all(|byte| *byte == 7));
    assert!(other.iter().all(|byte| *byte == 9));
}

#[test]
#[should_panic(expected = "only neighbours of one region")]
fn strangers_cannot_be_joined() {
    let mut one = Buffer::zeroed(4096);
    one.unsplit(Buffer::zeroed(4096));
}

#[test]
#[should_panic(expected = "only neighbours of one region")]
fn halves_cannot_be_joined_in_the_wrong_order() {
    let mut head = Buffer::zeroed(8192);
    let mut tail = head.split_off(4096);
    tail.unsplit(head);
}

#[test]
fn empty_buffers_join_with_anything() {
    let mut buffer = Buffer::zeroed(0);
    assert!(buffer.is_empty() && buffer.is_zero());
    buffer.unsplit(Buffer::from_slice(&[1; 512]));
    buffer.unsplit(Buffer::zeroed(0));
    assert_eq!(buffer.len(), 512);
}

#[test]
fn buffers_of_one_region_may_be_dropped_by_several_threads() {
    for _ in 0..200 {
        let mut head = Buffer::from_slice(&[3; 16384]);
        let tail = head.split_off(8192);
        let thread = std::thread::spawn(move || drop(tail));
        drop(head);
        thread.join().expect("the thread only drops");
    }
}

/// A loan of so many zeros, and a sign of whether its memory is still there.
fn loan(length: usize) -> (Loan, Weak<MmapRaw>) {
    let memory = Arc::new(MmapRaw::from(MmapMut::map_anon(length).expect("memory")));
    let start = NonNull::new(memory.as_mut_ptr()).expect("it is mapped");
    // SAFETY: the map exists as long as its owner, and only pointers lead to it.
    let loan = unsafe { Loan::new(start, length, memory.clone()) };
    (loan, Arc::downgrade(&memory))
}

#[test]
fn buffers_of_a_loan_are_ranges_of_it_and_may_overlap() {
    let (loan, _) = loan(8192);
    let mut one = loan.buffer(0, 4096).expect("inside");
    let other = loan.buffer(2048, 4096).expect("inside");
    one.copy_from(2048, &[5; 2048]);
    let mut bytes = [0; 4096];
    other.copy_to(0, &mut bytes);
    assert!(bytes[..2048].iter().all(|byte| *byte == 5) && is_zero(&bytes[2048..]));
    for (start, length) in [(0, 8193), (8192, 1), (4096, 4097), (0, 0), (usize::MAX, 2)] {
        assert!(loan.buffer(start, length).is_none(), "{length} bytes from {start}");
    }
}

#[test]
fn lent_memory_is_kept_until_its_last_buffer_is_gone() {
    let (loan, memory) = loan(8192);
    let mut head = loan.buffer(0, 8192).expect("inside");
    drop(loan);
    head.copy_from(0, &[7; 8192]);
    let tail = head.split_off(4096);
    drop(head);
    let owned = tail.into_owned();
    assert!(!owned.is_lent() && owned.iter().all(|byte| *byte == 7));
    assert!(memory.upgrade().is_none());
}

#[test]
fn pieces_of_a_loan_are_joined_and_cleared_like_others() {
    let (loan, _) = loan(8192);
    let mut head = loan.buffer(0, 8192).expect("inside");
    head.copy_from(0, &[7; 8192]);
    let mut tail = head.split_off(4096);
    tail.clear(0, 4096);
    head.unsplit(tail);
    let owned = head.into_owned();
    assert!(owned[..4096].iter().all(|byte| *byte == 7) && is_zero(&owned[4096..]));
}

#[test]
#[should_panic(expected = "copied, not referred to")]
fn lent_bytes_cannot_be_referred_to() {
    let (loan, _) = loan(4096);
    let _refused = loan.buffer(0, 4096).expect("inside").is_zero();
}

#[test]
#[should_panic(expected = "are not in a buffer")]
fn copies_stay_inside_their_buffer() {
    let mut head = Buffer::zeroed(8192);
    let _tail = head.split_off(4096);
    head.copy_from(4000, &[1; 97]);
}

proptest! {
    #[test]
    fn splitting_and_joining_keeps_every_byte(bytes in proptest::collection::vec(0_u8.., 1..20_000), cuts in proptest::collection::vec(0_usize.., 0..8)) {
        let mut whole = Buffer::from_slice(&bytes);
        let mut tails = Vec::new();
        for cut in cuts {
            let at = cut % (whole.len() + 1);
            tails.push(whole.split_off(at));
        }
        while let Some(tail) = tails.pop() {
            whole.unsplit(tail);
        }
        prop_assert_eq!(&whole[..], &bytes[..]);
    }

    #[test]
    fn zero_test_agrees_with_looking_at_every_byte(length in 0_usize..300, at in 0_usize..300) {
        let mut bytes = vec![0; length];
        prop_assert!(is_zero(&bytes));
        if at < length {
            bytes[at] = 1;
            prop_assert!(!is_zero(&bytes));
        }
    }
}
