//! Claims about the ring and about what a scan believes.

mod model;

use super::batch::{HEADER_BYTES, Header};
use super::ring::RingFull;
use super::{
    BatchNumber, FrameDamage, JournalDamage, Position, Ring, Scanned, frame, framed_len, frames, scan,
};
use cow_tree::units::{Generation, PoolId};

const POOL: PoolId = PoolId([5; 16]);
const GENERATION: u64 = 3;
const BLOCKS: u32 = 8;
const BLOCK: usize = 4096;

/// A ring on a device.
struct Disk {
    bytes: Vec<u8>,
    ring: Ring,
}

impl Disk {
    fn new() -> Self {
        Self {
            bytes: vec![0; usize::try_from(BLOCKS).expect("eight") * BLOCK],
            ring: Ring::new(BLOCKS, Position::FIRST, Position::FIRST),
        }
    }

    /// Writes a batch of so many blocks.
    fn commit(&mut self, blocks: usize) -> Position {
        self.commit_from(blocks, GENERATION)
    }

    fn commit_from(&mut self, blocks: usize, generation: u64) -> Position {
        let number = self.ring.next_position().number.0;
        let payload = payload(number, blocks);
        let placed = self.ring.place(POOL, generation, number * 10, number * 10 + 9, &payload).expect("room");
        for (block, bytes) in placed.writes {
            self.bytes[byte(block)..][..bytes.len()].copy_from_slice(&bytes);
        }
        placed.position
    }

    fn scan(&self) -> Result<Scanned, JournalDamage> {
        self.scan_from(self.ring.start_position())
    }

    fn scan_from(&self, from: Position) -> Result<Scanned, JournalDamage> {
        scan(&self.bytes, from, POOL, Generation(GENERATION))
    }

    fn numbers(&self) -> Vec<u64> {
        let scanned = self.scan().expect("no damage");
        assert_eq!(scanned.next.number.0, self.ring.start_position().number.0 + count(&scanned));
        for batch in &scanned.batches {
            let number = batch.header.number.0;
            let blocks = batch.payload.len().div_ceil(BLOCK);
            assert_eq!(
                (batch.header.first_sequence, batch.header.last_sequence),
                (number * 10, number * 10 + 9)
            );
            assert_eq!(batch.payload, payload(number, blocks));
        }
        scanned.batches.iter().map(|batch| batch.header.number.0).collect()
    }
}

fn count(scanned: &Scanned) -> u64 {
    u64::try_from(scanned.batches.len()).expect("few")
}

fn byte(block: u32) -> usize {
    usize::try_from(block).expect("few") * BLOCK
}

/// A payload that fills so many blocks up to a few bytes.
fn payload(number: u64, blocks: usize) -> Vec<u8> {
    let byte = u8::try_from(number % 200 + 1).expect("small");
    vec![byte; blocks * BLOCK - HEADER_BYTES - 5]
}

fn hole(missing: u64, found: u64, newest: u64) -> Result<Scanned, JournalDamage> {
    let [missing, found, newest] = [missing, found, newest].map(BatchNumber);
    Err(JournalDamage::Hole { missing, found, newest })
}

#[test]
fn a_batch_is_these_bytes() {
    let mut ring = Ring::new(4, Position::FIRST, Position::FIRST);
    let mut records = Vec::new();
    frame(&mut records, 7, b"abc");
    let placed = ring.place(POOL, 2, 7, 7, &records).expect("room");
    let [(0, bytes)] = &placed.writes[..] else { panic!("one write at block 0") };
    assert_eq!(&bytes[..12], b"OFSTJRNL\x01\0\0\0");
    assert_eq!(bytes[12..16], GOLDEN_HEADER_CHECKSUM);
    assert_eq!(bytes[16..32], POOL.0);
    let words: Vec<u64> =
        bytes[32..64].chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("8"))).collect();
    assert_eq!(words, [1, 2, 7, 7]);
    assert_eq!(bytes[64..68], [15, 0, 0, 0]);
    assert_eq!(bytes[68..72], GOLDEN_PAYLOAD_CHECKSUM);
    assert_eq!(bytes[72..80], [0; 8]);
    assert_eq!(&bytes[80..96], b"\x03\0\0\0\x07\0\0\0\0\0\0\0abc\0");
    assert_eq!(bytes.len(), 4096);
}
const GOLDEN_HEADER_CHECKSUM: [u8; 4] = [235, 240, 29, 204];
const GOLDEN_PAYLOAD_CHECKSUM: [u8; 4] = [138, 19, 211, 71];

#[test]
fn an_empty_journal_has_no_batches() {
    assert_eq!(Disk::new().scan(), Ok(Scanned { batches: vec![], next: Position::FIRST }));
}

#[test]
fn batches_come_back_in_order_and_around_the_end() {
    let mut disk = Disk::new();
    disk.commit(3);
    disk.commit(4);
    assert_eq!(disk.numbers(), [1, 2]);
    disk.ring.advance_start(Position { number: BatchNumber(2), block: 3 });
    assert_eq!(disk.ring.free_blocks(), 4);
    let third = disk.commit(3);
    assert_eq!((third.block, disk.ring.next_position().block), (7, 2));
    assert_eq!(disk.numbers(), [2, 3]);
}

#[test]
fn a_full_ring_takes_nothing_and_forgets_nothing() {
    let mut disk = Disk::new();
    disk.commit(8);
    assert_eq!(disk.ring.free_blocks(), 0);
    let before = disk.ring.clone();
    let refused = disk.ring.place(POOL, 1, 1, 1, b"x");
    assert_eq!(refused, Err(RingFull { wanted: 1, free: 0 }));
    assert_eq!(disk.ring, before);
    assert_eq!(disk.numbers(), [1]);
    disk.ring.advance_start(disk.ring.next_position());
    assert_eq!(disk.ring.free_blocks(), 8);
    assert_eq!(disk.numbers(), [0; 0]);
}

#[test]
fn blocks_are_counted_with_the_header() {
    let ring = Ring::new(BLOCKS, Position::FIRST, Position::FIRST);
    assert_eq!(ring.total_blocks(), 8);
    let payloads = [0, 4016, 4017, 4016 + 4096, u64::MAX].map(|bytes| ring.blocks_for(bytes));
    assert_eq!(payloads, [1, 1, 2, 2, u64::MAX / 4096 + 1]);
}

#[test]
fn a_batch_torn_at_any_block_is_the_end() {
    for lost in 2..7 {
        let mut disk = Disk::new();
        disk.commit(2);
        disk.commit(5);
        for rest in [[0; BLOCK], [0xa5; BLOCK]] {
            disk.bytes[byte(lost)..][..BLOCK].copy_from_slice(&rest);
            let scanned = disk.scan().expect("a torn batch is no damage");
            assert_eq!(count(&scanned), 1, "block {lost}");
            assert_eq!(scanned.next, Position { number: BatchNumber(2), block: 2 });
        }
    }
}

#[test]
fn every_flipped_bit_of_the_last_batch_ends_the_journal_before_it() {
    let mut disk = Disk::new();
    disk.commit(1);
    disk.commit(1);
    for bit in 0..(BLOCK - 5) * 8 {
        disk.bytes[BLOCK + bit / 8] ^= 1 << (bit % 8);
        assert_eq!(disk.scan().map(|scanned| count(&scanned)), Ok(1), "bit {bit}");
        disk.bytes[BLOCK + bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_bad_batch_before_another_is_damage() {
    for lost in 0..4 {
        let mut disk = Disk::new();
        disk.commit(4);
        disk.commit(2);
        disk.commit(1);
        disk.bytes[byte(lost) + 100] ^= 1;
        if lost == 0 {
            disk.bytes[0] ^= 1;
        }
        assert_eq!(disk.scan(), hole(1, 2, 3), "block {lost}");
    }
}

#[test]
fn the_torn_beginning_of_a_later_batch_proves_a_hole_too() {
    let mut disk = Disk::new();
    disk.commit(1);
    disk.commit(3);
    disk.bytes[100] ^= 1;
    disk.bytes[byte(2)] ^= 1;
    assert_eq!(disk.scan(), hole(1, 2, 2));
}

#[test]
fn a_superblock_older_than_the_journal_is_damage() {
    let mut disk = Disk::new();
    disk.commit(1);
    disk.commit_from(1, GENERATION + 1);
    let damage = JournalDamage::SuperblockBehind {
        number: BatchNumber(2),
        generation: Generation(GENERATION + 1),
        superblock: Generation(GENERATION),
    };
    assert_eq!(disk.scan(), Err(damage));
    disk.bytes[100] ^= 1;
    assert_eq!(disk.scan(), Err(damage), "the truer explanation of the hole");
    assert!(damage.to_string().contains("the superblock is older than the journal"));
}

#[test]
fn old_laps_are_no_damage() {
    let mut disk = Disk::new();
    for _ in 0..5 {
        for blocks in [3, 2, 1] {
            disk.ring.advance_start(disk.ring.next_position());
            disk.commit(blocks);
            let from = disk.ring.start_position();
            assert_eq!(disk.scan_from(from).map(|scanned| count(&scanned)), Ok(1));
            assert_eq!(disk.scan_from(disk.ring.next_position()).map(|scanned| count(&scanned)), Ok(0));
        }
    }
}

#[test]
fn a_new_batch_over_a_torn_one_of_the_same_number_counts() {
    let mut disk = Disk::new();
    disk.commit(1);
    disk.commit(5);
    disk.bytes[byte(4)] ^= 1;
    let next = disk.scan().expect("a torn batch is no damage").next;
    disk.ring = Ring::new(BLOCKS, Position::FIRST, next);
    disk.commit(2);
    disk.commit(1);
    assert_eq!(disk.numbers(), [1, 2, 3]);
}

#[test]
fn batches_of_other_pools_places_and_formats_are_nothing() {
    let mut disk = Disk::new();
    disk.commit(1);
    let other = scan(&disk.bytes, Position::FIRST, PoolId([6; 16]), Generation(GENERATION));
    assert_eq!(other.map(|scanned| count(&scanned)), Ok(0));
    let (first, rest) = disk.bytes.split_at_mut(BLOCK);
    rest[..BLOCK].copy_from_slice(first);
    assert_eq!(Header::parse(&disk.bytes, 1, POOL), None, "a misdirected copy");
    assert_eq!(disk.numbers(), [1]);
}

#[test]
fn a_ring_that_cannot_be_is_refused() {
    let beyond = Position { number: BatchNumber(1), block: 1 };
    for (length, from) in
        [(0, Position::FIRST), (4095, Position::FIRST), (4097, Position::FIRST), (4096, beyond)]
    {
        let scanned = scan(&vec![0; length], from, POOL, Generation(1));
        assert_eq!(scanned, Err(JournalDamage::Shape(length)));
    }
}

#[test]
fn a_header_that_claims_more_than_the_ring_is_no_batch() {
    let mut disk = Disk::new();
    for length in [u32::MAX, 8 * 4096, 8 * 4096 - 79] {
        let header = Header {
            number: BatchNumber(1),
            generation: Generation(GENERATION),
            first_sequence: 0,
            last_sequence: 0,
            block: 0,
            payload_length: length,
            payload_checksum: 0,
        };
        disk.bytes[..HEADER_BYTES].copy_from_slice(&header.encode(POOL));
        assert_eq!(disk.scan().map(|scanned| count(&scanned)), Ok(0));
    }
}

#[test]
fn frames_come_back_and_cut_ones_are_named() {
    let mut payload = Vec::new();
    frame(&mut payload, 1, b"one");
    frame(&mut payload, 5, b"");
    frame(&mut payload, u64::MAX, &[7; 300]);
    assert_eq!(payload.len(), framed_len(3) + framed_len(0) + framed_len(300));
    let all: Result<Vec<_>, _> = frames(&payload).collect();
    assert_eq!(all, Ok(vec![(1, &b"one"[..]), (5, &[]), (u64::MAX, &[7; 300])]));
    for end in 0..payload.len() {
        let mut cut = frames(&payload[..end]);
        let damaged = cut.by_ref().any(|item| item == Err(FrameDamage));
        assert_eq!(damaged, ![0, framed_len(3), framed_len(3) + framed_len(0)].contains(&end));
        assert_eq!(cut.next(), None);
    }
}
