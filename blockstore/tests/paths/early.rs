//! A disk tells what it has yet to answer, and its first answers are handed on early; what is left of them is told.

use crate::drive::{directory_in_memory, directory_on_disk, file_of, open, write};
use blockstore::{Access, Buffer, Completion, Engine, IoChannel, Operation, Submission, Token};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

const READS: u64 = 100;
const DEPTH: usize = 100;
/// Of a millisecond each.
const WAITS_MAX: u32 = 60_000;
/// Answers of a disk that stands still that one poll hands on.
const FIRST: usize = 4;

fn channel(directory: &TempDir) -> (bool, Box<dyn IoChannel>) {
    let path = file_of(directory, READS * 4096);
    let device = open(&path, Access::ReadWrite, Engine::Uring).expect("a device");
    let mut channel = device.open_channel(DEPTH).expect("a channel");
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

/// Polls until everything is answered, asleep until something changes whenever nothing is said to be left.
fn poll_all(channel: &mut dyn IoChannel, changes: &OwnedFd) {
    let mut done: Vec<Completion> = Vec::new();
    while channel.in_flight() > 0 {
        channel.poll(&mut done);
        if channel.in_flight() > 0 && !channel.is_unfinished() {
            let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
            let mut events = Vec::with_capacity(1);
            match epoll::wait(changes, spare_capacity(&mut events), Some(&minute)) {
                // The kernel was noting down answers.
                Err(Errno::INTR) => {}
                woken => assert_eq!(woken, Ok(1), "{} of {READS} are never told of", channel.in_flight()),
            }
        }
    }
    let mut tokens: Vec<u64> = done.iter().map(|completion| completion.token.0).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..READS).collect::<Vec<_>>(), "each has one answer");
    assert!(done.iter().all(|completion| completion.result.is_ok()));
}

/// Until the disk has answered everything.
#[expect(clippy::disallowed_methods, reason = "a disk takes real time")]
fn stand_still(channel: &mut dyn IoChannel) {
    for _ in 0..WAITS_MAX {
        if channel.under_way() == Some(0) {
            return;
        }
        // Also lets the kernel note down answers.
        sleep(Duration::from_millis(1));
    }
    panic!("the disk never answers all of it");
}

#[test]
fn a_disk_that_stands_still_says_so_and_hands_on_its_first_answers_first() {
    let (works_alone, mut channel) = channel(&directory_on_disk());
    assert_eq!(channel.under_way(), works_alone.then_some(0));
    submit_reads(&mut *channel);
    if !works_alone {
        return assert_eq!(channel.under_way(), None, "without O_DIRECT it is the processor that works");
    }
    stand_still(&mut *channel);
    let mut done = Vec::new();
    while channel.in_flight() > FIRST {
        assert_eq!(channel.poll(&mut done), FIRST);
        assert!(channel.is_unfinished(), "nothing will happen that could wake a sleeper");
    }
    assert_eq!(channel.poll(&mut done), FIRST);
    assert!(!channel.is_unfinished() && channel.in_flight() == 0);
}

/// As a server does that is woken by changes only: what a poll has left behind changes nothing.
#[test]
fn who_sleeps_until_something_changes_gets_every_answer() {
    for directory in [directory_on_disk(), directory_in_memory()] {
        let (_, mut channel) = channel(&directory);
        let changes = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a set");
        let ring = channel.descriptor().expect("a ring has one");
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&changes, ring, epoll::EventData::new_u64(0), flags).expect("a place");
        for _ in 0..100 {
            submit_reads(&mut *channel);
            poll_all(&mut *channel, &changes);
        }
    }
}

#[test]
fn a_medium_in_memory_has_nothing_under_way_by_itself() {
    let (works_alone, mut channel) = channel(&directory_in_memory());
    assert!(!works_alone && channel.under_way().is_none());
    submit_reads(&mut *channel);
    assert!(channel.under_way().is_none());
}

#[test]
fn at_most_two_threads_of_the_kernel_copy_for_a_thread() {
    let (_, mut channel) = channel(&directory_in_memory());
    // Long ones: no thread is idle when the next is begun.
    let read = |number| Submission {
        token: Token(number),
        operation: Operation::Read { offset: 0, buffer: Buffer::zeroed(100 * 4096) },
    };
    for _ in 0..20 {
        let mut queue: VecDeque<Submission> = (0..READS).map(read).collect();
        channel.submit(&mut queue);
        while channel.in_flight() > 0 {
            channel.wait(Duration::from_secs(60)).expect("an answer");
            channel.poll(&mut Vec::new());
        }
    }
    // The kernel calls them so.
    let ours = format!("iou-wrk-{}", rustix::thread::gettid().as_raw_nonzero());
    let tasks = std::fs::read_dir("/proc/self/task").expect("this process");
    let names = tasks.map(|task| std::fs::read_to_string(task.expect("a task").path().join("comm")));
    // Threads of other tests end meanwhile.
    let threads = names.filter(|name| name.as_ref().is_ok_and(|name| name.trim() == ours)).count();
    assert!(threads <= 2, "{threads} of them");
}
