//! `kill -9` of the daemon beneath a guest that goes on: its rings, its memory and its requests stay, another daemon takes over.
//! Every request is answered exactly once, whatever the daemon had done of it, and every acknowledged write is there.
//!
//! `OFFSHOOT_SEED` chooses what the guest does, `OFFSHOOT_KILLS` how often the daemon dies.

#[path = "../cli_program/mod.rs"]
mod cli_program;
#[path = "../vhost_monitor/mod.rs"]
mod vhost_monitor;

use cli_program::{Daemon, Place};
use std::path::PathBuf;
use vhost_monitor::{FREE, Monitor, NEXT, WRITE};
use vm_memory::{Bytes, VolatileMemory};

const KILLS: u64 = 20;
const SLOTS: u16 = 16;
const QUEUE_SIZE: u16 = 64;
/// Blocks each slot writes to; no other does, so at most one write of a block is in flight.
const BLOCKS_PER_SLOT: u64 = 16;
const BLOCK: usize = 4096;
const DATA: u64 = FREE + 0x8000;
const VOLUME_BYTES: u64 = 4 << 20;
/// How long an answer may take, in milliseconds.
const PATIENCE_MS: i64 = 10_000;

/// What a slot has in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Write { block: u64, value: u64 },
    Read { block: u64 },
}

struct Guest {
    monitor: Monitor,
    slots: Vec<Option<Request>>,
    /// By block: the value of the last acknowledged write.
    acknowledged: Vec<u64>,
    seen: u16,
    value: u64,
    chance: u64,
    answers: u64,
}

impl Guest {
    fn random(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }

    fn submit(&mut self, slot: u16, request: Request) {
        let (kind, block, flags) = match request {
            Request::Write { block, .. } => (1, block, 0),
            Request::Read { block } => (0, block, WRITE),
        };
        let (header, data) = (FREE + u64::from(slot) * 64, data_of(slot));
        if let Request::Write { value, .. } = request {
            self.monitor.put(usize::try_from(data).expect("small"), &value.to_le_bytes().repeat(BLOCK / 8));
        }
        let head = slot * 3;
        self.monitor.header(header, kind, block * 8);
        self.monitor.put(usize::try_from(header + 32).expect("small"), &[0xEE]);
        self.monitor.describe(head, header, 16, NEXT, head + 1);
        self.monitor.describe(head + 1, data, 4096, NEXT | flags, head + 2);
        self.monitor.describe(head + 2, header + 32, 1, WRITE, 0);
        self.slots[usize::from(slot)] = Some(request);
        self.monitor.offer_in(head, QUEUE_SIZE);
    }

    /// Takes what is in the used ring; how many answers that were.
    fn collect(&mut self) -> u64 {
        let mut count = 0;
        while self.seen != self.monitor.used() {
            let head = self.monitor.used_head(self.seen, QUEUE_SIZE);
            self.seen = self.seen.wrapping_add(1);
            let slot = u16::try_from(head / 3).expect("a slot");
            let request = self.slots[usize::from(slot)].take();
            let request = request.expect("a request is answered once, and only one that was made");
            assert_eq!(self.monitor.byte(FREE + u64::from(slot) * 64 + 32), 0, "{request:?}");
            match request {
                Request::Write { block, value } => self.acknowledged[index(block)] = value,
                Request::Read { block } => self.compare(slot, block),
            }
            count += 1;
        }
        self.answers += count;
        count
    }

    fn compare(&self, slot: u16, block: u64) {
        let mut bytes = vec![0; BLOCK];
        let at = usize::try_from(data_of(slot)).expect("small");
        self.monitor.memory.as_volatile_slice().read_slice(&mut bytes, at).expect("inside the memory");
        let expected = self.acknowledged[index(block)].to_le_bytes().repeat(BLOCK / 8);
        assert!(bytes == expected, "block {block}: not what was acknowledged");
    }

    /// Waits until so many answers have come in all. Like a driver it sleeps until it is called, and asks for that before it
    /// looks for the last time: a call that is missed is never made up for.
    fn wait_for(&mut self, answers: u64, mut next: impl FnMut(&mut Self)) {
        while self.answers < answers {
            self.monitor.call_after(self.seen, QUEUE_SIZE);
            if self.collect() > 0 {
                next(self);
            } else if !self.monitor.is_called(PATIENCE_MS) {
                assert!(!self.monitor.has_error(), "the ring was left broken");
                panic!(
                    "no call: {} requests wait after {} answers, {} used, {} seen",
                    self.in_flight(),
                    self.answers,
                    self.monitor.used(),
                    self.seen
                );
            }
        }
    }

    /// From here on the driver only listens, and the next answer has to wake it.
    fn fall_asleep(&mut self) {
        loop {
            self.monitor.call_after(self.seen, QUEUE_SIZE);
            let _of_answers_that_were_seen = self.monitor.is_called(0);
            if self.collect() == 0 {
                return;
            }
        }
    }

    fn in_flight(&self) -> u64 {
        u64::try_from(self.slots.iter().flatten().count()).expect("small")
    }

    /// Fills every free slot with a write.
    fn write_on(&mut self) {
        for slot in 0..SLOTS {
            if self.slots[usize::from(slot)].is_none() {
                let block = u64::from(slot) * BLOCKS_PER_SLOT + self.random() % BLOCKS_PER_SLOT;
                self.value += 1;
                let value = self.value;
                self.submit(slot, Request::Write { block, value });
            }
        }
    }

    /// Everything that was ever acknowledged.
    fn read_all(&mut self) {
        for turn in 0..BLOCKS_PER_SLOT {
            for slot in 0..SLOTS {
                self.submit(slot, Request::Read { block: u64::from(slot) * BLOCKS_PER_SLOT + turn });
            }
            self.wait_for(self.answers + u64::from(SLOTS), |_| {});
        }
    }
}

fn index(block: u64) -> usize {
    usize::try_from(block).expect("small")
}

fn data_of(slot: u16) -> u64 {
    DATA + u64::from(slot) * 4096
}

fn start(place: &Place, engine: &str) -> (Daemon, PathBuf) {
    let daemon = place.serve(&["--io", engine]);
    let line = place.ok(&["export", "start", "disk"]);
    (daemon, PathBuf::from(line.trim_end()))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Kills that found requests in flight, of all.
fn live_through_kills(place: &Place, engine: &str) -> (u64, u64) {
    place.ok(&["volume", "create", "disk", "--size", &VOLUME_BYTES.to_string()]);
    let (mut daemon, socket) = start(place, engine);
    let mut monitor = Monitor::connect_without(&socket, 0);
    monitor.track(QUEUE_SIZE);
    monitor.set_up(QUEUE_SIZE);
    let blocks = u64::from(SLOTS) * BLOCKS_PER_SLOT;
    let mut guest = Guest {
        monitor,
        slots: vec![None; usize::from(SLOTS)],
        acknowledged: vec![0; index(blocks)],
        seen: 0,
        value: 0,
        chance: number("OFFSHOOT_SEED").unwrap_or(1) | 1 << 40,
        answers: 0,
    };
    let (kills, mut caught) = (number("OFFSHOOT_KILLS").unwrap_or(KILLS), 0);
    for _ in 0..kills {
        guest.write_on();
        let wanted = guest.answers + guest.random() % 400;
        guest.wait_for(wanted, Guest::write_on);
        guest.fall_asleep();
        guest.write_on();
        daemon.kill();
        guest.collect();
        caught += u64::from(guest.in_flight() > 0);
        let socket;
        (daemon, socket) = start(place, engine);
        guest.monitor.reconnect(&socket, QUEUE_SIZE);
        assert!(guest.monitor.is_called(PATIENCE_MS), "it sleeps for ever: the call died with a daemon");
        guest.wait_for(guest.answers + guest.in_flight(), |_| {});
        guest.read_all();
    }
    drop(guest);
    assert_eq!(daemon.stop().code, Some(0));
    place.ok(&["pool", "check"]);
    (caught, kills)
}

#[test]
fn a_guest_lives_through_kills_of_a_daemon_that_completes_out_of_order() {
    let (caught, kills) = live_through_kills(&Place::on_disk().with_pool(), "uring");
    println!("{caught} of {kills} kills found requests in flight");
    assert!(caught * 2 >= kills, "only {caught} of {kills} kills found requests in flight");
}

#[test]
fn a_guest_lives_through_kills_of_a_daemon_on_a_map() {
    let (caught, kills) = live_through_kills(&Place::in_memory().with_pool(), "mapped");
    println!("{caught} of {kills} kills found requests in flight");
}
