//! B1 and B2: what a read sees, and operations in flight together.

use crate::drive::{bytes, channel, contents, finish, queue, read, run, write, write_of};
use crate::factory::Factory;
use blockstore::{Buffer, Durability, Operation};
use std::thread;

const SIZE: u64 = 1 << 20;
const BLOCK: usize = 4096;

pub(crate) fn a_read_sees_what_had_completed(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let (mut one, mut two) = (channel(&*made.device, 4), channel(&*made.device, 4));
    for round in 1..=50 {
        write(&mut *one, 8192, &[round; 3 * BLOCK]).expect("writing");
        assert_eq!(read(&mut *two, 8192, 3 * BLOCK), Ok(vec![round; 3 * BLOCK]));
        write(&mut *two, 12288, &[round + 100; BLOCK]).expect("writing");
        assert_eq!(read(&mut *one, 12288, BLOCK), Ok(vec![round + 100; BLOCK]));
    }
}

pub(crate) fn channels_of_two_threads_do_not_disturb_each_other(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    thread::scope(|scope| {
        for lane in 0..2_usize {
            let device = &*made.device;
            scope.spawn(move || {
                let mut channel = channel(device, 16);
                for round in 0..10_u8 {
                    let mine = || (0..256).filter(|block| block % 2 == lane);
                    let stamp = round * 2 + u8::try_from(lane).expect("0 or 1");
                    let writes = mine().map(|block| write_of(bytes(block * BLOCK), &[stamp; BLOCK]));
                    let done = finish(&mut *channel, &mut queue(writes));
                    assert!(done.iter().all(|completion| completion.result.is_ok()));
                    for block in mine().step_by(16) {
                        assert_eq!(read(&mut *channel, bytes(block * BLOCK), BLOCK), Ok(vec![stamp; BLOCK]));
                    }
                }
            });
        }
    });
    let mut channel = channel(&*made.device, 4);
    let all = contents(&mut *channel, &*made.device);
    assert!(
        (0..256).all(|block| all[block * BLOCK..][..BLOCK]
            .iter()
            .all(|byte| usize::from(*byte) == 18 + block % 2))
    );
}

pub(crate) fn overlapping_writes_leave_one_of_them_in_each_sector(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let (mut one, mut two) = (channel(&*made.device, 8), channel(&*made.device, 8));
    for _ in 0..20 {
        let writes = |stamp: u8| queue((stamp..stamp + 8).map(|stamp| write_of(0, &[stamp; 4 * BLOCK])));
        let (mut first, mut second) = (writes(1), writes(11));
        one.submit(&mut first);
        two.submit(&mut second);
        for (channel, queue) in [(&mut one, &mut first), (&mut two, &mut second)] {
            assert!(finish(&mut **channel, queue).iter().all(|completion| completion.result.is_ok()));
        }
        let after = read(&mut *one, 0, 4 * BLOCK).expect("reading");
        for sector in after.chunks(512) {
            assert!((1..9).contains(&sector[0]) || (11..19).contains(&sector[0]));
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is of one write");
        }
    }
}

pub(crate) fn a_channel_may_change_its_thread(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 32);
    let mut started = queue((0..32).map(|number: usize| write_of(bytes(number * BLOCK), &[3; BLOCK])));
    channel.submit(&mut started);
    let other = thread::spawn(move || {
        let mut done = finish(&mut *channel, &mut started);
        let more = (32..48).map(|number: usize| write_of(bytes(number * BLOCK), &[3; BLOCK]));
        done.extend(finish(&mut *channel, &mut queue(more)));
        (channel, done)
    });
    let (mut channel, done) = other.join().expect("the other thread");
    assert_eq!(done.len(), 48);
    assert!(done.iter().all(|completion| completion.result.is_ok()));
    assert_eq!(read(&mut *channel, 0, 48 * BLOCK), Ok(vec![3; 48 * BLOCK]));
}

pub(crate) fn flushes_and_durable_writes_succeed_together_with_writes(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 16);
    assert_eq!(run(&mut *channel, Operation::Flush).result, Ok(()), "with nothing to flush");
    let mixed = (0..48).map(|number: usize| match number % 3 {
        0 => Operation::Flush,
        1 => write_of(bytes(number * BLOCK), &[1; BLOCK]),
        _ => Operation::Write {
            offset: bytes(number * BLOCK),
            buffer: Buffer::from_slice(&[2; BLOCK]),
            durability: Durability::Through,
        },
    });
    let done = finish(&mut *channel, &mut queue(mixed));
    assert!(done.len() == 48 && done.iter().all(|completion| completion.result.is_ok()));
    assert_eq!(run(&mut *channel, Operation::Flush).result, Ok(()));
    let all = contents(&mut *channel, &*made.device);
    assert!(
        (0..48).all(|block| all[block * BLOCK..][..BLOCK].iter().all(|byte| usize::from(*byte) == block % 3))
    );
}
