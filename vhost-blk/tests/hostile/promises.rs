//! What a driver may count on that knows event indexes, or whose back end has died.

use super::{DATA, Field, HEADER, IN, OUT, STATUS, describe_read};
use crate::vhost_client::Ask;
use crate::vhost_monitor::{AVAILABLE, Monitor, NEXT, QUEUE_SIZE, WRITE};

const BLOCK: u32 = 4096;

#[test]
fn a_driver_is_called_when_it_has_asked_for_that_and_not_before() {
    let field = Field::new();
    let mut monitor = Monitor::connect_without(&field.served.socket("victim"), 0);
    monitor.set_up(QUEUE_SIZE);
    describe_read(&monitor, 512);
    monitor.call_after(1, QUEUE_SIZE);
    monitor.offer(0);
    while monitor.used() == 0 {
        std::thread::yield_now();
    }
    assert!(!monitor.is_called(200), "the first is used, and nobody is called");
    monitor.offer(0);
    assert!(monitor.is_called(10_000) && monitor.used() == 2);
    drop(monitor);
    field.end();
}

#[test]
fn requests_that_come_with_one_kick_are_answered_with_one_call() {
    const REQUESTS: u16 = 5;
    let field = Field::new();
    let monitor = field.monitor();
    for round in 0..20 {
        for number in 0..REQUESTS {
            describe_write(&monitor, number);
            // A read, which the engine answers at once.
            monitor.header(HEADER + u64::from(number) * 16, IN, 0);
            monitor.describe(number * 3 + 1, DATA, BLOCK, NEXT | WRITE, number * 3 + 2);
            let slot = usize::from((round * REQUESTS + number) % QUEUE_SIZE);
            monitor.put(AVAILABLE + 4 + slot * 2, &(number * 3).to_le_bytes());
        }
        monitor.offer_index((round + 1) * REQUESTS);
        assert_eq!(monitor.calls(10_000), 1);
        assert!(!monitor.is_called(20));
        assert_eq!(monitor.used(), (round + 1) * REQUESTS);
    }
    drop(monitor);
    field.end();
}

/// A write of a block of the number's own bytes, in three descriptors.
fn describe_write(monitor: &Monitor, number: u16) {
    let (head, place) = (number * 3, u64::from(number));
    let (header, status) = (HEADER + place * 16, STATUS + place);
    let data = DATA + place * u64::from(BLOCK);
    monitor.header(header, OUT, 0);
    let byte = u8::try_from(number + 1).expect("small");
    monitor.put(usize::try_from(data).expect("small"), &[byte; 4096]);
    monitor.describe(head, header, 16, NEXT, head + 1);
    monitor.describe(head + 1, data, BLOCK, NEXT, head + 2);
    monitor.describe(head + 2, status, 1, WRITE, 0);
}

/// All write the same block: the one that was taken last is what it has in the end.
#[test]
fn what_a_dead_back_end_has_taken_is_taken_again_in_the_same_order() {
    let field = Field::new();
    for order in [[3_u16, 0, 4, 1, 2], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4], [2, 4, 1, 0, 3]] {
        let mut monitor = Monitor::connect(&field.served.socket("victim"));
        monitor.track(QUEUE_SIZE);
        (0..5).for_each(|number| describe_write(&monitor, number));
        let heads = order.map(|number| number * 3);
        // In another order: the region counts.
        for (place, head) in heads.iter().rev().enumerate() {
            monitor.put(AVAILABLE + 4 + place * 2, &head.to_le_bytes());
        }
        monitor.put(AVAILABLE + 2, &5_u16.to_le_bytes());
        monitor.note_taken(&heads);
        monitor.set_up(QUEUE_SIZE);
        while monitor.used() < 5 {
            assert!(monitor.is_called(10_000), "{} of five", monitor.used());
        }
        while monitor.is_called(100) {}
        assert_eq!(monitor.used(), 5, "each is used once");
        drop(monitor);
        let mut driver = super::Driver::connect(&field.served.socket("victim"), 4, 4096).expect("connected");
        assert_eq!(driver.run(Ask::Read { offset: 0, length: 4096 }).expect("an answer"), 0);
        let last = u8::try_from(order[4] + 1).expect("small");
        let bytes = driver.bytes(0, 4096);
        assert!(bytes.iter().all(|byte| *byte == last), "{order:?}: {}", bytes[0]);
    }
    field.end();
}
