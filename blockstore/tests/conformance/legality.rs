//! B3: what every device refuses, with which error, and that it changes nothing.

use crate::drive::{bytes, channel, contents, read_of, run, write, write_of};
use crate::factory::Factory;
use blockstore::{Buffer, Device, Durability, IoChannel, IoError, Operation};

const SIZE: u64 = 256 << 10;

/// Every operation with a range, on this one.
fn with_range(device: &dyn Device, offset: u64, length: usize) -> Vec<Operation> {
    let long = bytes(length);
    let mut all = vec![
        read_of(offset, length),
        write_of(offset, &vec![0xBB; length]),
        Operation::Write {
            offset,
            buffer: Buffer::from_slice(&vec![0xBB; length]),
            durability: Durability::Through,
        },
        Operation::WriteZeroes { offset, length: long },
        Operation::Allocate { offset, length: long },
    ];
    if device.discard_granularity().is_some() {
        all.push(Operation::Discard { offset, length: long });
    }
    all
}

fn refused(channel: &mut dyn IoChannel, operation: Operation, expected: IoError) {
    let what = format!("{operation:?}");
    assert_eq!(run(channel, operation).result, Err(expected), "{what}");
}

pub(crate) fn empty_and_misaligned_ranges_are_refused(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    let unit = made.device.alignment();
    assert!(unit.is_power_of_two() && (1..=4096).contains(&unit));
    let mut ranges = vec![(0, 0), (bytes(unit), 0), (SIZE, 0)];
    if unit > 1 {
        ranges.extend([(1, unit), (0, 1), (0, unit + 1), (bytes(unit / 2), unit), (SIZE - 1, unit)]);
    }
    for (offset, length) in ranges {
        for operation in with_range(&*made.device, offset, length) {
            refused(&mut *channel, operation, IoError::Misaligned);
        }
    }
}

pub(crate) fn ranges_behind_the_end_are_refused(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    let last = u64::MAX - 4095;
    for (offset, length) in
        [(SIZE, 4096), (SIZE - 4096, 8192), (SIZE + 4096, 4096), (last, 4096), (last - 4096, 8192)]
    {
        for operation in with_range(&*made.device, offset, length) {
            refused(&mut *channel, operation, IoError::OutOfRange);
        }
    }
    for operation in with_range(&*made.device, SIZE - 4096, 4096) {
        let what = format!("{operation:?}");
        assert_eq!(run(&mut *channel, operation).result, Ok(()), "the last block: {what}");
    }
}

pub(crate) fn misaligned_memory_is_refused(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    let unit = made.device.alignment();
    if unit == 1 {
        return;
    }
    let off_by_one = || {
        let mut whole = Buffer::zeroed(2 * unit);
        let mut rest = whole.split_off(1);
        drop(rest.split_off(unit));
        rest
    };
    refused(&mut *channel, Operation::Read { offset: 0, buffer: off_by_one() }, IoError::Misaligned);
    let write = Operation::Write { offset: 0, buffer: off_by_one(), durability: Durability::Cached };
    refused(&mut *channel, write, IoError::Misaligned);
    let mut aligned = Buffer::zeroed(2 * unit);
    let half = aligned.split_off(unit);
    assert_eq!(run(&mut *channel, Operation::Read { offset: 0, buffer: half }).result, Ok(()));
}

pub(crate) fn what_is_refused_has_no_effect(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    write(&mut *channel, 0, &vec![0x77; 256 << 10]).expect("writing");
    for (offset, length) in [(0, 0), (SIZE - 4096, 8192), (SIZE, 4096)] {
        for operation in with_range(&*made.device, offset, length) {
            assert!(run(&mut *channel, operation).result.is_err());
        }
    }
    assert_eq!(made.device.size(), SIZE);
    assert!(contents(&mut *channel, &*made.device).iter().all(|byte| *byte == 0x77));
    assert_eq!(run(&mut *channel, Operation::Flush).result, Ok(()), "a refusal is no failure of the medium");
}

pub(crate) fn sizes_no_device_can_have_are_refused(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    for length in [1, 512, SIZE + 2048] {
        refused(&mut *channel, Operation::Resize { length }, IoError::Misaligned);
    }
    refused(&mut *channel, Operation::Resize { length: u64::MAX - 4095 }, IoError::OutOfRange);
    assert_eq!(made.device.size(), SIZE);
}
