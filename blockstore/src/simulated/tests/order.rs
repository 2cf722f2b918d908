//! Completions: in which order, when, and that a halted device stays halted.

use super::{PAGE, byte, device, drain, observed, open, read, run, submit, write};
use crate::device::Device;
use crate::error::IoError;
use crate::operation::{Operation, Submission, Token};
use crate::simulated::{
    CompletionOrder, CrashPoint, Moment, Profile, ReadLog, SimulatedDevice, SimulatedDisk,
};
use std::collections::VecDeque;
use std::time::Duration;

fn tokens_of(profile: &Profile, seed: u64) -> Vec<u64> {
    let device = SimulatedDevice::new(SimulatedDisk::new(64 * PAGE), profile.clone(), seed);
    let mut channel = open(&device);
    (0..8).for_each(|token| submit(&mut *channel, token, write(token, 1)));
    drain(&mut *channel).iter().map(|completion| completion.token.0).collect()
}

#[test]
fn an_orderly_device_completes_in_order_however_slow_it_is() {
    let profile = Profile { latency_polls_max: 5, ..Profile::default() };
    (0..20).for_each(|seed| assert_eq!(tokens_of(&profile, seed), (0..8).collect::<Vec<_>>()));
}

#[test]
fn the_seed_alone_decides_the_order() {
    let profile = Profile { order: CompletionOrder::Any, latency_polls_max: 3, ..Profile::default() };
    let orders: Vec<_> = (0..20).map(|seed| tokens_of(&profile, seed)).collect();
    assert_eq!(orders, (0..20).map(|seed| tokens_of(&profile, seed)).collect::<Vec<_>>());
    assert!(orders.iter().any(|order| *order != orders[0]), "seeds differ");
    for mut order in orders {
        order.sort_unstable();
        assert_eq!(order, (0..8).collect::<Vec<_>>(), "one completion each");
    }
}

#[test]
fn a_prompt_device_has_no_descriptor_and_a_slow_one_has() {
    assert!(open(&device(Profile::default())).descriptor().is_none());
    let slow = device(Profile { latency_polls_max: 1, ..Profile::default() });
    assert!(open(&slow).descriptor().is_some());
}

#[test]
fn after_wait_the_next_poll_finds_something() {
    for order in [CompletionOrder::Submission, CompletionOrder::Any] {
        let device = device(Profile { order, latency_polls_max: 50, ..Profile::default() });
        let mut channel = open(&device);
        (0..8).for_each(|token| submit(&mut *channel, token, write(token, 1)));
        let mut done = Vec::new();
        while channel.in_flight() > 0 {
            channel.wait(Duration::ZERO).expect("waiting is a step of the simulation");
            assert!(channel.poll(&mut done) > 0);
        }
        assert_eq!(done.len(), 8);
    }
}

#[test]
fn a_late_discard_completes_after_what_was_submitted_later() {
    let profile = Profile { order: CompletionOrder::Any, discard_delay_polls: 8, ..Profile::default() };
    let device = device(profile);
    let mut channel = open(&device);
    run(&mut *channel, write(3, 7)).expect("a write");
    submit(&mut *channel, 1, Operation::Discard { offset: 3 * PAGE, length: PAGE });
    submit(&mut *channel, 2, write(3, 9));
    let order: Vec<u64> = drain(&mut *channel).iter().map(|completion| completion.token.0).collect();
    assert_eq!(order, vec![2, 1]);
    assert_eq!(byte(&device.disk(), 3), Some(0), "whoever reuses a block under a discard loses it");
}

#[test]
fn some_operations_straggle_and_others_overtake_them() {
    let profile = Profile { order: CompletionOrder::Any, straggler_delay_polls: 20, ..Profile::default() };
    let device = device(profile);
    let mut channel = open(&device);
    (0..32).for_each(|token| submit(&mut *channel, token, write(token, 1)));
    let mut done = Vec::new();
    let prompt = channel.poll(&mut done);
    assert!((16..32).contains(&prompt), "{prompt} of 32 completed at once");
    let polls = std::iter::repeat_with(|| channel.poll(&mut done)).take_while(|count| *count == 0).count();
    assert_eq!((polls, done.len()), (19, 32));
}

#[test]
fn a_slow_write_is_not_seen_before_it_completes_and_always_after() {
    let device = device(Profile { latency_polls_max: 9, ..Profile::default() });
    let mut channel = open(&device);
    submit(&mut *channel, 0, write(1, 5));
    assert_eq!(byte(&device.disk(), 1), Some(0));
    drain(&mut *channel);
    assert_eq!(read(&mut *open(&device), 1).expect("a read"), vec![5; 4096]);
}

#[test]
fn a_halted_device_takes_nothing_completes_nothing_and_does_not_make_its_user_wait() {
    let device = device(Profile::default());
    let mut channel = open(&device);
    device.halt_after(3);
    let mut queue: VecDeque<Submission> =
        (0..5).map(|token| Submission { token: Token(token), operation: write(token, 1) }).collect();
    channel.submit(&mut queue);
    assert_eq!((queue.len(), channel.in_flight(), device.events()), (2, 3, 3));
    assert!(device.is_halted());
    let mut done = Vec::new();
    assert_eq!(channel.poll(&mut done), 0);
    assert_eq!(channel.wait(Duration::from_secs(100)), Err(IoError::Cancelled));
    drop(channel);
    assert_eq!(device.disk().pages(), 0);
}

#[test]
fn a_device_halts_in_the_middle_of_a_poll() {
    let device = device(Profile::default());
    let mut channel = open(&device);
    (0..4).for_each(|token| submit(&mut *channel, token, write(token, 1)));
    device.halt_after(6);
    let mut done = Vec::new();
    assert_eq!(channel.poll(&mut done), 2);
    assert_eq!(channel.in_flight(), 2);
}

#[test]
fn a_dropped_channel_lets_what_is_in_flight_happen() {
    let device = device(Profile { latency_polls_max: 9, ..Profile::default() });
    let mut channel = open(&device);
    submit(&mut *channel, 0, write(1, 5));
    drop(channel);
    assert_eq!(byte(&device.disk(), 1), Some(5));
}

#[test]
fn the_observer_sees_both_moments_of_every_operation_and_may_look_at_the_device() {
    let device = device(Profile::default());
    let points = observed(&device);
    let mut channel = open(&device);
    run(&mut *channel, write(1, 5)).expect("a write");
    run(&mut *channel, Operation::Flush).expect("a flush");
    device.stop_observing();
    run(&mut *channel, write(2, 5)).expect("a write");
    let event = |point: &CrashPoint| point.event().expect("it was just observed");
    let moments: Vec<_> =
        points.lock().iter().map(|point| (event(point).number, event(point).moment)).collect();
    let both = |number| [(number, Moment::Submitted), (number + 1, Moment::Completed)];
    assert_eq!(moments, [both(1), both(3)].concat());
    let again = device.clone();
    device.observe(move |point| assert_eq!(again.events(), event(&point).number));
    run(&mut *channel, write(2, 6)).expect("a write");
}

#[test]
fn a_resize_counts_for_the_next_submission() {
    let device = device(Profile { latency_polls_max: 9, ..Profile::default() });
    let mut channel = open(&device);
    submit(&mut *channel, 0, Operation::Resize { length: 128 * PAGE });
    submit(&mut *channel, 1, write(100, 4));
    assert!(drain(&mut *channel).iter().all(|completion| completion.result.is_ok()));
    assert_eq!((device.size(), byte(&device.disk(), 100)), (128 * PAGE, Some(4)));
}

#[test]
fn the_read_log_has_what_was_read_before_it_was_written() {
    let device = device(Profile::default());
    let mut channel = open(&device);
    run(&mut *channel, write(1, 1)).expect("a write");
    run(&mut *channel, write(2, 1)).expect("a write");
    let log = |page_of_write: u64| {
        device.log_reads();
        let mut channel = open(&device);
        run(&mut *channel, write(page_of_write, 1)).expect("a write");
        (1..4).for_each(|page| drop(read(&mut *channel, page).expect("a read")));
        device.reads()
    };
    let pages = |log: &ReadLog| log.pages().iter().map(|(page, _)| *page).collect::<Vec<_>>();
    assert_eq!(pages(&log(2)), vec![1, 3]);
    assert_eq!(pages(&log(9)), vec![1, 2, 3]);
    assert_eq!(log(2).hash(), log(2).hash());
    assert_ne!(log(2).hash(), log(9).hash());
}
