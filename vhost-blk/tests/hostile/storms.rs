//! A guest that kicks as fast as it can.

use super::{Field, QUIET, Verdict, assert_quiet, describe_read, now, verdict};
use crate::vhost_monitor::EndsAtDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const ROUNDS: u32 = 100;
/// Fewer are no storm.
const KICKS_MIN: u64 = 10_000;
/// A read and a write of a neighbour.
const ROUND_MAX: Duration = Duration::from_secs(5);

/// Each ring is the next worker's: of two in a row, one shares its worker with the neighbour.
#[test]
fn a_storm_of_kicks_leaves_neighbours_their_turn_and_ends_with_the_kicks() {
    let mut field = Field::new();
    for _ in 0..2 {
        let mut monitor = field.monitor();
        let (ended, kicks) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    monitor.kick();
                    kicks.fetch_add(1, Ordering::Relaxed);
                }
            });
            let _whatever_happens = EndsAtDrop(&ended);
            let mut rounds = 0;
            while rounds < ROUNDS || kicks.load(Ordering::Relaxed) < KICKS_MIN {
                let start = now();
                field.check_neighbour();
                assert!(start.elapsed() < ROUND_MAX, "{:?}", start.elapsed());
                rounds += 1;
            }
        });
        assert_quiet("after the storm", 5 * QUIET, || {});
        assert!(!monitor.is_called(0));
        describe_read(&monitor, 512);
        assert_eq!(verdict(&mut monitor), Verdict::Status(0));
    }
    field.end();
}
