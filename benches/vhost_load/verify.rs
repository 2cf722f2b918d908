//! A load that knows what every block must hold. A block that nobody has read is read before it is written, so that what
//! was there first is known, too; a block has one request at most in the ring.
//!
//! When the back end is gone, it is not known what became of the requests in flight: they are forgotten, and once it is back
//! their blocks are read before anything else. Each must hold what was acknowledged or what was in flight, whole, and from
//! then on that. The state's blocks are all read at the beginning and at the end.

use super::contents::{Stamp, checksum};
use super::failure::Failure;
use super::state::{Generation, Identity, State};
use super::vhost_client::{Ask, Driver};
use super::{Chance, Options, now};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Silence after which the connection is tried, and between two tries.
const PROBE_MS: i64 = 100;
const PROBE: Duration = Duration::from_millis(PROBE_MS.unsigned_abs());
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(20);
/// Draws for a block that is not in the ring; without luck the slot stays free until the next answer.
const DRAWS: usize = 8;

/// A request in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Read { block: u64 },
    Write { block: u64, generation: Generation },
}

impl Work {
    fn block(self) -> u64 {
        match self {
            Work::Read { block } | Work::Write { block, .. } => block,
        }
    }
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Read(u64),
    Write(u64),
}

struct Verifier<'a> {
    options: &'a Options,
    capacity: u64,
    driver: Driver,
    state: State,
    chance: Chance,
    /// By slot.
    ring: Vec<Option<Work>>,
    /// What comes before anything else: reads of blocks whose requests went with the back end, and writes to blocks that
    /// were just met. No more than there are free slots, so that all of it finds one at once.
    ahead: Vec<Wish>,
    buffer: Vec<u8>,
    heard: Instant,
    probed: Instant,
    reads: u64,
    writes: u64,
    losses: u64,
}

pub(crate) fn run(options: &Options, state: &Path) -> Result<(), Failure> {
    let mut verifier = Verifier::start(options, state)?;
    let state = &verifier.state;
    println!("seed={} blocks={} generation={}", state.seed, state.blocks(), state.newest().0);
    println!("begun verified={}", verifier.read_all()?);
    verifier.read_and_write()?;
    let verified = verifier.read_all()?;
    let Verifier { reads, writes, losses, .. } = verifier;
    println!("ended verified={verified} reads={reads} writes={writes} losses={losses}");
    Ok(())
}

impl<'a> Verifier<'a> {
    fn start(options: &'a Options, path: &Path) -> Result<Self, Failure> {
        let driver = Driver::connect(&options.socket, options.depth, options.block)?;
        let capacity = driver.capacity();
        let identity = Identity {
            capacity,
            block_bytes: u64::try_from(options.block).expect("a usize"),
            blocks: options.blocks(capacity).map_err(Failure::Unfit)?,
        };
        let seed = options.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let state = State::open(path, identity, seed)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let chance = Chance::new(state.seed ^ state.newest().0);
        let now = now();
        Ok(Self {
            options,
            capacity,
            driver,
            state,
            chance,
            ring: vec![None; options.depth],
            ahead: Vec::new(),
            buffer: vec![0; options.block],
            heard: now,
            probed: now,
            reads: 0,
            writes: 0,
            losses: 0,
        })
    }

    /// Compares all that is known; how many blocks that are.
    fn read_all(&mut self) -> Result<u64, Failure> {
        let (mut blocks, mut count) = (0..self.state.blocks(), 0);
        self.work_off(|verifier| {
            let block = blocks.find(|block| verifier.state.record(*block).first.is_some())?;
            count += 1;
            Some(Wish::Read(block))
        })?;
        Ok(count)
    }

    fn read_and_write(&mut self) -> Result<(), Failure> {
        let end = now() + self.options.seconds;
        self.work_off(|verifier| if now() < end { verifier.draw() } else { None })
    }

    fn draw(&mut self) -> Option<Wish> {
        let blocks = self.state.blocks();
        let mut draws = std::iter::repeat_with(|| self.chance.below(blocks)).take(DRAWS);
        let block = draws.find(|block| self.ring.iter().flatten().all(|work| work.block() != *block))?;
        let is_known = self.state.record(block).first.is_some();
        Some(if is_known && self.chance.below(2) == 0 { Wish::Write(block) } else { Wish::Read(block) })
    }

    /// Keeps the ring full with what `next` wishes, until it wishes nothing and all is answered.
    fn work_off(&mut self, mut next: impl FnMut(&mut Self) -> Option<Wish>) -> Result<(), Failure> {
        self.heard = now();
        loop {
            self.fill(&mut next)?;
            if self.ring.iter().all(Option::is_none) {
                return Ok(());
            }
            if !self.collect()? {
                self.wait()?;
            }
        }
    }

    fn fill(&mut self, next: &mut impl FnMut(&mut Self) -> Option<Wish>) -> Result<(), Failure> {
        let mut any = false;
        for slot in 0..self.ring.len() {
            if self.ring[slot].is_some() {
                continue;
            }
            let Some(wish) = self.ahead.pop().or_else(|| next(self)) else { break };
            self.submit(slot, wish)?;
            any = true;
        }
        if any {
            self.driver.kick()?;
        }
        Ok(())
    }

    fn submit(&mut self, slot: usize, wish: Wish) -> Result<(), Failure> {
        let length = self.options.block;
        let offset = |block| block * u64::try_from(length).expect("a usize");
        let (work, ask) = match wish {
            Wish::Read(block) => (Work::Read { block }, Ask::Read { offset: offset(block), length }),
            Wish::Write(block) => {
                let generation = self.state.begin(block);
                Stamp { seed: self.state.seed, block, generation }.write(&mut self.buffer);
                self.driver.fill(slot, &self.buffer);
                (Work::Write { block, generation }, Ask::Write { offset: offset(block), length })
            }
        };
        self.ring[slot] = Some(work);
        Ok(self.driver.submit(slot, ask)?)
    }

    /// Takes the answers there are; whether there were any.
    fn collect(&mut self) -> Result<bool, Failure> {
        let mut answers = Vec::new();
        self.driver.answers(&mut answers);
        if answers.is_empty() {
            return Ok(false);
        }
        self.heard = now();
        for (slot, answer) in answers {
            let work = self.ring[slot].take().expect("an answer has its request");
            if answer != 0 {
                return Err(Failure::Refused { what: format!("{work:?}"), answer });
            }
            match work {
                Work::Read { block } => {
                    self.reads += 1;
                    self.compare(block, &self.driver.bytes(slot, self.options.block))?;
                }
                Work::Write { block, generation } => {
                    self.writes += 1;
                    self.state.settle(block, generation);
                }
            }
        }
        Ok(true)
    }

    fn compare(&mut self, block: u64, found: &[u8]) -> Result<(), Failure> {
        let record = self.state.record(block);
        let Some(first) = record.first else {
            self.state.meet(block, found);
            self.ahead.push(Wish::Write(block));
            return Ok(());
        };
        let is_found = |generation: &Generation| match generation {
            Generation(0) => checksum(found) == first,
            _ => Stamp { seed: self.state.seed, block, generation: *generation }.is_in(found),
        };
        match [Some(record.acknowledged), record.in_flight].into_iter().flatten().find(is_found) {
            Some(generation) if record.in_flight.is_some() => self.state.settle(block, generation),
            Some(_) => {}
            None => {
                let at = Stamp { seed: self.state.seed, block, generation: record.acknowledged };
                return Err(Failure::mismatch(at, record, found));
            }
        }
        Ok(())
    }

    /// There was no answer: sleeps, and looks after the connection from time to time.
    fn wait(&mut self) -> Result<(), Failure> {
        if self.options.event {
            self.driver.wait(PROBE_MS)?;
        }
        let now = now();
        if now - self.heard.max(self.probed) < PROBE {
            return Ok(());
        }
        self.probed = now;
        if !self.driver.is_connected() {
            return self.come_back();
        }
        if now - self.heard > self.options.patience { Err(Failure::Silent) } else { Ok(()) }
    }

    /// The back end is gone; waits for its successor.
    fn come_back(&mut self) -> Result<(), Failure> {
        // It may have answered until its end.
        self.collect()?;
        let lost: Vec<Work> = self.ring.iter_mut().filter_map(Option::take).collect();
        println!("gone in_flight={}", lost.len());
        self.ahead.extend(lost.into_iter().map(|work| Wish::Read(work.block())));
        assert!(self.ahead.len() <= self.ring.len(), "each had a slot");
        self.losses += 1;
        let end = now() + self.options.patience;
        self.driver = loop {
            match Driver::connect(&self.options.socket, self.options.depth, self.options.block) {
                Ok(driver) => break driver,
                Err(why) if now() > end => {
                    return Err(Failure::Gone { seconds: self.options.patience.as_secs(), why });
                }
                Err(_) => pause(),
            }
        };
        let capacity = self.driver.capacity();
        if capacity != self.capacity {
            return Err(Failure::Unfit(format!("the disk came back with {capacity} bytes")));
        }
        self.heard = now();
        println!("back");
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a socket that is not there yet gives no event")]
fn pause() {
    std::thread::sleep(RETRY);
}
