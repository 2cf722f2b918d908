//! `kill -9` of the real daemon under load, again and again on one pool: every write, trim, snapshot, clone and removal
//! that was acknowledged is there, flushed or not, and all metadata agree. In every second round nobody flushes anything;
//! in every third the kill is meant to come while a checkpoint is being written.
//!
//! `OFFSHOOT_SECONDS` says how long to go on instead, `OFFSHOOT_SEED` chooses what the guests do.

#[path = "../api_client/mod.rs"]
mod api_client;
#[path = "../cli_program/mod.rs"]
mod cli_program;
mod control;
mod ledger;
mod load;
#[path = "../nbd_client/mod.rs"]
mod nbd_client;
mod peek;

use cli_program::{Daemon, Place};
use control::Control;
use ledger::{Existence, SECTORS, VOLUME_BYTES};
use load::{Book, Chance, Guest, operate, read, remove, settle};
use peek::is_inside_checkpoint;
use std::path::Path;
use std::time::{Duration, Instant};

const KILLS: u64 = 100;
/// Kills that must have come inside a checkpoint, as the pool's file shows afterwards. A stopped daemon's device may still
/// end one: then there are some more tries.
const KILLS_INSIDE_CHECKPOINTS_MIN: u64 = 10;
const KILLS_MAX: u64 = 200;
/// Longest wait for an acknowledgement or a checkpoint.
const PATIENCE: Duration = Duration::from_secs(60);
/// Acknowledgements before a kill, at most.
const ACKNOWLEDGEMENTS_MAX: u64 = 1_500;
/// The daemon runs this long between two looks whether it is inside a checkpoint, or for so many acknowledgements.
const RUN_MAX: Duration = Duration::from_millis(5);
const RUN_ACKNOWLEDGEMENTS_MAX: u64 = 64;

/// `a` has two writers, `b` one, and `c`, a clone of `a`, one.
const VOLUMES: [&str; 3] = ["a", "b", "c"];

#[test]
fn every_acknowledged_write_survives_a_kill_of_the_daemon() {
    let place = Place::on_disk();
    place.ok(&["pool", "create", "p.pool", "--size", "64M"]);
    let size = VOLUME_BYTES.to_string();
    place.ok(&["volume", "create", "a", "b", "--size", &size]);
    place.ok(&["snap", "create", "a@empty"]);
    place.ok(&["clone", "create", "a@empty", "c"]);
    let book = Book::default();
    VOLUMES.iter().for_each(|volume| book.ledger.lock().add_volume(volume));
    let mut kills = Kills { chance: Chance(number("OFFSHOOT_SEED").unwrap_or(1)), done: 0, inside: 0 };
    let until = number("OFFSHOOT_SECONDS").map(|seconds| now() + Duration::from_secs(seconds));
    while until.map_or(kills.are_wanted(), |until| now() < until) {
        kills.round(&place, &book);
    }
    println!("{} kills, {} of them inside a checkpoint", kills.done, kills.inside);
    if kills.done >= KILLS {
        let (inside, least) = (kills.inside, KILLS_INSIDE_CHECKPOINTS_MIN);
        assert!(inside >= least, "only {inside} kills came inside a checkpoint");
    }
    everything_goes(&place, &book);
}

struct Kills {
    chance: Chance,
    done: u64,
    inside: u64,
}

impl Kills {
    fn are_wanted(&self) -> bool {
        self.done < KILLS || self.inside < KILLS_INSIDE_CHECKPOINTS_MIN && self.done < KILLS_MAX
    }

    /// Starts the daemon on what the last kill left, looks at all of it, and kills it under load.
    fn round(&mut self, place: &Place, book: &Book) {
        let daemon = place.serve(&[]);
        let socket = place.path("nbd.sock");
        let control = Control::connect(place.run_directory());
        verify(&socket, &control, book);
        control.check();
        let flushes = self.done % 2 == 1;
        let in_checkpoint = self.done % 3 == 2 || self.done >= KILLS;
        let guests =
            [("a", 0..SECTORS / 2), ("a", SECTORS / 2..SECTORS), ("b", 0..SECTORS), ("c", 0..SECTORS)];
        let guests = guests.map(|(volume, sectors)| {
            let chance = Chance(self.chance.below(u64::MAX));
            Guest { volume, sectors, flushes, chance }
        });
        let wanted = self.chance.below(ACKNOWLEDGEMENTS_MAX);
        let second = Control::connect(place.run_directory());
        let was_inside = std::thread::scope(|scope| {
            for guest in guests {
                scope.spawn(|| guest.run(&socket, book));
            }
            scope.spawn(|| operate(&control, book, self.done * 1_000));
            if in_checkpoint {
                scope.spawn(|| settle(&second));
                stop_inside_checkpoint(&daemon, &place.pool(), book, &mut self.chance);
            } else {
                wait_for_acknowledgements(book, wanted);
            }
            kill(daemon, &place.pool())
        });
        self.done += 1;
        self.inside += u64::from(was_inside);
    }
}

/// Stops the daemon again and again, until it stands still inside a checkpoint.
fn stop_inside_checkpoint(daemon: &Daemon, pool: &Path, book: &Book, chance: &mut Chance) {
    let patience = now() + PATIENCE;
    loop {
        daemon.pause();
        if is_inside_checkpoint(pool) {
            return;
        }
        daemon.resume();
        let mut ledger = book.ledger.lock();
        let wanted = ledger.acknowledgements + 1 + chance.below(RUN_ACKNOWLEDGEMENTS_MAX);
        let until = now() + RUN_MAX;
        assert!(until < patience, "no checkpoint came");
        while ledger.acknowledgements < wanted
            && !book.acknowledged.wait_until(&mut ledger, until).timed_out()
        {}
    }
}

fn wait_for_acknowledgements(book: &Book, more: u64) {
    let mut ledger = book.ledger.lock();
    let wanted = ledger.acknowledgements + more;
    let patience = now() + PATIENCE;
    while ledger.acknowledgements < wanted {
        let timed_out = book.acknowledged.wait_until(&mut ledger, patience).timed_out();
        assert!(!timed_out, "{} of {wanted} acknowledgements", ledger.acknowledgements);
    }
}

/// Whether the kill came inside a checkpoint: then a dead daemon left bitmaps newer than its superblock.
fn kill(daemon: Daemon, pool: &Path) -> bool {
    daemon.kill();
    is_inside_checkpoint(pool)
}

/// Holds everything the pool has against the ledger.
fn verify(socket: &Path, control: &Control, book: &Book) {
    let present = control.names();
    let mut ledger = book.ledger.lock();
    let expected: Vec<(String, Existence)> =
        ledger.names.iter().map(|(name, existence)| (name.clone(), *existence)).collect();
    for (name, existence) in &expected {
        match (present.contains(name), existence) {
            (true, _) => drop(ledger.names.insert(name.clone(), Existence::There)),
            (false, Existence::Maybe) => ledger.forget(name),
            (false, Existence::There) => panic!("{name} is gone"),
        }
    }
    let is_unknown = |name: &&String| !ledger.names.contains_key(*name) && *name != "a@empty";
    assert_eq!(present.iter().find(is_unknown), None, "nobody asked for it");
    let names: Vec<String> = ledger.names.keys().cloned().collect();
    let kinds = |snapshots: bool| names.iter().filter(move |name| name.contains('@') == snapshots);
    for name in kinds(true) {
        ledger.verify_snapshot(name, &read(socket, name));
    }
    for name in kinds(false) {
        let bytes = read(socket, name);
        if VOLUMES.contains(&name.as_str()) {
            ledger.verify_volume(name, &bytes);
        } else {
            ledger.verify_clone(name, &bytes);
        }
    }
    drop(ledger);
    // The next round makes its own.
    for clones_first in [false, true] {
        for name in names.iter().filter(|name| name.contains('@') == clones_first) {
            if !VOLUMES.contains(&name.as_str()) {
                assert!(remove(control, book, name), "the daemon runs");
            }
        }
    }
}

/// A clean end: everything is removed, and all space is back.
fn everything_goes(place: &Place, book: &Book) {
    let daemon = place.serve(&[]);
    verify(&place.path("nbd.sock"), &Control::connect(place.run_directory()), book);
    let ended = daemon.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    place.ok(&["rm", "--yes", "c"]);
    place.ok(&["rm", "--yes", "--recursive", "a", "b"]);
    place.ok(&["pool", "settle"]);
    assert_eq!(place.json(&["df"])["mapped"], 0);
    place.ok(&["pool", "check"]);
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}")))
}

#[expect(clippy::disallowed_methods, reason = "patience is measured by the clock")]
fn now() -> Instant {
    Instant::now()
}
