//! A disk hears of its requests early, and its first answers are handed on early; media in memory are spared the calls.

use crate::drive::{directory_in_memory, directory_on_disk, file_of, open, write};
use blockstore::{Access, Buffer, Completion, Engine, IoChannel, Operation, Submission, Token};
use std::collections::VecDeque;
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

const READS: u64 = 10;
const WAITS_MAX: u32 = 60_000;
const WAIT: Duration = Duration::from_secs(1);
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

/// Polls until everything is answered, and waits only when a poll would find nothing; what each poll answered.
fn polls(channel: &mut dyn IoChannel) -> Vec<usize> {
    let mut done: Vec<Completion> = Vec::new();
    let mut counts = Vec::new();
    for _ in 0..WAITS_MAX {
        if channel.in_flight() == 0 {
            break;
        }
        if !channel.is_unfinished() {
            channel.wait(WAIT).expect("waiting");
        }
        counts.push(channel.poll(&mut done));
    }
    let mut tokens: Vec<u64> = done.iter().map(|completion| completion.token.0).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..READS).collect::<Vec<_>>(), "each has one answer");
    assert!(done.iter().all(|completion| completion.result.is_ok()));
    counts
}

/// Until the disk has answered everything.
fn stand_still(channel: &mut dyn IoChannel) {
    let is_busy = |channel: &mut dyn IoChannel| channel.under_way() != Some(0);
    for _ in 0..WAITS_MAX {
        if !is_busy(channel) {
            break;
        }
        // Also lets the kernel note down answers.
        sleep(Duration::from_millis(1));
    }
    assert!(!is_busy(channel));
}

#[test]
fn a_disk_that_stands_still_says_so_and_hands_on_its_first_answers_first() {
    let (works_alone, mut channel) = channel(&directory_on_disk());
    assert_eq!(channel.under_way(), works_alone.then_some(0));
    submit_reads(&mut *channel);
    if !works_alone {
        return assert_eq!(channel.under_way(), None, "without O_DIRECT it is the processor that works");
    }
    assert!(channel.under_way() <= Some(10));
    stand_still(&mut *channel);
    let mut done = Vec::new();
    assert_eq!(channel.poll(&mut done), FIRST);
    assert!(channel.is_unfinished(), "nothing will happen that could wake a sleeper");
    assert_eq!(channel.poll(&mut done), FIRST);
    assert!(channel.is_unfinished());
    assert_eq!(channel.poll(&mut done), 2);
    assert!(!channel.is_unfinished());
}

#[test]
fn what_is_polled_by_what_a_disk_says_comes_to_an_end() {
    let (_, mut channel) = channel(&directory_on_disk());
    for _ in 0..100 {
        submit_reads(&mut *channel);
        assert_eq!(polls(&mut *channel).iter().sum::<usize>(), 10);
    }
}

#[test]
fn a_medium_in_memory_has_nothing_under_way_by_itself() {
    let (works_alone, mut channel) = channel(&directory_in_memory());
    assert!(!works_alone && channel.under_way().is_none());
    submit_reads(&mut *channel);
    assert!(channel.under_way().is_none());
    assert_eq!(polls(&mut *channel).iter().sum::<usize>(), 10);
}
