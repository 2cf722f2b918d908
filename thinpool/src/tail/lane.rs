//! A lane: a ring of slots, each one record.
//!
//! ```text
//!   64 bytes    start: oldest slot not retired                     end
//!   [ starts |  old  | slot | slot | slot | sequence 0 |   old   ]      slots wrap around byte by byte
//! ```
//! An append stores the zero behind the slot, then the payload, then the header, whose checksum covers all of it and
//! the incarnation and lane. So behind the last whole slot there is either a zero or a slot that fails its checksum.
//! The start is kept twice and written alternately; a kill in the middle leaves the one before, whose slots are still
//! there, because space is reused only after retiring has returned.

use super::region::Region;
use super::{Incarnation, TailFull};
use crate::superblock::fields::{Field, Row, fills};
use cow_tree::units::length_of;
use std::sync::atomic::{Ordering, compiler_fence};

/// Bytes in front of the ring: two starts.
const LANE_HEADER_BYTES: usize = 64;
const START_BYTES: usize = 32;
const TURN: Field<8> = Field::at(0);
const START: Field<8> = Field::at(8);
const START_CHECKSUM: Field<4> = Field::at(16);
const START_REST: Field<12> = Field::at(20);

pub(crate) const LANE_LAYOUT: &[Row] =
    &[TURN.row("turn"), START.row("start"), START_CHECKSUM.row("checksum"), START_REST.row("zero")];
const _: () = assert!(fills(LANE_LAYOUT, START_BYTES));
const _: () = assert!(2 * START_BYTES == LANE_HEADER_BYTES);

/// Bytes of a slot's header, and what slots are aligned to.
const SLOT_BYTES: usize = 16;
const SEQUENCE: Field<8> = Field::at(0);
const LENGTH: Field<4> = Field::at(8);
const CHECKSUM: Field<4> = Field::at(12);

pub(crate) const SLOT_LAYOUT: &[Row] =
    &[SEQUENCE.row("sequence"), LENGTH.row("length"), CHECKSUM.row("checksum")];
const _: () = assert!(fills(SLOT_LAYOUT, SLOT_BYTES));
const _: () = assert!(LANE_HEADER_BYTES.is_multiple_of(SLOT_BYTES));

/// Bytes of the longest record in a lane of so many bytes.
pub(super) const fn record_bytes_max(lane_bytes: usize) -> usize {
    lane_bytes - LANE_HEADER_BYTES - 2 * SLOT_BYTES
}

const fn slot_bytes(record_bytes: usize) -> usize {
    SLOT_BYTES + record_bytes.next_multiple_of(SLOT_BYTES)
}

#[derive(Debug)]
pub(super) struct Lane {
    region: Region,
    number: u32,
    bound: Option<Incarnation>,
    /// Offset of the oldest slot in the ring.
    start: usize,
    used: usize,
    turn: u64,
    last_sequence: u64,
    /// Offset of the newest slot, while it is not retired.
    newest: Option<usize>,
}

/// A slot's header, not believed.
struct Slot {
    sequence: u64,
    length: usize,
    checksum: u32,
}

impl Lane {
    /// # Panics
    /// If the region is no lane's.
    pub(super) fn new(region: Region, number: u32) -> Self {
        assert!(region.len() > record_bytes_max(region.len()) && region.len().is_multiple_of(SLOT_BYTES));
        Self { region, number, bound: None, start: 0, used: 0, turn: 0, last_sequence: 0, newest: None }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.region
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn is_half_full(&self) -> bool {
        self.used * 2 >= self.ring_bytes()
    }

    /// Empties the lane; stale slots of other incarnations stay, and fail their checksums.
    pub(super) fn bind(&mut self, incarnation: Incarnation) {
        (self.start, self.used, self.turn, self.last_sequence, self.newest) = (0, 0, 0, 0, None);
        self.bound = Some(incarnation);
        self.region[..LANE_HEADER_BYTES].fill(0);
        self.copy_in(0, &[0; SLOT_BYTES]);
        self.store_start(&incarnation);
    }

    pub(super) fn append(&mut self, sequence: u64, record: &[u8]) -> Result<(), TailFull> {
        let incarnation = self.bound.expect("a tail is bound before it is appended to");
        assert!(sequence > self.last_sequence, "sequences of a lane grow");
        let needed = slot_bytes(record.len());
        if self.used + needed + SLOT_BYTES > self.ring_bytes() {
            return Err(TailFull);
        }
        let at = self.wrapped(self.start + self.used);
        self.copy_in(at + needed, &[0; SLOT_BYTES]);
        self.copy_in(at + SLOT_BYTES, record);
        let length = u32::try_from(record.len()).expect("a record that fits a lane is short");
        let mut header = [0; SLOT_BYTES];
        SEQUENCE.put_u64(&mut header, sequence);
        LENGTH.put_u32(&mut header, length);
        CHECKSUM.put_u32(&mut header, self.slot_checksum(&incarnation, sequence, record));
        // Not needed for safety, as the checksum decides; it makes a kill inside the payload a clean end.
        compiler_fence(Ordering::SeqCst);
        self.copy_in(at, &header);
        self.used += needed;
        self.last_sequence = sequence;
        self.newest = Some(at);
        Ok(())
    }

    pub(super) fn retire(&mut self, upto: u64) {
        let Some(incarnation) = self.bound else { return };
        let before = self.used;
        while self.used > 0 {
            let slot = self.slot_at(self.start);
            if slot.sequence > upto {
                break;
            }
            let bytes = slot_bytes(slot.length);
            self.start = self.wrapped(self.start + bytes);
            self.used -= bytes;
        }
        if self.used != before {
            self.newest = self.newest.filter(|_| self.used > 0);
            self.store_start(&incarnation);
        }
    }

    /// Gives every whole slot from the start on; tells whether one follows that is not whole.
    pub(super) fn read(&self, incarnation: &Incarnation, mut give: impl FnMut(u64, Vec<u8>)) -> bool {
        let Some(mut at) = self.stored_start(incarnation) else { return false };
        let (mut room, mut previous) = (self.ring_bytes(), 0);
        loop {
            let slot = self.slot_at(at);
            if slot.sequence == 0 {
                return false;
            }
            if slot.sequence <= previous || slot.length > room.saturating_sub(2 * SLOT_BYTES) {
                return true;
            }
            let record = self.copy_out(at + SLOT_BYTES, slot.length);
            if slot.checksum != self.slot_checksum(incarnation, slot.sequence, &record) {
                return true;
            }
            let bytes = slot_bytes(slot.length);
            (at, room, previous) = (self.wrapped(at + bytes), room - bytes, slot.sequence);
            give(slot.sequence, record);
        }
    }

    /// The lane's bytes as if the newest record had been cut in the middle.
    pub(super) fn torn_bytes(&self) -> Vec<u8> {
        let mut bytes = self.region.to_vec();
        if let Some(at) = self.newest {
            let slot = self.slot_at(at);
            let end = at + SLOT_BYTES + slot.length;
            // An empty record is cut in its checksum.
            let cut = end - slot.length.div_ceil(2).max(1);
            for offset in cut..end {
                bytes[LANE_HEADER_BYTES + self.wrapped(offset)] ^= 0xff;
            }
        }
        bytes
    }

    fn ring_bytes(&self) -> usize {
        self.region.len() - LANE_HEADER_BYTES
    }

    fn wrapped(&self, offset: usize) -> usize {
        offset % self.ring_bytes()
    }

    fn slot_at(&self, at: usize) -> Slot {
        let header = &self.region[LANE_HEADER_BYTES + at..][..SLOT_BYTES];
        let length = cow_tree::units::index_of(LENGTH.u32(header));
        Slot { sequence: SEQUENCE.u64(header), length, checksum: CHECKSUM.u32(header) }
    }

    /// L2: salted, so that it is right in one incarnation and lane only.
    fn slot_checksum(&self, incarnation: &Incarnation, sequence: u64, record: &[u8]) -> u32 {
        let checksum = crc32c::crc32c_append(self.salt(incarnation), &sequence.to_le_bytes());
        let checksum = crc32c::crc32c_append(checksum, &length_of(record.len()).to_le_bytes());
        crc32c::crc32c_append(checksum, record)
    }

    fn start_checksum(&self, incarnation: &Incarnation, turn: u64, start: u64) -> u32 {
        let checksum = crc32c::crc32c_append(self.salt(incarnation), &turn.to_le_bytes());
        crc32c::crc32c_append(checksum, &start.to_le_bytes())
    }

    fn salt(&self, incarnation: &Incarnation) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(incarnation), &self.number.to_le_bytes())
    }

    fn store_start(&mut self, incarnation: &Incarnation) {
        self.turn += 1;
        let start = length_of(self.start);
        let checksum = self.start_checksum(incarnation, self.turn, start);
        let at = if self.turn.is_multiple_of(2) { START_BYTES } else { 0 };
        let place = &mut self.region[at..at + START_BYTES];
        TURN.put_u64(place, self.turn);
        START.put_u64(place, start);
        START_CHECKSUM.put_u32(place, checksum);
    }

    fn stored_start(&self, incarnation: &Incarnation) -> Option<usize> {
        let whole = |place: &[u8]| {
            let (turn, start) = (TURN.u64(place), START.u64(place));
            let is_whole = START_CHECKSUM.u32(place) == self.start_checksum(incarnation, turn, start);
            is_whole.then_some((turn, start))
        };
        let starts = self.region[..LANE_HEADER_BYTES].chunks_exact(START_BYTES);
        let (_, start) = starts.filter_map(whole).max()?;
        let start = usize::try_from(start).ok()?;
        (start < self.ring_bytes() && start.is_multiple_of(SLOT_BYTES)).then_some(start)
    }

    fn copy_in(&mut self, offset: usize, bytes: &[u8]) {
        let at = self.wrapped(offset);
        let ring = &mut self.region[LANE_HEADER_BYTES..];
        let (before_end, around) = bytes.split_at(bytes.len().min(ring.len() - at));
        ring[at..at + before_end.len()].copy_from_slice(before_end);
        ring[..around.len()].copy_from_slice(around);
    }

    fn copy_out(&self, offset: usize, length: usize) -> Vec<u8> {
        let at = self.wrapped(offset);
        let ring = &self.region[LANE_HEADER_BYTES..];
        let before_end = length.min(ring.len() - at);
        [&ring[at..at + before_end], &ring[..length - before_end]].concat()
    }
}
