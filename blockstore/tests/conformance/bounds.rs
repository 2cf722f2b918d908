//! B4, B5, B6: who has a buffer when, how many operations a channel holds, and that each is answered once.

use crate::drive::{bytes, channel, contents, finish, queue, read, read_of, run, write_of};
use crate::factory::Factory;
use blockstore::{Buffer, DEPTH_MAX, IoError, Operation, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsRawFd;
use std::time::Duration;

const SIZE: u64 = 1 << 20;
const BLOCK: usize = 4096;

fn reads(count: usize) -> impl Iterator<Item = Operation> {
    (0..count).map(|number| read_of(bytes(number % 256 * BLOCK), BLOCK))
}

pub(crate) fn a_channel_takes_no_more_than_its_depth(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    let mut queue = queue(reads(10));
    channel.submit(&mut queue);
    assert_eq!((channel.in_flight(), queue.len()), (4, 6));
    let left: Vec<_> = queue.iter().map(|submission| submission.token).collect();
    assert_eq!(left, (4..10).map(Token).collect::<Vec<_>>(), "the rest stays, in order");
    assert_eq!(finish(&mut *channel, &mut queue).len(), 10);
    assert_eq!((channel.in_flight(), queue.len()), (0, 0));
}

pub(crate) fn completions_that_were_not_polled_take_room(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    let mut queue = queue(reads(5));
    channel.submit(&mut queue);
    channel.wait(Duration::from_secs(1)).expect("waiting");
    channel.submit(&mut queue);
    assert_eq!((channel.in_flight(), queue.len()), (4, 1));
    assert_eq!(finish(&mut *channel, &mut queue).len(), 5);
}

pub(crate) fn a_depth_out_of_bounds_is_cut_to_the_bounds(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    for (asked, bound) in [(0, 1), (1, 1), (DEPTH_MAX, DEPTH_MAX), (usize::MAX, DEPTH_MAX)] {
        let mut channel = channel(&*made.device, asked);
        let mut queue = queue((0..=bound).map(|_| read_of(0, 512.max(made.device.alignment()))));
        channel.submit(&mut queue);
        assert_eq!((channel.in_flight(), queue.len()), (bound, 1));
        assert_eq!(finish(&mut *channel, &mut queue).len(), bound + 1);
    }
}

pub(crate) fn each_submission_gets_one_answer_with_its_token_and_buffer(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 8);
    let mixed = (0..60).map(|number: usize| {
        let offset = bytes(number * BLOCK);
        match number % 6 {
            0 => write_of(offset, &[7; BLOCK]),
            1 => read_of(offset, 2 * BLOCK),
            2 => Operation::Flush,
            3 => write_of(SIZE, &[9; 3 * BLOCK]),
            4 => read_of(SIZE + offset, BLOCK),
            _ => Operation::WriteZeroes { offset, length: bytes(BLOCK) },
        }
    });
    let mut done = finish(&mut *channel, &mut queue(mixed));
    done.sort_by_key(|completion| completion.token);
    assert_eq!(done.len(), 60);
    for (completion, number) in done.iter().zip(0..) {
        assert_eq!(completion.token, Token(number));
        let buffer = completion.buffer.as_deref();
        match number % 6 {
            0 => assert_eq!((completion.result, buffer), (Ok(()), Some(&[7; BLOCK][..]))),
            1 => assert_eq!((completion.result, buffer.map(<[u8]>::len)), (Ok(()), Some(2 * BLOCK))),
            3 => {
                assert_eq!((completion.result, buffer), (Err(IoError::OutOfRange), Some(&[9; 3 * BLOCK][..])))
            }
            4 => assert_eq!(
                (completion.result, buffer.map(<[u8]>::len)),
                (Err(IoError::OutOfRange), Some(BLOCK))
            ),
            _ => assert_eq!((completion.result, buffer), (Ok(()), None)),
        }
    }
}

pub(crate) fn an_idle_channel_waits_no_longer_than_told(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    channel.wait(Duration::ZERO).expect("waiting");
    channel.wait(Duration::from_millis(1)).expect("waiting");
    assert_eq!(channel.poll(&mut Vec::new()), 0);
}

pub(crate) fn the_descriptor_tells_of_every_completion(factory: &dyn Factory) {
    let made = factory.make(SIZE);
    let mut channel = channel(&*made.device, 4);
    let number = channel.descriptor().map(|descriptor| descriptor.as_raw_fd());
    let operations = [
        write_of(0, &[1; BLOCK]),
        read_of(0, BLOCK),
        Operation::Flush,
        // Refused, and settled without the kernel.
        read_of(SIZE, BLOCK),
        Operation::Resize { length: SIZE },
        Operation::Discard { offset: 0, length: bytes(BLOCK) },
    ];
    for operation in operations {
        let mut queue = queue([operation]);
        channel.submit(&mut queue);
        if let Some(descriptor) = channel.descriptor() {
            let timeout = Timespec { tv_sec: 30, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout));
            assert_eq!(ready, Ok(1), "the descriptor becomes readable");
        }
        let mut done = Vec::new();
        // A descriptor may be readable too early; without one, completions are there already.
        if channel.poll(&mut done) == 0 {
            assert!(channel.descriptor().is_some());
            done = finish(&mut *channel, &mut queue);
        }
        assert_eq!(done.len(), 1);
        assert_eq!(channel.descriptor().map(|descriptor| descriptor.as_raw_fd()), number);
    }
}

pub(crate) fn dropping_a_channel_waits_for_what_is_in_flight(factory: &dyn Factory) {
    const LONG: usize = 1 << 20;
    let made = factory.make(bytes(16 * LONG));
    let mut other = channel(&*made.device, 4);
    for round in 1..=8 {
        let mut busy = channel(&*made.device, 16);
        busy.submit(&mut queue((0..16).map(|number: usize| write_of(bytes(number * LONG), &[round; LONG]))));
        drop(busy);
        // A write that is still under way changes the last block it reaches between the two looks.
        let ends = (1..=16).map(|number: usize| bytes(number * LONG - BLOCK));
        let at_once: Vec<_> = ends.map(|offset| read(&mut *other, offset, BLOCK)).collect();
        for end in &at_once {
            let end = end.as_ref().expect("reading");
            assert!(end.iter().all(|byte| *byte <= round));
        }
        assert_eq!(run(&mut *other, Operation::Flush).result, Ok(()));
        let all = contents(&mut *other, &*made.device);
        let later: Vec<_> = all.chunks(LONG).map(|part| Ok(part[LONG - BLOCK..].to_vec())).collect();
        assert!(at_once == later, "a dropped write came late");
    }
}

/// The memory of a dropped channel's buffers goes to new buffers at once; a read that is still under way would show.
pub(crate) fn a_dropped_channel_leaves_its_buffers_alone(factory: &dyn Factory) {
    const LONG: usize = 64 << 10;
    let made = factory.make(bytes(64 * LONG));
    let mut other = channel(&*made.device, 4);
    let fill = queue((0..64).map(|number: usize| write_of(bytes(number * LONG), &[0x55; LONG])));
    assert_eq!(finish(&mut *other, &mut { fill }).len(), 64);
    for _ in 0..20 {
        let mut busy = channel(&*made.device, 64);
        busy.submit(&mut queue((0..64).map(|number: usize| read_of(bytes(number * LONG), LONG))));
        drop(busy);
        let buffers = [(); 64].map(|()| Buffer::from_slice(&[0xEE; LONG]));
        contents(&mut *other, &*made.device);
        assert!(
            buffers.iter().all(|buffer| buffer.iter().all(|byte| *byte == 0xEE)),
            "a dropped read came late"
        );
    }
}
