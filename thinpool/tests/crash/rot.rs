//! Damage at rest: every page of metadata that an opening reads, rotten in five ways. It is found and named, or does
//! not matter; nothing else is ever returned, and nobody panics.

use crate::action::{Action, Durable, Span};
use crate::chance::Chance;
use crate::explorer::words;
use crate::judge::{Found, contents};
use crate::pool::{self, Running, chain};
use crate::stamp::{SECTOR, Seen, look};
use crate::world::{Start, World};
use blockstore::simulated::{Profile, Rot, SimulatedDevice, SimulatedDisk};
use std::panic::{AssertUnwindSafe, catch_unwind};
use thinpool::{Command, Outcome};

/// Places in a page that each kind of rot is tried at.
const PLACES: u64 = 3;

/// What an opening of a rotten pool came to.
enum Fate {
    /// With what it said.
    Refused(String),
    Opened(Opened),
}

/// What an open pool shows and says.
struct Opened {
    /// Names whose contents could not be read are missing.
    found: Found,
    /// Of those, what reading them said.
    unreadable: Vec<String>,
    /// What the check found.
    errors: Vec<String>,
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
    let mut running = match Running::open(&device, pool::new_tail(), opening) {
        Ok(running) => running,
        Err(why) => return Fate::Refused(why),
    };
    let errors = check(&mut running);
    let (mut found, mut unreadable) = (Found::new(), Vec::new());
    for entry in running.pool.entries() {
        match contents(&mut running, &entry) {
            Ok(contents) => drop(found.insert(entry.name.to_string(), contents)),
            Err(why) => unreadable.push(why),
        }
    }
    Fate::Opened(Opened { found, unreadable, errors })
}

/// What a check has to say, each in its own words.
fn check(running: &mut Running) -> Vec<String> {
    match running.command(Command::Check) {
        Ok(Outcome::Checked(report)) => {
            let leaked = report.leaked_blocks;
            let leaks = (leaked > 0).then(|| format!("{leaked} leaked"));
            report.errors.into_iter().chain(leaks).collect()
        }
        Ok(other) => vec![format!("a check reports, not {other:?}")],
        Err(error) => vec![chain(&error)],
    }
}

/// Whether a page is a guest's: live blocks carry no checksum in this format.
fn is_data(disk: &SimulatedDisk, page: u64) -> bool {
    let mut sector = [0; SECTOR];
    disk.read(page * pool::BLOCK, &mut sector);
    matches!(look(&sector), Seen::Stamp { .. })
}

/// What rot has come to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    refused: usize,
    /// Opened, a check or a reading told of it, and what could be read was right.
    named: usize,
    /// Opened, nothing was wrong, and everything was there.
    harmless: usize,
}

/// What a pool may show.
struct Truth {
    found: Found,
    names: Vec<String>,
}

impl Truth {
    fn of(disk: &SimulatedDisk) -> Result<Self, String> {
        match open(disk) {
            Fate::Opened(Opened { found, unreadable, errors })
                if unreadable.is_empty() && errors.is_empty() =>
            {
                Ok(Self { names: found.keys().cloned().collect(), found })
            }
            Fate::Opened(Opened { unreadable, errors, .. }) => {
                Err(format!("nothing is rotten, but {unreadable:?}, {errors:?}"))
            }
            Fate::Refused(why) => Err(format!("the pool does not open although nothing is rotten: {why}")),
        }
    }

    /// A name that shows what it does not hold.
    fn refuted<'a>(&self, found: &'a Found) -> Option<&'a String> {
        let is_wrong = |(name, contents): &(&String, &_)| self.found.get(*name) != Some(*contents);
        found.iter().find(is_wrong).map(|(name, _)| name)
    }

    /// Whether somebody who reads this knows where to look: at a name, or at a block or page by its number.
    fn is_named_in(&self, text: &str) -> bool {
        let words: Vec<&str> = text.split(|other: char| !other.is_alphanumeric() && other != '@').collect();
        let is_number = |word: &str| word.parse::<u64>().is_ok();
        let is_place = |pair: &[&str]| PLACE_WORDS.contains(&pair[0]) && is_number(pair[1]);
        words.windows(2).any(is_place) || words.iter().any(|word| self.names.iter().any(|name| name == word))
    }
}

const PLACE_WORDS: [&str; 6] = ["block", "blocks", "page", "node", "layer", "group"];

/// What one rotten pool came to, against what it may show: all of one of the truths.
fn judge(fate: &Fate, truths: &[&Truth], tally: &mut Tally) -> Result<(), String> {
    let Fate::Opened(Opened { found, unreadable, errors }) = fate else {
        tally.refused += 1;
        return Ok(());
    };
    let refuted: Option<Vec<_>> = truths.iter().map(|truth| truth.refuted(found)).collect();
    if let Some(names) = refuted {
        return Err(format!("{names:?} shows what it does not hold"));
    }
    let complaints: Vec<&String> = unreadable.iter().chain(errors).collect();
    if complaints.is_empty() {
        let is_whole = truths.iter().any(|truth| truth.found == *found);
        tally.harmless += 1;
        return if is_whole { Ok(()) } else { Err("a check is clean, but names are missing".to_owned()) };
    }
    if errors.is_empty() {
        return Err(format!("a check is clean, but {unreadable:?}"));
    }
    if !complaints.iter().any(|text| truths[0].is_named_in(text)) {
        return Err(format!("it is not said where: {complaints:?}"));
    }
    tally.named += 1;
    Ok(())
}

/// Tries every page that is no guest's. The error says which rot was not noticed.
pub(crate) fn rot_everything() -> Result<Tally, String> {
    let (disk, before) = died();
    let (whole, older) = (Truth::of(&disk)?, Truth::of(&before)?);
    // A last batch that rots is a batch that was never finished, for all anybody can tell.
    let last: Vec<u64> = disk.differing_pages(&before);
    let mut tally = Tally::default();
    for page in disk.written_pages().filter(|page| !is_data(&disk, *page)) {
        let truths: &[&Truth] = if last.contains(&page) { &[&whole, &older] } else { &[&whole] };
        for (rot, seed) in Rot::ALL.into_iter().flat_map(|rot| (0..PLACES).map(move |seed| (rot, seed))) {
            let mut rotten = disk.clone();
            rotten.rot(page, rot, seed);
            let fate = catch_unwind(AssertUnwindSafe(|| open(&rotten)));
            let fate = fate.map_err(|panic| format!("panic: {}", words(panic.as_ref())));
            let judged = fate.and_then(|fate| judge(&fate, truths, &mut tally));
            judged.map_err(|why| format!("page {page}, {rot:?}, place {seed}: {why}"))?;
        }
    }
    Ok(tally)
}

#[test]
fn rotten_metadata_is_found_and_named_or_does_not_matter() {
    let tally = rot_everything().expect("no rot passes for contents");
    println!("{tally:?}");
    assert!(tally.refused > 50 && tally.harmless > 50 && tally.named > 50, "each happens: {tally:?}");
}
