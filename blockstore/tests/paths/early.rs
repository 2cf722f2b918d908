//! A disk hears of its requests early, and its first answers are handed on early; media in memory are spared the calls.

use crate::drive::{directory_in_memory, directory_on_disk, file_of, open, write};
use blockstore::{Access, Buffer, Completion, Engine, IoChannel, Operation, Submission, Token};
use std::collections::VecDeque;
use std::thread::yield_now;
use std::time::Duration;
use tempfile::TempDir;

const READS: u64 = 10;
/// Answers of a disk that stands still that one poll hands on.
const FIRST: usize = 4;

fn channel(directory: &TempDir) -> (bool, Box<dyn IoChannel>) {
    let path = file_of(directory, READS * 4096);
    let device = open(&path, Access::ReadWrite, Engine::Uring).expect("a device");
    let mut channel = device.open_channel(32).expect("a channel");
    for number in 0..READS {
        write(&mut *channel, number * 4096, &[7; 4096]).expect("a block that is more than a hole");
    }
    (device.works_alone(), channel)
}

fn submit_reads(channel: &mut dyn IoChannel) {
    let read = |number| Operation::Read { offset: number * 4096, buffer: Buffer::zeroed(4096) };
    let mut queue: VecDeque<Submission> =
        (0..READS).map(|number| Submission { token: Token(number), operation: read(number) }).collect();
    channel.submit(&mut queue);
    assert!(queue.is_empty());
}

/// Polls until everything is answered; how many answers each poll had that had some.
fn polls(channel: &mut dyn IoChannel) -> Vec<usize> {
    let mut done: Vec<Completion> = Vec::new();
    let mut counts = Vec::new();
    while channel.in_flight() > 0 {
        channel.wait(Duration::from_secs(60)).expect("waiting");
        counts.push(channel.poll(&mut done));
    }
    let mut tokens: Vec<u64> = done.iter().map(|completion| completion.token.0).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..READS).collect::<Vec<_>>(), "each has one answer");
    assert!(done.iter().all(|completion| completion.result.is_ok()));
    counts
}

#[test]
fn a_disk_that_stands_still_wants_work_and_hands_on_its_first_answers_first() {
    let (works_alone, mut channel) = channel(&directory_on_disk());
    assert_eq!(channel.wants(1), works_alone, "an idle disk wants its first request alone");
    submit_reads(&mut *channel);
    if !works_alone {
        return assert!(!channel.wants(usize::MAX), "without O_DIRECT it is the processor that works");
    }
    assert!(channel.wants(5), "half of what it can have");
    while !channel.wants(0) {
        // Also lets the kernel note down answers.
        yield_now();
    }
    assert_eq!(polls(&mut *channel), [FIRST, FIRST, 2]);
}

#[test]
fn a_medium_in_memory_never_wants_work() {
    let (works_alone, mut channel) = channel(&directory_in_memory());
    assert!(!works_alone && !channel.wants(1));
    submit_reads(&mut *channel);
    assert!(!channel.wants(100));
    assert_eq!(polls(&mut *channel).iter().sum::<usize>(), 10);
}
