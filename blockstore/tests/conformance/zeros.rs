//! B7: what reads as zeros and what stays.

use crate::drive::{bytes, channel, contents, read, run, write};
use crate::factory::Factory;
use blockstore::{Device, IoChannel, Operation};

const SIZE: u64 = 512 << 10;
const FULL: usize = 512 << 10;

fn filled(device: &dyn Device) -> Box<dyn IoChannel> {
    let mut channel = channel(device, 4);
    write(&mut *channel, 0, &vec![0xAA; FULL]).expect("writing");
    channel
}

fn done(channel: &mut dyn IoChannel, operation: Operation) {
    let what = format!("{operation:?}");
    assert_eq!(run(channel, operation).result, Ok(()), "{what}");
}

pub(crate) fn a_new_device_reads_as_zeros(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    assert_eq!(made.device.size(), SIZE);
    assert_eq!(contents(&mut *channel, &*made.device), vec![0; FULL]);
}

pub(crate) fn discarded_and_zeroed_ranges_read_as_zeros_and_neighbours_stay(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let unit = bytes(made.device.alignment());
    let ranges =
        [(0, unit), (unit, 4096), (65536 - unit, 2 * unit), (4096, 196_608), (SIZE - 4096, 4096), (0, SIZE)];
    for (offset, length) in ranges {
        let mut expected = vec![0xAA; FULL];
        let start = usize::try_from(offset).expect("a small device");
        expected[start..start + usize::try_from(length).expect("a small device")].fill(0);
        let mut operations = vec![Operation::WriteZeroes { offset, length }];
        if made.device.discard_granularity().is_some() {
            operations.push(Operation::Discard { offset, length });
        }
        for operation in operations {
            let mut channel = filled(&*made.device);
            done(&mut *channel, operation);
            assert!(contents(&mut *channel, &*made.device) == expected, "{length} bytes at {offset}");
        }
    }
}

pub(crate) fn an_allocated_range_keeps_its_contents(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    write(&mut *channel, 8192, &[0xAA; 4096]).expect("writing");
    done(&mut *channel, Operation::Allocate { offset: 0, length: SIZE });
    let mut expected = vec![0; FULL];
    expected[8192..12288].fill(0xAA);
    assert!(contents(&mut *channel, &*made.device) == expected);
    write(&mut *channel, 4096, &[0xCC; 4096]).expect("writing");
    expected[4096..8192].fill(0xCC);
    assert!(contents(&mut *channel, &*made.device) == expected);
}

pub(crate) fn what_a_device_grows_by_reads_as_zeros(factory: &dyn Factory) {
    if !factory.can_resize() {
        return;
    }
    let made = factory.make(SIZE);
    let mut channel = filled(&*made.device);
    let mut other = crate::drive::channel(&*made.device, 4);
    assert!(write(&mut *other, SIZE, &[1; 4096]).is_err());
    done(&mut *channel, Operation::Resize { length: 2 * SIZE });
    assert_eq!(made.device.size(), 2 * SIZE);
    // Also for a channel that was there before.
    let mut expected = vec![0xAA; FULL];
    expected.resize(2 * FULL, 0);
    assert!(contents(&mut *other, &*made.device) == expected);
    write(&mut *other, 2 * SIZE - 4096, &[1; 4096]).expect("the new last block can be written");
    done(&mut *channel, Operation::Flush);
}

pub(crate) fn what_was_cut_off_does_not_come_back(factory: &dyn Factory) {
    if !factory.can_resize() {
        return;
    }
    let made = factory.make(SIZE);
    let mut channel = filled(&*made.device);
    for kept in [SIZE - 4096, 69632, 65536, 4096, 0] {
        write(&mut *channel, 0, &vec![0xAA; FULL]).expect("writing");
        done(&mut *channel, Operation::Resize { length: kept });
        assert_eq!(made.device.size(), kept);
        assert!(read(&mut *channel, kept, 4096).is_err(), "what is cut off cannot be read");
        done(&mut *channel, Operation::Resize { length: SIZE });
        let mut expected = vec![0xAA; usize::try_from(kept).expect("a small device")];
        expected.resize(FULL, 0);
        assert!(contents(&mut *channel, &*made.device) == expected, "{kept} bytes kept");
    }
}

pub(crate) fn a_range_can_be_written_again_after_a_discard(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    if made.device.discard_granularity().is_none() {
        return;
    }
    let mut channel = filled(&*made.device);
    for round in 0..10 {
        done(&mut *channel, Operation::Discard { offset: 0, length: SIZE });
        write(&mut *channel, 16384, &[round + 1; 8192]).expect("writing");
        assert_eq!(read(&mut *channel, 16384, 8192), Ok(vec![round + 1; 8192]));
        assert_eq!(read(&mut *channel, 24576, 4096), Ok(vec![0; 4096]));
    }
}
