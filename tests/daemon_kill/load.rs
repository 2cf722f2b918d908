//! What guests and operator do until the daemon dies under them.

use super::control::Control;
use super::ledger::{Existence, Ledger, SECTOR_BYTES, SECTORS};
use super::nbd_client::{Client, Command, FUA};
use parking_lot::{Condvar, Mutex};
use serde_json::json;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

const BLOCK_SECTORS: usize = 8;
/// Requests of one guest in flight.
const DEPTH: usize = 8;
/// Longest write, trim and write of zeros, in sectors.
const LENGTH_MAX: u64 = 40;
/// Requests between two flushes of a guest that flushes.
const FLUSH_EVERY: u64 = 24;
/// Rounds of snapshots that are kept.
const SNAPSHOTS_MAX: usize = 3;

/// What everybody writes down before asking and after being answered.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) ledger: Mutex<Ledger>,
    /// Rings with every acknowledgement.
    pub(crate) acknowledged: Condvar,
}

/// Numbers from a seed: splitmix64.
#[derive(Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A request in flight.
#[derive(Debug, Clone, Default)]
struct Asked {
    /// What it may touch.
    busy: Range<usize>,
    /// What it changes.
    changed: Range<usize>,
}

/// One connection and the sectors that only it changes.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) volume: &'static str,
    pub(crate) sectors: Range<usize>,
    pub(crate) flushes: bool,
    pub(crate) chance: Chance,
}

impl Guest {
    /// Works until the connection breaks.
    pub(crate) fn run(mut self, socket: &Path, book: &Book) {
        let Ok(mut client) = Client::open(socket, self.volume) else { return };
        let mut waiting: VecDeque<(u64, Asked)> = VecDeque::new();
        for number in 0_u64.. {
            let next = if self.flushes && number % FLUSH_EVERY == 0 {
                Some((Command::Flush, Asked::default()))
            } else {
                self.next(book, &waiting)
            };
            if let Some((command, asked)) = next {
                let Ok(cookie) = client.send(&command) else { return };
                waiting.push_back((cookie, asked));
            }
            while client.in_flight() >= DEPTH {
                let Ok((cookie, answer)) = client.receive() else { return };
                answer.expect("a legal request on a pool with space is carried out");
                let position = waiting.iter().position(|(asked, _)| *asked == cookie).expect("it was asked");
                let (_, asked) = waiting.remove(position).expect("it is there");
                book.ledger.lock().acknowledge(self.volume, asked.changed);
                book.acknowledged.notify_all();
            }
        }
    }

    /// A request for sectors none of which is in flight; `None` when chance found no such.
    fn next(&mut self, book: &Book, waiting: &VecDeque<(u64, Asked)>) -> Option<(Command, Asked)> {
        let sectors = self.choose();
        let is_busy = |other: &Range<usize>| other.start < sectors.end && sectors.start < other.end;
        if waiting.iter().any(|(_, other)| is_busy(&other.busy)) {
            return None;
        }
        let offset = u64::try_from(sectors.start * SECTOR_BYTES).expect("small");
        let length = u32::try_from(sectors.len() * SECTOR_BYTES).expect("small");
        let flags = if self.flushes && self.chance.below(16) == 0 { FUA } else { 0 };
        let kind = self.chance.below(8);
        let mut changed = sectors.clone();
        let mut ledger = book.ledger.lock();
        let command = match kind {
            0 => {
                // A trim gives back whole blocks; what it covers of others stays as it is.
                let whole = sectors.start.next_multiple_of(BLOCK_SECTORS)
                    ..sectors.end / BLOCK_SECTORS * BLOCK_SECTORS;
                let sectors = if whole.start < whole.end { whole } else { 0..0 };
                ledger.zero(self.volume, sectors.clone());
                changed = sectors;
                Command::Trim { offset, flags, length }
            }
            1 => {
                ledger.zero(self.volume, sectors.clone());
                Command::WriteZeroes { offset, flags, length }
            }
            _ => Command::Write { offset, flags, data: ledger.write(self.volume, sectors.clone()) },
        };
        Some((command, Asked { busy: sectors, changed }))
    }

    /// Half of the requests are of whole blocks.
    fn choose(&mut self) -> Range<usize> {
        let mut draw = |bound: u64| usize::try_from(self.chance.below(bound)).expect("small");
        let span = u64::try_from(self.sectors.len()).expect("small");
        let (start, length) = (draw(span), 1 + draw(LENGTH_MAX));
        let aligned = draw(2) == 0;
        let start = self.sectors.start + if aligned { start / BLOCK_SECTORS * BLOCK_SECTORS } else { start };
        let length = if aligned { length.next_multiple_of(BLOCK_SECTORS) } else { length };
        start..(start + length).min(self.sectors.end)
    }
}

/// Takes snapshots of two volumes at one instant, clones them, and removes old ones, until the daemon is gone.
pub(crate) fn operate(control: &Control, book: &Book, first: u64) {
    let mut kept: VecDeque<u64> = VecDeque::new();
    for number in first.. {
        let snapshots = ["a", "b"].map(|volume| format!("{volume}@s{number}"));
        let clone = format!("k{number}");
        snapshots.iter().for_each(|name| book.ledger.lock().freeze(name));
        if control.post("snapshots", &json!({"names": snapshots})).is_none() {
            return;
        }
        {
            let mut ledger = book.ledger.lock();
            snapshots.iter().for_each(|name| ledger.frozen(name));
            ledger.names.insert(clone.clone(), Existence::Maybe);
            ledger.clones.insert(clone.clone(), snapshots[0].clone());
        }
        let order = json!({"source": snapshots[0], "names": [clone]});
        if control.post("clones", &order).is_none() {
            return;
        }
        book.ledger.lock().names.insert(clone, Existence::There);
        kept.push_back(number);
        if kept.len() > SNAPSHOTS_MAX {
            let oldest = kept.pop_front().expect("more than none");
            for name in [format!("k{oldest}"), format!("a@s{oldest}"), format!("b@s{oldest}")] {
                if !remove(control, book, &name) {
                    return;
                }
            }
        }
    }
}

/// False when the daemon gave no answer.
pub(crate) fn remove(control: &Control, book: &Book, name: &str) -> bool {
    book.ledger.lock().names.insert(name.to_owned(), Existence::Maybe);
    let done =
        control.post("removals", &json!({"names": [name]})).is_some_and(|body| body["failures"] == json!([]));
    if done {
        book.ledger.lock().forget(name);
    }
    done
}

/// One checkpoint after the other, until the daemon is gone.
pub(crate) fn settle(control: &Control) {
    while control.post("settle", &json!({})).is_some() {}
}

/// All sectors of a volume, snapshot or clone.
pub(crate) fn read(socket: &Path, name: &str) -> Vec<u8> {
    const PIECE_SECTORS: usize = 1024;
    let mut client = Client::open(socket, name).expect("the daemon runs");
    let mut bytes = Vec::with_capacity(SECTORS * SECTOR_BYTES);
    for start in (0..SECTORS).step_by(PIECE_SECTORS) {
        let offset = u64::try_from(start * SECTOR_BYTES).expect("small");
        let length = u32::try_from(PIECE_SECTORS * SECTOR_BYTES).expect("small");
        let answer = client.call(&Command::Read { offset, length }).expect("the daemon runs");
        bytes.extend(answer.expect("readable"));
    }
    client.close().expect("the daemon runs");
    bytes
}
