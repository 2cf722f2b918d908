//! Damage at rest: every page of metadata that an opening reads, rotten in five ways. It is found and named, or does
//! not matter; nothing else is ever returned, and nobody panics.

use crate::action::{Action, Durable, Span};
use crate::chance::Chance;
use crate::judge::{Found, find};
use crate::pool::{self, Running};
use crate::stamp::{SECTOR, Seen, look};
use crate::world::{Start, World};
use blockstore::simulated::{Profile, Rot, SimulatedDevice, SimulatedDisk};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Places in a page that each kind of rot is tried at.
const PLACES: u64 = 3;

/// What an opening of a rotten pool came to.
enum Fate {
    Refused,
    /// It opened; names whose contents could not be read are missing.
    Showed(Found),
}

/// A pool that died with three batches in its journal; and as it was before the last of them.
fn died() -> (SimulatedDisk, SimulatedDisk) {
    let start = Start::prepared().expect("the pool can be made and used without a crash");
    let mut world = World::begin(&start, Profile::default(), 5).expect("a pool at rest opens");
    // From here on the ring has room for three batches before the next checkpoint is due.
    world.perform(&Action::Checkpoint).expect("a checkpoint");
    world.drain().expect("the checkpoint ends");
    let mut before = start.disk;
    for block in 0..3 {
        before = world.durable();
        let span = Span::blocks(block * 2, 1);
        let action = Action::Write { volume: "c".to_owned(), span, durable: Durable::Later };
        world.perform(&action).expect("a write");
        world.drain_requests().expect("the writes end");
        world.perform(&Action::Commit).expect("a commit");
        world.drain().expect("the commit ends");
    }
    (world.durable(), before)
}

fn open(disk: &SimulatedDisk) -> Fate {
    let mut chance = Chance::new(9);
    let device = SimulatedDevice::new(disk.clone(), Profile::default(), 0);
    let opening = pool::opening(chance.id(), &mut chance);
    let Ok(mut running) = Running::open(&device, pool::new_tail(), opening) else { return Fate::Refused };
    // What it says is of no interest here, only that it comes to an end.
    let _errors = running.check();
    Fate::Showed(find_readable(&mut running))
}

fn find_readable(running: &mut Running) -> Found {
    find(running).unwrap_or_default()
}

/// Whether a page is a guest's: live blocks carry no checksum in this format.
fn is_data(disk: &SimulatedDisk, page: u64) -> bool {
    let mut contents = [0; SECTOR];
    disk.read(page * pool::BLOCK, &mut contents);
    matches!(look(&contents), Seen::Stamp { .. })
}

/// What rot has come to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    refused: usize,
    /// Opened, and everything that could be read was right.
    harmless: usize,
}

/// Tries every page that is no guest's. The error says which rot was not noticed.
pub(crate) fn rot_everything() -> Result<Tally, String> {
    let (disk, before) = died();
    let (Fate::Showed(whole), Fate::Showed(older)) = (open(&disk), open(&before)) else {
        return Err("the pool does not open although nothing is rotten".to_owned());
    };
    // A last batch that rots is a batch that was never finished, for all anybody can tell.
    let last: Vec<u64> = disk.differing_pages(&before);
    let mut tally = Tally::default();
    for page in disk.written_pages().filter(|page| !is_data(&disk, *page)) {
        for (rot, seed) in Rot::ALL.into_iter().flat_map(|rot| (0..PLACES).map(move |seed| (rot, seed))) {
            let mut rotten = disk.clone();
            rotten.rot(page, rot, seed);
            let fate = catch_unwind(AssertUnwindSafe(|| open(&rotten)));
            let Ok(fate) = fate else { return Err(format!("page {page}, {rot:?}, place {seed}: a panic")) };
            let Fate::Showed(found) = fate else {
                tally.refused += 1;
                continue;
            };
            let is_right = |(name, contents): (&String, &_)| {
                whole.get(name) == Some(contents)
                    || (last.contains(&page) && older.get(name) == Some(contents))
            };
            if let Some((name, _)) = found.iter().find(|entry| !is_right(*entry)) {
                return Err(format!(
                    "page {page}, {rot:?}, place {seed}: {name} shows what it does not hold"
                ));
            }
            tally.harmless += 1;
        }
    }
    Ok(tally)
}

#[test]
fn rotten_metadata_is_found_or_does_not_matter() {
    let tally = rot_everything().expect("no rot passes for contents");
    println!("{tally:?}");
    assert!(tally.refused > 50 && tally.harmless > 50, "both happen: {tally:?}");
}
