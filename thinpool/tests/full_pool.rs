//! Writes that find the pool full and wait for space, for as long as they may.

mod engine;

use blockstore::simulated::Profile;
use blockstore::{Buffer, Durability};
use engine::{BLOCK, Engine, MIB, limits, n, remove, snapshot, volume};
use std::collections::BTreeMap;
use std::time::Duration;
use thinpool::{Action, Attachment, Command, GeometryOptions, Limits, Request, RequestError};

/// Ticks are milliseconds.
const LONGEST: Duration = Duration::from_millis(500);

/// A full pool whose volume `a` waits for space, and what its waiting writes are told.
struct Full {
    engine: Engine,
    a: Attachment,
    /// Blocks `a` has.
    blocks: u64,
    /// Of writes behind the last block, by their number.
    replies: BTreeMap<u64, Result<(), RequestError>>,
}

impl Full {
    /// `b` has one MiB, `a` all the rest.
    fn new(limits: Limits) -> Self {
        let mut engine = Engine::with(64 * MIB, limits, GeometryOptions::default());
        engine.must(volume("a", 128 * MIB));
        engine.must(volume("b", MIB));
        let (a, b) = (engine.attach("a"), engine.attach("b"));
        engine.write(&b, 0, &vec![2; 1 << 20]).expect("there is space");
        drop(b);
        Self::of(engine, a)
    }

    /// Gives `a` all there is.
    fn of(mut engine: Engine, a: Attachment) -> Self {
        let mut blocks = 0;
        // A checkpoint gives back what its metadata no longer needs.
        loop {
            let end = (blocks..).find(|block| engine.write(&a, block * BLOCK, &[1; 4096]).is_err());
            let end = end.expect("a pool is full at some time");
            if end == blocks {
                break;
            }
            blocks = end;
            engine.must(Command::Settle);
        }
        engine.pool.hold_when_full(LONGEST);
        a.be_patient();
        Self { engine, a, blocks, replies: BTreeMap::new() }
    }

    /// A write of the block that is so many behind the last.
    fn submit(&mut self, number: u64) {
        self.submit_at(number, number, &[3; 4096]);
    }

    /// The same, from that block on.
    fn submit_at(&mut self, tag: u64, number: u64, bytes: &[u8]) {
        let (buffer, durability) = (Buffer::from_slice(bytes), Durability::Cached);
        let offset = (self.blocks + number) * BLOCK;
        self.ask(tag, Action::Write { offset, buffer, durability });
    }

    fn ask(&mut self, tag: u64, action: Action) {
        let request = Request { tag, attachment: self.a.clone(), action };
        self.engine.channel.submit(request).expect("the channel has room");
    }

    fn poll(&mut self) {
        let mut replies = Vec::new();
        self.engine.channel.poll(&mut replies);
        self.replies.extend(replies.into_iter().map(|reply| (reply.tag, reply.result.map(drop))));
    }

    fn ticks(&mut self, count: u32) {
        for _ in 0..count {
            self.engine.tick();
            self.poll();
        }
    }

    fn must(&mut self, command: Command) {
        let ticket = self.engine.pool.submit(command);
        for _ in 0..400 {
            self.ticks(1);
            if let Some(outcome) = ticket.take() {
                return drop(outcome.expect("nothing is in its way"));
            }
        }
        panic!("the command does not end: {:#?}", self.engine.status());
    }
}

#[test]
fn a_write_waits_until_something_is_removed() {
    let mut full = Full::new(limits());
    (0..100).for_each(|number| full.submit(number));
    full.ticks(100);
    assert_eq!((full.replies.len(), full.engine.status().waiting_writes), (0, 100));
    full.must(remove("b"));
    full.ticks(200);
    assert!(full.replies.len() == 100 && full.replies.values().all(Result::is_ok), "{:?}", full.replies);
    assert_eq!(full.engine.status().waiting_writes, 0);
    let (a, behind) = (full.a.clone(), full.blocks * BLOCK);
    assert_eq!(full.engine.read(&a, behind, 100 * 4096), [3; 100 * 4096]);
    full.engine.assert_clean();
}

#[test]
fn a_write_waits_until_the_pool_grows() {
    let mut full = Full::new(limits());
    full.submit(0);
    full.ticks(100);
    assert!(full.replies.is_empty());
    full.must(Command::Extend { bytes: 128 * MIB });
    full.ticks(10);
    assert_eq!(full.replies[&0], Ok(()));
    full.engine.assert_clean();
}

#[test]
fn a_write_fails_when_it_has_waited_long_enough_and_not_before() {
    let mut full = Full::new(limits());
    full.submit(0);
    full.ticks(300);
    full.submit(1);
    full.ticks(199);
    assert!(full.replies.is_empty(), "{:?}", full.replies);
    full.ticks(3);
    assert_eq!(full.replies.keys().collect::<Vec<_>>(), [&0], "the other came later");
    full.ticks(300);
    assert_eq!(full.replies[&0], Err(RequestError::OutOfSpace));
    assert_eq!(full.replies[&1], Err(RequestError::OutOfSpace));
    assert_eq!(full.engine.status().waiting_writes, 0);
    full.engine.assert_clean();
}

#[test]
fn nobody_waits_who_is_not_told_to() {
    let mut full = Full::new(limits());
    full.a.end_patience();
    full.submit(0);
    full.poll();
    assert_eq!(full.replies[&0], Err(RequestError::OutOfSpace), "an impatient attachment");
    full.a.be_patient();
    full.engine.pool.hold_when_full(Duration::ZERO);
    full.submit(1);
    full.poll();
    assert_eq!(full.replies[&1], Err(RequestError::OutOfSpace), "a pool that lets nobody wait");
}

#[test]
fn the_wait_ends_with_the_patience_of_the_attachment_and_of_no_other() {
    let mut full = Full::new(limits());
    full.submit(0);
    let other = full.a.for_thread();
    other.be_patient();
    other.end_patience();
    full.ticks(2);
    assert!(full.replies.is_empty(), "another thread's attachment");
    full.a.end_patience();
    full.poll();
    assert_eq!(full.replies[&0], Err(RequestError::OutOfSpace));
}

/// A ring that is to stop does not wait for another ring of the same volume, which may wait for hours.
#[test]
fn who_is_to_end_does_not_wait_for_the_range_of_one_that_waits() {
    let mut full = Full::new(limits());
    full.submit(0);
    let first = full.a.clone();
    full.a = full.a.for_thread();
    full.a.be_patient();
    full.submit_at(1, 0, &[4; 4096]);
    full.ticks(10);
    assert!(full.replies.is_empty());
    full.a.end_patience();
    full.poll();
    assert_eq!(full.replies.keys().collect::<Vec<_>>(), [&1]);
    assert_eq!(full.replies[&1], Err(RequestError::OutOfSpace));
    first.end_patience();
    full.poll();
    assert_eq!(full.replies[&0], Err(RequestError::OutOfSpace));
}

/// Waiting writes hold no place on the channel, however many they are.
#[test]
fn others_go_on_while_more_writes_wait_than_the_channel_has_places() {
    let mut full = Full::new(Limits { requests_max: 4, ..limits() });
    for number in 0..50 {
        full.submit(number);
    }
    let a = full.a.clone();
    assert_eq!(full.engine.read(&a, 0, 4096), [1; 4096]);
    full.engine.write(&a, 0, &[9; 4096]).expect("an owned block is written in place");
    full.engine.write(&a, 100, &[9; 50]).expect("a part of one too");
    full.engine.flush(&a);
    full.must(snapshot("a@s"));
    assert_eq!((full.replies.len(), full.engine.status().waiting_writes), (0, 50));
    // What a trim takes away is freed by all that have it.
    full.must(remove("a@s"));
    full.must(Command::Settle);
    full.ask(50, Action::Trim { offset: 0, length: 100 * BLOCK, durability: Durability::Cached });
    full.ticks(300);
    assert!(full.replies.len() == 51 && full.replies.values().all(Result::is_ok), "{:?}", full.replies);
    full.engine.assert_clean();
}

#[test]
fn every_wait_ends_also_when_the_channel_has_fewer_places() {
    let mut full = Full::new(Limits { requests_max: 4, ..limits() });
    (0..50).for_each(|number| full.submit(number));
    full.ticks(510);
    assert_eq!(full.replies.len(), 50);
    assert!(full.replies.values().all(|reply| *reply == Err(RequestError::OutOfSpace)));
}

/// Those that wait for a write that waits for space hold no place either.
#[test]
fn writes_behind_one_that_waits_are_in_nobodys_way() {
    let mut full = Full::new(Limits { requests_max: 4, ..limits() });
    (0..50).for_each(|tag| full.submit_at(tag, 0, &[3; 4096]));
    full.ticks(100);
    let a = full.a.clone();
    assert_eq!(full.engine.read(&a, 0, 4096), [1; 4096], "another request has a place");
    assert_eq!(full.engine.status().waiting_writes, 1, "the others wait for this one");
    full.must(remove("b"));
    full.ticks(100);
    assert!(full.replies.len() == 50 && full.replies.values().all(Result::is_ok), "{:?}", full.replies);
    (100..110).for_each(|tag| full.submit_at(tag, 1000, &[3; 4096]));
    full.ticks(1100);
    let waited = (100..110).filter(|tag| full.replies.contains_key(tag)).count();
    assert_eq!(waited, 10, "{:?}", full.replies);
    full.engine.assert_clean();
}

/// A long write has its time once, not for each of its parts.
#[test]
fn a_write_that_finds_some_space_and_then_none_waits_no_longer_in_all() {
    let mut full = Full::new(limits());
    full.submit_at(0, 0, &vec![3; 3 << 20]);
    full.ticks(400);
    assert!(full.replies.is_empty());
    // Enough for a part of it.
    full.must(remove("b"));
    full.ticks(110);
    assert_eq!(full.replies[&0], Err(RequestError::OutOfSpace));
    full.engine.assert_clean();
}

#[test]
fn another_longest_time_is_that_of_those_that_wait_too() {
    let mut full = Full::new(limits());
    full.submit(0);
    full.ticks(400);
    full.engine.pool.hold_when_full(2 * LONGEST);
    full.ticks(400);
    assert!(full.replies.is_empty(), "longer than before");
    full.engine.pool.hold_when_full(LONGEST);
    full.poll();
    assert_eq!(full.replies[&0], Err(RequestError::OutOfSpace), "shorter again");
}

/// The pool is not full, but the file system below it: nothing happens in the pool when there is room again.
#[test]
fn a_write_waits_until_the_file_system_has_room() {
    let profile = Profile { capacity: Some(1500 * BLOCK), ..Profile::default() };
    let geometry = GeometryOptions { journal_blocks: Some(64), group_blocks: Some(64) };
    let (mut engine, device) = Engine::simulated(64 * MIB, profile, limits(), geometry);
    engine.must(volume("a", 64 * MIB));
    let a = engine.attach("a");
    let mut full = Full::of(engine, a);
    full.engine.pool.hold_when_full(100 * LONGEST);
    full.submit(0);
    full.ticks(6000);
    assert!(full.replies.is_empty(), "{:?}", full.replies);
    device.set_capacity(4000 * BLOCK);
    full.ticks(6000);
    assert_eq!(full.replies[&0], Ok(()));
    full.engine.assert_clean();
}

#[test]
fn closing_the_pool_ends_the_wait() {
    let mut full = Full::new(limits());
    full.submit(0);
    full.must(Command::Close);
    full.poll();
    assert_eq!(full.replies[&0], Err(RequestError::ShuttingDown));
}

#[test]
fn a_channel_that_goes_away_takes_its_waiting_writes_with_it() {
    let mut full = Full::new(limits());
    full.submit(0);
    assert_eq!(full.engine.status().waiting_writes, 1);
    full.engine.channel = full.engine.pool.channel().expect("there are lanes");
    assert_eq!(full.engine.status().waiting_writes, 0);
    let (a, last) = (full.a.clone(), full.blocks - 1);
    full.a.end_patience();
    full.engine.trim(&a, last * BLOCK, 2 * BLOCK).expect("nobody has the range locked");
    full.engine.must(remove("b"));
    full.engine.assert_clean();
    assert!(full.engine.pool.entry(&n("b")).is_none());
}
