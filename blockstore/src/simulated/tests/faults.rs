//! Each planned fault happens once, where it was planned, and does what it says.

use super::{PAGE, byte, device, last, observed, open, read, run, sectors, submit, write};
use crate::device::Device;
use crate::error::IoError;
use crate::operation::Operation;
use crate::simulated::{AfterFailedFlush, Choice, Discards, Fault, Profile, SimulatedDevice, SimulatedDisk};
use std::collections::BTreeSet;

fn faulty(fault: Fault) -> SimulatedDevice {
    device(Profile { faults: vec![fault], ..Profile::default() })
}

#[test]
fn the_planned_read_fails_and_no_other() {
    let device = faulty(Fault::ReadError { nth: 1 });
    let mut channel = open(&device);
    let results: Vec<_> = (0..3).map(|page| read(&mut *channel, page).map(drop)).collect();
    assert_eq!(results, vec![Ok(()), Err(IoError::EIO), Ok(())]);
}

#[test]
fn a_write_that_fails_has_no_effect_and_flushes_go_on() {
    let device = faulty(Fault::WriteError { nth: 1 });
    let mut channel = open(&device);
    let results: Vec<_> = (0..3).map(|page| run(&mut *channel, write(page, 1)).map(drop)).collect();
    assert_eq!(results, vec![Ok(()), Err(IoError::EIO), Ok(())]);
    assert_eq!(byte(&device.disk(), 1), Some(0));
    assert_eq!(run(&mut *channel, Operation::Flush).map(drop), Ok(()));
}

#[test]
fn after_a_torn_write_no_flush_is_believed() {
    let device = faulty(Fault::WriteTorn { nth: 0 });
    let mut channel = open(&device);
    assert_eq!(run(&mut *channel, write(1, 1)).map(drop), Err(IoError::EIO));
    let torn = sectors(&device.disk(), 1);
    assert!(torn.contains(&1) && torn.contains(&0), "{torn:?}");
    assert_eq!(run(&mut *channel, Operation::Flush).map(drop), Err(IoError::FlushFailed));
}

/// Four writes and a failed flush.
fn after_failed_flush(after_failed_flush: AfterFailedFlush, seed: u64) -> SimulatedDevice {
    let profile =
        Profile { faults: vec![Fault::FlushError { nth: 0 }], after_failed_flush, ..Profile::default() };
    let device = SimulatedDevice::new(SimulatedDisk::new(64 * PAGE), profile, seed);
    let mut channel = open(&device);
    (0..4).for_each(|page| drop(run(&mut *channel, write(page, 1)).expect("a write")));
    assert_eq!(run(&mut *channel, Operation::Flush).map(drop), Err(IoError::EIO));
    device
}

#[test]
fn a_failed_flush_keeps_or_loses_each_write_for_good_and_reads_do_not_tell() {
    let mut kept = BTreeSet::new();
    for seed in 0..100 {
        let device = after_failed_flush(AfterFailedFlush::Lie, seed);
        let points = observed(&device);
        let mut channel = open(&device);
        run(&mut *channel, Operation::Flush).expect("the lie");
        let point = last(&points);
        assert_eq!(point.pending().count(), 0, "nothing is left to be written");
        assert_eq!(point.current().pages(), 4, "reads show all of them");
        kept.insert(point.power_cut(&Choice::none()).written_pages().collect::<Vec<_>>());
    }
    assert_eq!(kept.len(), 16, "every subset of four");
}

#[test]
fn after_a_failed_flush_an_honest_device_fails_every_other_on_every_channel() {
    let device = after_failed_flush(AfterFailedFlush::Fail, 1);
    for _ in 0..2 {
        assert_eq!(run(&mut *open(&device), Operation::Flush).map(drop), Err(IoError::FlushFailed));
    }
    assert_eq!(run(&mut *open(&device), write(1, 2)).map(drop), Ok(()));
}

#[test]
fn an_ignored_flush_makes_nothing_durable_and_the_next_one_does() {
    let device = faulty(Fault::FlushIgnored { nth: 0 });
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    run(&mut *channel, Operation::Flush).expect("the ignored flush");
    assert_eq!(byte(&device.durable(), 1), Some(0));
    run(&mut *channel, Operation::Flush).expect("a flush");
    assert_eq!(byte(&device.durable(), 1), Some(1));
}

#[test]
fn a_lost_write_leaves_what_was_there_even_after_a_flush() {
    let device = faulty(Fault::WriteLost { nth: 1 });
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    run(&mut *channel, write(1, 2)).expect("the lost write");
    run(&mut *channel, Operation::Flush).expect("a flush");
    assert_eq!(read(&mut *channel, 1).expect("a read"), vec![1; 4096]);
    assert_eq!(byte(&device.durable(), 1), Some(1));
}

#[test]
fn a_misdirected_write_lands_elsewhere_and_wraps_at_the_end() {
    let device = faulty(Fault::WriteMisdirected { nth: 1, by: 5 * PAGE });
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    run(&mut *channel, write(2, 2)).expect("the misdirected write");
    assert_eq!((byte(&device.disk(), 2), byte(&device.disk(), 7)), (Some(0), Some(2)));
    let wrapped = faulty(Fault::WriteMisdirected { nth: 0, by: 2 * PAGE });
    run(&mut *open(&wrapped), write(63, 3)).expect("the misdirected write");
    assert_eq!(wrapped.disk().pages(), 1 + usize::from(byte(&wrapped.disk(), 1).is_none()));
    assert_eq!(byte(&wrapped.disk(), 63), Some(0));
}

#[test]
fn a_misdirected_read_returns_another_place() {
    let device = faulty(Fault::ReadMisdirected { nth: 0, by: 3 * PAGE });
    let mut channel = open(&device);
    run(&mut *channel, write(4, 4)).expect("a write");
    assert_eq!(read(&mut *channel, 1).expect("the misdirected read"), vec![4; 4096]);
    assert_eq!(read(&mut *channel, 1).expect("a read"), vec![0; 4096]);
}

#[test]
fn a_full_medium_refuses_new_places_and_still_overwrites() {
    let device = device(Profile { capacity: Some(3 * PAGE), ..Profile::default() });
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    run(&mut *channel, Operation::Allocate { offset: 2 * PAGE, length: 2 * PAGE }).expect("an allocation");
    assert_eq!(run(&mut *channel, write(9, 1)).map(drop), Err(IoError::OutOfSpace));
    let more = Operation::Allocate { offset: 2 * PAGE, length: 3 * PAGE };
    assert_eq!(run(&mut *channel, more).map(drop), Err(IoError::OutOfSpace));
    assert_eq!(byte(&device.disk(), 9), Some(0));
    for page in 1..4 {
        run(&mut *channel, write(page, 2)).expect("a place it has");
    }
    run(&mut *channel, Operation::WriteZeroes { offset: 3 * PAGE, length: PAGE })
        .expect("zeroes keep their place");
    assert_eq!(run(&mut *channel, write(9, 1)).map(drop), Err(IoError::OutOfSpace));
    run(&mut *channel, Operation::Discard { offset: PAGE, length: PAGE }).expect("a discard");
    run(&mut *channel, write(9, 1)).expect("the place that was given back");
}

#[test]
fn a_device_without_discards_refuses_them() {
    let device = device(Profile { discards: Discards::Unsupported, ..Profile::default() });
    assert_eq!(device.discard_granularity(), None);
    let discard = Operation::Discard { offset: 0, length: PAGE };
    assert_eq!(run(&mut *open(&device), discard).map(drop), Err(IoError::Unsupported));
}

#[test]
fn operations_that_are_refused_do_not_count_for_faults() {
    let device = faulty(Fault::WriteError { nth: 0 });
    let mut channel = open(&device);
    assert_eq!(run(&mut *channel, write(64, 1)).map(drop), Err(IoError::OutOfRange));
    assert_eq!(run(&mut *channel, write(0, 1)).map(drop), Err(IoError::EIO));
}

#[test]
fn a_write_that_failed_is_not_pending() {
    let device = faulty(Fault::WriteError { nth: 0 });
    let points = observed(&device);
    submit(&mut *open(&device), 0, write(1, 1));
    assert_eq!(last(&points).pending().count(), 0);
}
