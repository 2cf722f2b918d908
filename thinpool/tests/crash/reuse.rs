//! A read that is in flight keeps the blocks it has looked up (A4), however long it takes.

use crate::engine::{BLOCK, Engine, MIB, limits, volume};
use blockstore::Buffer;
use blockstore::simulated::Profile;
use thinpool::{Action, Command, GeometryOptions, Payload, Request};

/// The longest that anything takes here.
const POLLS_MAX: usize = 1000;

#[test]
fn a_read_in_flight_finds_what_was_there_when_it_was_asked() {
    read_beside_reuse().expect("nobody wrote where a request in flight reads");
}

/// Asks for a block on a channel that is not polled before the block has been freed and its volume written again.
pub(crate) fn read_beside_reuse() -> Result<(), String> {
    // A device that does everything at once would have read before anything else happens.
    let profile = Profile { discard_delay_polls: 1, ..Profile::default() };
    let (mut engine, _) = Engine::simulated(64 * MIB, profile, limits(), GeometryOptions::default());
    engine.must(volume("a", 4 * MIB));
    let a = engine.attach("a");
    engine.write(&a, 0, &[7; 4096]).expect("there is space");

    let mut reader = engine.pool.channel().expect("a second channel");
    let action = Action::Read { offset: 0, buffer: Buffer::zeroed(4096) };
    reader.submit(Request { tag: 1, attachment: a.clone(), action }).expect("a new channel has room");
    engine.trim(&a, 0, BLOCK).expect("an owned block");
    engine.must(Command::Commit);
    for _ in 0..POLLS_MAX {
        engine.tick();
    }
    engine.write(&a, 0, &[8; 4096]).expect("there is space");

    let mut replies = Vec::new();
    for _ in 0..POLLS_MAX {
        reader.poll(&mut replies);
        engine.tick();
        if let Some(reply) = replies.pop() {
            let Ok(Payload::Buffer(found)) = reply.result else { return Err(format!("{:?}", reply.result)) };
            let is_old = found.iter().all(|byte| *byte == 7);
            return if is_old { Ok(()) } else { Err("a read found what was written after it".to_owned()) };
        }
    }
    Err("a read is never answered".to_owned())
}
