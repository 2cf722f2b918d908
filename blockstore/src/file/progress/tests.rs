//! Short transfers, interruptions and file systems that cannot do everything, without any file.

use super::{Progress, RETRIES_MAX, Step, ZEROS_BYTES};
use crate::buffer::Buffer;
use crate::error::IoError;
use crate::legality::bytes;
use crate::operation::{Durability, Operation};
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use rustix::io::Errno;

const ALIGNMENT: usize = 512;

fn read(length: usize) -> Operation {
    Operation::Read { offset: 8192, buffer: Buffer::zeroed(length) }
}

#[test]
fn a_short_transfer_goes_on_where_it_stopped() {
    let operation = read(4096);
    let mut progress = Progress::default();
    assert_eq!(progress.step(&operation), Step::Read { offset: 8192, skip: 0, length: 4096 });
    assert_eq!(progress.advance(&operation, Ok(1024), ALIGNMENT), None);
    assert_eq!(progress.step(&operation), Step::Read { offset: 9216, skip: 1024, length: 3072 });
    assert_eq!(progress.advance(&operation, Ok(3072), ALIGNMENT), Some(Ok(())));
}

#[test]
fn a_ragged_end_is_moved_again_and_no_progress_is_an_error() {
    let operation = read(4096);
    let mut progress = Progress::default();
    assert_eq!(progress.advance(&operation, Ok(1000), ALIGNMENT), None);
    assert_eq!(progress.step(&operation), Step::Read { offset: 8704, skip: 512, length: 3584 });
    assert_eq!(progress.advance(&operation, Ok(100), ALIGNMENT), Some(Err(IoError::ShortTransfer)));
    let mut at_the_end = Progress::default();
    assert_eq!(at_the_end.advance(&operation, Ok(0), ALIGNMENT), Some(Err(IoError::ShortTransfer)));
}

#[test]
fn interruptions_are_retried_up_to_the_bound_and_progress_starts_the_count_anew() {
    let operation = read(4096);
    let mut progress = Progress::default();
    for round in 0..2 {
        for _ in 0..RETRIES_MAX {
            assert_eq!(progress.advance(&operation, Err(Errno::INTR), ALIGNMENT), None);
        }
        if round == 0 {
            assert_eq!(progress.advance(&operation, Ok(512), ALIGNMENT), None);
        }
    }
    let last = progress.advance(&operation, Err(Errno::AGAIN), ALIGNMENT);
    assert_eq!(last, Some(Err(IoError::Errno(libc::EAGAIN))));
}

#[test]
fn zeros_are_written_where_the_file_system_cannot_zero() {
    let length = bytes(ZEROS_BYTES) + 4096;
    let operation = Operation::WriteZeroes { offset: 4096, length };
    let mut progress = Progress::default();
    assert!(matches!(progress.step(&operation), Step::Fallocate { offset: 4096, .. }));
    assert_eq!(progress.advance(&operation, Err(Errno::OPNOTSUPP), ALIGNMENT), None);
    assert_eq!(progress.step(&operation), Step::WriteZeros { offset: 4096, length: ZEROS_BYTES });
    assert_eq!(progress.advance(&operation, Ok(ZEROS_BYTES), ALIGNMENT), None);
    let rest = Step::WriteZeros { offset: 4096 + bytes(ZEROS_BYTES), length: 4096 };
    assert_eq!(progress.step(&operation), rest);
    assert_eq!(progress.advance(&operation, Ok(4096), ALIGNMENT), Some(Ok(())));
}

#[test]
fn only_zeroing_has_a_substitute() {
    for operation in [
        Operation::Discard { offset: 0, length: 4096 },
        Operation::Allocate { offset: 0, length: 4096 },
        Operation::Flush,
    ] {
        let mut progress = Progress::default();
        let answer = progress.advance(&operation, Err(Errno::OPNOTSUPP), ALIGNMENT);
        assert_eq!(answer, Some(Err(IoError::Unsupported)));
    }
}

#[test]
fn a_full_medium_has_one_name() {
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
        let answer = Progress::default().advance(&read(512), Err(errno), ALIGNMENT);
        assert_eq!(answer, Some(Err(IoError::OutOfSpace)));
    }
}

proptest! {
    /// Whatever the counts, the steps cover the buffer once, in order, without a gap, and stay aligned.
    #[test]
    fn steps_cover_the_buffer_without_a_gap(sectors in 1_usize..64, counts in proptest::collection::vec(0_usize..40_000, 1..200)) {
        let buffer = Buffer::zeroed(sectors * ALIGNMENT);
        let operation = Operation::Write { offset: 4096, buffer, durability: Durability::Cached };
        let mut progress = Progress::default();
        let mut covered = 0;
        for count in counts {
            let Step::Write { offset, skip, length, .. } = progress.step(&operation) else { panic!("a write writes") };
            prop_assert_eq!(offset, 4096 + bytes(skip));
            prop_assert!(skip <= covered && skip.is_multiple_of(ALIGNMENT));
            prop_assert_eq!(skip + length, sectors * ALIGNMENT);
            let count = count.min(length);
            covered = covered.max(skip + count);
            match progress.advance(&operation, Ok(count), ALIGNMENT) {
                None => {}
                Some(Ok(())) => {
                    prop_assert_eq!(covered, sectors * ALIGNMENT);
                    return Ok(());
                }
                Some(Err(error)) => {
                    prop_assert_eq!(error, IoError::ShortTransfer);
                    prop_assert!(count < ALIGNMENT);
                    return Ok(());
                }
            }
        }
    }
}
