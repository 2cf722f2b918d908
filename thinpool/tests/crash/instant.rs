//! Commands of several names: a snapshot of several volumes is one instant, and a command that cannot make all its names
//! makes none.

use crate::chance::Chance;
use crate::pool::{self, Running, name};
use crate::stamp::{SECTOR, SECTORS_PER_BLOCK, Seen, Value, bytes};
use crate::world::Start;
use blockstore::simulated::{Profile, SimulatedDevice};
use blockstore::{Buffer, Durability};
use std::sync::Arc;
use thinpool::{Access, Action, Attachment, Command, Outcome, Ticket};

/// Runs, each on another device and with the snapshot between other writes.
const RUNS: u64 = 200;
/// Writes of each volume in a run.
const WRITES: u64 = 12;
/// Counters of one run; no two runs share any, and no run has those of the prepared pool.
const RUN_VALUES: u64 = 1_000;

fn open(start: &Start, seed: u64) -> Running {
    let mut chance = Chance::new(seed);
    let device = SimulatedDevice::new(start.disk.clone(), Profile::drawn(chance.next()), chance.next());
    let opening = pool::opening(chance.id(), &mut chance);
    Running::open(&device, pool::new_tail(), opening).expect("a pool at rest opens")
}

fn write_first_block(running: &mut Running, attachment: &Attachment, value: u64) {
    let buffer = Buffer::from_slice(&bytes(Value::written(value), 0, SECTORS_PER_BLOCK));
    let action = Action::Write { offset: 0, buffer, durability: Durability::Cached };
    running.request(attachment, action).expect("there is space");
}

/// The counter of what the first sector of a snapshot shows.
fn first_value(running: &mut Running, text: &str, values: std::ops::Range<u64>) -> u64 {
    let attachment = running.attach(text, Access::ReadOnly).expect("the snapshot is there");
    let buffer = Buffer::zeroed(SECTOR);
    let payload = running.request(&attachment, Action::Read { offset: 0, buffer }).expect("a read");
    let thinpool::Payload::Buffer(buffer) = payload else { panic!("a read returns its buffer") };
    let seen = pool::seen(&buffer)[0];
    let is = |value: &u64| matches!(seen, Seen::Stamp { .. }) && seen.is(Value::written(*value), 0);
    values.clone().find(is).unwrap_or_else(|| panic!("{text} shows {seen:?}, none of {values:?}"))
}

fn wait(running: &mut Running, ticket: &Arc<Ticket>) -> Result<Outcome, thinpool::Error> {
    // Commands are carried out one after the other.
    running.command(Command::Commit).expect("a healthy pool commits");
    ticket.take().expect("the command before has been answered")
}

/// One guest writes the volumes in turn, each write after the reply to the one before: whatever instant a snapshot of
/// both is, the first volume is no write, or one, ahead of the second.
#[test]
fn a_snapshot_of_several_volumes_is_one_instant() {
    let start = Start::prepared().expect("the pool can be made and used without a crash");
    let mut ahead = 0;
    for run in 0..RUNS {
        let mut running = open(&start, run);
        let (a, b) = (running.attach("a", Access::ReadWrite), running.attach("b", Access::ReadWrite));
        let (a, b) = (a.expect("a volume"), b.expect("a volume"));
        let first = (run + 1) * RUN_VALUES;
        write_first_block(&mut running, &a, first);
        write_first_block(&mut running, &b, first);
        let mut ticket = None;
        for turn in 1..=WRITES {
            // The order of the names is not the order of the writes.
            let names = if run % 2 == 0 { ["a@i", "b@i"] } else { ["b@i", "a@i"] };
            let snapshot = Command::Snapshot { names: names.map(name).to_vec() };
            let begins = turn == 1 + run / 2 % WRITES;
            if begins && run % 4 < 2 {
                ticket = Some(running.pool.submit(snapshot.clone()));
            }
            write_first_block(&mut running, &a, first + turn);
            if begins && run % 4 >= 2 {
                ticket = Some(running.pool.submit(snapshot));
            }
            write_first_block(&mut running, &b, first + turn);
        }
        let ticket = ticket.expect("some turn begins the snapshot");
        wait(&mut running, &ticket).expect("a snapshot");
        let values = first..first + WRITES + 1;
        let (in_a, in_b) =
            (first_value(&mut running, "a@i", values.clone()), first_value(&mut running, "b@i", values));
        assert!(in_a == in_b || in_a == in_b + 1, "run {run}: {in_a} of a and {in_b} of b are no instant");
        ahead += u64::from(in_a != in_b);
        assert_eq!(running.check(), None, "run {run}");
    }
    assert!(ahead > 0 && ahead < RUNS, "snapshots fell between all writes: {ahead} of {RUNS}");
}

#[test]
fn a_command_that_cannot_make_all_its_names_makes_none() {
    let start = Start::prepared().expect("the pool can be made and used without a crash");
    let mut running = open(&start, 1);
    let entries = |running: &Running| format!("{:?}", running.pool.entries());
    let before = entries(&running);
    let some = |names: &[&str]| names.iter().map(|text| name(text)).collect::<Vec<_>>();
    let clone = |names: &[&str]| Command::Clone { source: name("a@s"), names: some(names), size: None };
    for command in [
        Command::Snapshot { names: some(&["b@s", "a@s"]) },
        Command::Snapshot { names: some(&["b@t", "nobody@t"]) },
        Command::Snapshot { names: some(&["b@t", "b@u"]) },
        Command::Snapshot { names: some(&["b@t", "c"]) },
        clone(&["d", "c"]),
        clone(&["d", "e", "d"]),
        clone(&["d", "e@t"]),
    ] {
        let what = format!("{command:?}");
        assert!(running.command(command).is_err(), "{what}");
        assert_eq!(entries(&running), before, "{what}");
    }
    assert_eq!(running.check(), None);
}
