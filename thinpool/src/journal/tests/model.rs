//! Any run of commits, checkpoints and crashes, against a list of what was made durable.

use super::{BLOCK, BLOCKS, Disk, POOL, byte};
use crate::journal::{BatchNumber, JournalDamage, Position, Ring, scan};
use cow_tree::units::Generation;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

#[derive(Debug, Clone)]
enum Action {
    Commit {
        blocks: usize,
    },
    /// A superblock that begins with the batch so many before the next one.
    Checkpoint {
        keep: usize,
    },
    /// The next batch reaches the device in part; then the pool is opened again.
    Crash {
        blocks: usize,
        landed: u8,
    },
    /// A bit of a batch that is needed and not the last rots.
    Rot {
        which: usize,
        at: usize,
    },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => (1..5usize).prop_map(|blocks| Action::Commit { blocks }),
        3 => (0..3usize).prop_map(|keep| Action::Checkpoint { keep }),
        2 => (1..5usize, any::<u8>()).prop_map(|(blocks, landed)| Action::Crash { blocks, landed }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(which, at)| Action::Rot { which, at }),
        1 => Just(Action::Checkpoint { keep: 0 }),
    ];
    proptest::collection::vec(action, 1..60)
}

/// The device, and which batches a scan must find.
struct World {
    disk: Disk,
    live: Vec<(Position, usize)>,
    generation: u64,
}

impl World {
    fn commit(&mut self, blocks: usize) {
        if u64::try_from(blocks).expect("few") <= self.disk.ring.free_blocks() {
            let position = self.disk.commit_from(blocks, self.generation);
            self.live.push((position, blocks));
        }
    }

    fn checkpoint(&mut self, keep: usize) {
        let gone = self.live.len().saturating_sub(keep);
        self.live.drain(..gone);
        let start = self.live.first().map_or(self.disk.ring.next_position(), |(position, _)| *position);
        self.disk.ring.advance_start(start);
        self.generation += 1;
    }

    fn crash(&mut self, blocks: usize, landed: u8) {
        if u64::try_from(blocks).expect("few") > self.disk.ring.free_blocks() {
            return;
        }
        let before = self.disk.bytes.clone();
        let position = self.disk.commit_from(blocks, self.generation);
        let lost: Vec<usize> = (0..blocks).filter(|block| landed >> block & 1 == 0).collect();
        for distance in &lost {
            let block = (position.block + u32::try_from(*distance).expect("few")) % BLOCKS;
            let range = byte(block)..byte(block) + BLOCK;
            self.disk.bytes[range.clone()].copy_from_slice(&before[range]);
        }
        // What had lain there may by chance be what was to be written.
        let scanned = self.disk_scan().expect("a torn batch is no damage");
        let whole = scanned.batches.len() > self.live.len();
        assert!(whole || !lost.is_empty());
        if let Some(batch) = scanned.batches.last().filter(|_| whole) {
            // The header may be that of an earlier torn batch of the same number and another length.
            let blocks = usize::try_from(batch.header.blocks()).expect("few");
            self.live.push((position, blocks));
        }
        self.disk.ring = Ring::new(BLOCKS, self.disk.ring.start_position(), scanned.next);
    }

    fn disk_scan(&self) -> Result<crate::journal::Scanned, JournalDamage> {
        scan(&self.disk.bytes, self.disk.ring.start_position(), POOL, Generation(self.generation))
    }

    /// Flips a bit of a batch before the last, expects its number to be reported, and flips it back.
    fn rot(&mut self, which: usize, at: usize) {
        let Some(candidates) = self.live.len().checked_sub(1).filter(|count| *count > 0) else { return };
        let (position, blocks) = self.live[which % candidates];
        let at = byte(position.block) + at % (blocks * BLOCK - 5);
        let at = at % self.disk.bytes.len();
        self.disk.bytes[at] ^= 4;
        let damage = self.disk_scan();
        self.disk.bytes[at] ^= 4;
        // The torn beginning of a batch behind the last one is evidence too.
        let last = self.live.last().expect("at least two").0.number;
        let Err(JournalDamage::Hole { missing, found, newest }) = damage else {
            panic!("a hole, not {damage:?}")
        };
        assert_eq!((missing, found), (position.number, BatchNumber(position.number.0 + 1)));
        assert!(newest == last || newest == last.next(), "{newest} after {last}");
    }
}

proptest! {
    #[test]
    fn a_scan_finds_exactly_what_was_made_durable(actions in actions()) {
        let mut world = World { disk: Disk::new(), live: Vec::new(), generation: 1 };
        for action in actions {
            match action {
                Action::Commit { blocks } => world.commit(blocks),
                Action::Checkpoint { keep } => world.checkpoint(keep),
                Action::Crash { blocks, landed } => world.crash(blocks, landed),
                Action::Rot { which, at } => world.rot(which, at),
            }
            let scanned = world.disk_scan().expect("no damage");
            let found: Vec<Position> = scanned.batches.iter().map(|batch| batch.header.position()).collect();
            let live: Vec<Position> = world.live.iter().map(|(position, _)| *position).collect();
            prop_assert_eq!(found, live);
            prop_assert_eq!(scanned.next, world.disk.ring.next_position());
            let used: usize = world.live.iter().map(|(_, blocks)| blocks).sum();
            prop_assert_eq!(world.disk.ring.free_blocks() + u64::try_from(used).expect("few"), u64::from(BLOCKS));
        }
    }

    #[test]
    fn any_bytes_are_scanned_without_panic(
        noise in proptest::collection::vec((0..BLOCK * 8, any::<u8>()), 0..50),
        number in any::<u64>(), block in any::<u32>(),
    ) {
        let mut disk = Disk::new();
        disk.commit(3);
        disk.commit(2);
        for (at, byte) in noise {
            disk.bytes[at] = byte;
        }
        let from = Position { number: BatchNumber(number), block };
        let scanned = scan(&disk.bytes, from, POOL, Generation(9));
        prop_assert!(scanned.is_err() || block < BLOCKS);
    }
}
