//! Rings that cannot be, and rings that have lied: their monitor is told, their connection goes on, and a ring that was taken back
//! can begin anew.

use super::{Field, Verdict, describe_read, verdict};
use crate::vhost_monitor::{AVAILABLE, DESCRIPTORS, MEMORY_BYTES, Monitor, NEXT, QUEUE_SIZE, USED, WRITE};
use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;

/// The ring as it should be, on a connection that has had another.
fn works_once_taken_back(monitor: &mut Monitor) {
    monitor.frontend.get_vring_base(0).expect("taken back");
    monitor.set_ring(QUEUE_SIZE, DESCRIPTORS, AVAILABLE, USED).expect("a ring as it should be");
    describe_read(monitor, 512);
    assert_eq!(verdict(monitor), Verdict::Status(0));
}

#[test]
fn a_ring_of_an_impossible_size_is_refused_and_its_connection_goes_on() {
    let field = Field::new();
    for size in [0, 3, 17, 2048, 0x8000] {
        let mut monitor = Monitor::connect(&field.served.socket("victim"));
        monitor.share_memory();
        monitor.frontend.set_vring_num(0, size).expect_err("an impossible size");
        // A monitor that does not look at the answer goes on, and hears of it when the ring is whole.
        monitor.set_rest_of_ring(DESCRIPTORS, AVAILABLE, USED).expect_err("it is told and cannot be");
        assert!(monitor.is_broken(), "{size} entries");
        works_once_taken_back(&mut monitor);
    }
    field.end();
}

#[test]
fn a_ring_outside_of_memory_is_told_of_and_its_connection_goes_on() {
    let field = Field::new();
    let last = MEMORY_BYTES - 16;
    for (descriptors, available, used) in [
        (last, AVAILABLE, USED),
        (DESCRIPTORS, last, USED),
        (DESCRIPTORS, AVAILABLE, last),
        (DESCRIPTORS, AVAILABLE, 1 << 40),
    ] {
        let mut monitor = Monitor::connect(&field.served.socket("victim"));
        monitor.share_memory();
        let answer = monitor.set_ring(QUEUE_SIZE, descriptors, available, used);
        answer.expect_err("it is told and cannot be");
        assert!(monitor.is_broken(), "{descriptors:#x} {available:#x} {used:#x}");
        monitor.kick();
        assert!(!monitor.is_called(50) && monitor.used() == 0);
        works_once_taken_back(&mut monitor);
    }
    field.end();
}

/// Its index can be read, and the first head cannot.
#[test]
fn a_ring_with_an_entry_in_two_regions_is_broken() {
    let field = Field::new();
    let mut monitor = Monitor::connect(&field.served.socket("victim"));
    // The third one has the used ring, where it can be read.
    let mut start = 0;
    for bytes in [AVAILABLE + 5, USED - AVAILABLE - 5, MEMORY_BYTES] {
        let region = monitor.region(u64::try_from(start).expect("small"), bytes);
        monitor.frontend.add_mem_region(&region).expect("added");
        start += bytes;
    }
    monitor.set_ring(QUEUE_SIZE, DESCRIPTORS, AVAILABLE, USED).expect("all of it is memory");
    describe_read(&monitor, 512);
    monitor.offer(0);
    assert!(monitor.is_broken());
    drop(monitor);
    field.end();
}

/// No such message is well-formed.
#[test]
fn a_ring_between_two_words_of_memory_is_refused() {
    let field = Field::new();
    for (descriptors, available, used) in [
        (DESCRIPTORS + 1, AVAILABLE, USED),
        (DESCRIPTORS, AVAILABLE + 1, USED),
        (DESCRIPTORS, AVAILABLE, USED + 2),
    ] {
        let mut monitor = Monitor::connect(&field.served.socket("victim"));
        monitor.share_memory();
        monitor.set_ring(QUEUE_SIZE, descriptors, available, used).expect_err("not aligned");
    }
    field.end();
}

/// What it takes could not be noted, and would be lost with the back end.
#[test]
fn a_ring_larger_than_its_part_of_the_in_flight_region_is_told_of() {
    let field = Field::new();
    let mut monitor = Monitor::connect(&field.served.socket("victim"));
    monitor.share_memory();
    monitor.track(QUEUE_SIZE / 2);
    monitor.set_ring(QUEUE_SIZE, DESCRIPTORS, AVAILABLE, USED).expect_err("larger than its part");
    assert!(monitor.is_broken());
    // A region for it makes it whole.
    monitor.track(QUEUE_SIZE);
    assert!(monitor.is_called(10_000), "a call it may have missed");
    field.end_served(monitor);
}

/// As a monitor does it whose guest's memory changes its shape.
#[test]
fn a_ring_whose_memory_goes_and_comes_back_goes_on() {
    let field = Field::new();
    let mut monitor = Monitor::connect(&field.served.socket("victim"));
    let region = monitor.region(0, MEMORY_BYTES);
    monitor.frontend.add_mem_region(&region).expect("added");
    let other = monitor.region(1 << 30, MEMORY_BYTES);
    monitor.frontend.add_mem_region(&other).expect("the same file elsewhere");
    monitor.set_ring(QUEUE_SIZE, DESCRIPTORS, AVAILABLE, USED).expect("a ring as it should be");
    describe_read(&monitor, 512);
    monitor.frontend.remove_mem_region(&region).expect("removed");
    monitor.frontend.remove_mem_region(&other).expect("removed");
    monitor.frontend.add_mem_region(&other).expect("elsewhere only");
    assert!(!monitor.is_called(50) && !monitor.has_error(), "the rest may come");
    monitor.frontend.remove_mem_region(&other).expect("removed");
    monitor.frontend.add_mem_region(&region).expect("added");
    assert_eq!(verdict(&mut monitor), Verdict::Status(0));
    drop(monitor);
    field.end();
}

#[test]
fn a_ring_that_has_lied_stays_broken_until_it_is_taken_back() {
    let mut field = Field::new();
    let forgiven: [fn(&mut Monitor); 2] = [
        |monitor| assert_eq!(monitor.frontend.get_vring_base(0).expect("taken back"), 0),
        |monitor| {
            monitor.frontend.reset_device().expect("reset");
            monitor.frontend.set_features(monitor.features).expect("what was offered");
            monitor.share_memory();
        },
    ];
    for forgive in forgiven {
        let mut monitor = field.monitor();
        describe_read(&monitor, 512);
        monitor.describe(1, 0, 512, NEXT | WRITE, 1);
        assert_eq!(verdict(&mut monitor), Verdict::Broken, "a loop");
        describe_read(&monitor, 512);
        monitor.set_rest_of_ring(DESCRIPTORS, AVAILABLE, USED).expect("changes of a broken ring");
        assert!(monitor.has_error(), "whoever listens from now on hears of it too");
        monitor.share_memory();
        monitor.frontend.set_vring_enable(0, false).expect("off");
        monitor.frontend.set_vring_enable(0, true).expect("and on");
        monitor.offer(0);
        assert!(!monitor.is_called(50) && monitor.used() == 0, "a message is no pardon");
        forgive(&mut monitor);
        // Both heads are as they should be by now.
        monitor.set_ring(QUEUE_SIZE, DESCRIPTORS, AVAILABLE, USED).expect("a ring as it should be");
        assert!(monitor.is_called(10_000));
        while monitor.used() < 2 {
            assert!(monitor.is_called(10_000), "an answer to both");
        }
        drop(monitor);
        field.check_neighbour();
    }
    field.end();
}
