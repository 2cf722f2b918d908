//! A check while the pool is used: it says how far it is, can be ended, and holds nobody up.

mod engine;

use engine::{BLOCK, Engine, MIB, tiny_limits, volume};
use std::sync::Arc;
use thinpool::{Command, Error, GeometryOptions, Limits, Outcome, Ticket};

/// A pool whose trees have hundreds of nodes, all in memory: a walk never waits for the device.
fn large() -> Engine {
    let limits = Limits { nodes_max: 1 << 16, ..tiny_limits() };
    let mut engine = Engine::with(64 * MIB, limits, GeometryOptions::default());
    engine.must(volume("a", 32 * MIB));
    let a = engine.attach("a");
    for number in 0..2000_u64 {
        let block = number * 4099 % (32 * MIB / BLOCK);
        engine.write(&a, block * BLOCK, &[7; 4096]).expect("there is space");
    }
    engine.must(Command::Checkpoint);
    engine
}

/// A check that has begun and not ended.
fn begin(engine: &mut Engine) -> Arc<Ticket> {
    let ticket = engine.pool.submit(Command::Check);
    for _ in 0..10_000 {
        engine.tick();
        if ticket.progress().0 > 0 {
            return ticket;
        }
    }
    panic!("the check never says how far it is")
}

#[test]
fn a_check_says_how_far_it_is_and_ends_when_it_is_cancelled() {
    let mut engine = large();
    let ticket = begin(&mut engine);
    let (done, total) = ticket.progress();
    let status = engine.status();
    assert_eq!(total, status.mapped + status.metadata_used, "all that is held is looked at");
    assert!(done < total, "{done} of {total}");
    ticket.cancel();
    let outcome = (0..10).find_map(|_| {
        engine.tick();
        ticket.take()
    });
    assert!(matches!(outcome, Some(Err(Error::Cancelled))), "{outcome:?}");
    engine.assert_clean();
}

#[test]
fn guests_are_answered_while_a_check_walks() {
    let mut engine = large();
    let a = engine.attach("a");
    let ticket = begin(&mut engine);
    engine.write(&a, 5 * BLOCK, &[8; 4096]).expect("there is space");
    engine.flush(&a);
    let (done, total) = ticket.progress();
    assert!(ticket.take().is_none() && done < total, "a write and its commit came first: {done} of {total}");
    let outcome = (0..10_000).find_map(|_| {
        engine.tick();
        ticket.take()
    });
    match outcome {
        Some(Ok(Outcome::Checked(report))) => assert!(report.is_clean(), "{report:?}"),
        other => panic!("{other:?}"),
    }
}
