//! A leaf of small records: a 64-bit key and up to 1024 bytes. The catalog and the group table are made of them.
//!
//! Records differ in size, so a leaf is full when its page is, and is split in the middle of its bytes.

use crate::damage::Damage;
use crate::leaf::Leaf;
use crate::limits::Limits;
use crate::page::{
    BODY_BYTES, HEADER_BYTES, RECORD_BYTES_MAX, RECORD_SLOT_BYTES, RECORDS_MAX, put, word16, word64,
};
use crate::pointer::Dropped;
use std::ops::Range;

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: u64,
    pub bytes: Vec<u8>,
}

impl Record {
    fn size(&self) -> usize {
        RECORD_SLOT_BYTES + self.bytes.len()
    }
}

/// Leaf of a tree of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordLeaf {
    records: Vec<Record>,
}

impl RecordLeaf {
    /// All records, in key order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Record> {
        let index = self.records.binary_search_by_key(&key, |record| record.key).ok()?;
        Some(&self.records[index])
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut Record> {
        let index = self.records.binary_search_by_key(&key, |record| record.key).ok()?;
        Some(&mut self.records[index])
    }

    /// The first record at or behind `key`.
    pub(crate) fn at_or_after(&self, key: u64) -> Option<&Record> {
        self.records.get(self.records.partition_point(|record| record.key < key))
    }

    fn bytes(&self) -> usize {
        self.records.iter().map(Record::size).sum()
    }

    fn overlap(&self, range: &Range<u64>) -> Range<usize> {
        let first = self.records.partition_point(|record| record.key < range.start);
        let end = self.records.partition_point(|record| record.key < range.end);
        first..end.max(first)
    }
}

impl Leaf for RecordLeaf {
    type Item = Record;
    const KIND: u8 = 2;

    fn count(&self) -> usize {
        self.records.len()
    }

    fn low(&self) -> u64 {
        self.records[0].key
    }

    fn touches(&self, range: &Range<u64>) -> bool {
        !self.overlap(range).is_empty()
    }

    fn replace(&mut self, range: &Range<u64>, item: Option<Record>, _dropped: &mut Vec<Dropped>) {
        let over = self.overlap(range);
        self.records.splice(over, item);
    }

    fn report(&self, _dropped: &mut Vec<Dropped>) {}

    fn is_overfull(&self, limits: Limits) -> bool {
        self.records.len() > limits.leaf() || self.bytes() > BODY_BYTES
    }

    fn is_thin(&self, limits: Limits) -> bool {
        self.records.len() * 2 < limits.leaf() && self.bytes() * 2 < BODY_BYTES
    }

    fn takes(&self, next: &Self, limits: Limits) -> bool {
        self.records.len() + next.records.len() <= limits.leaf() - limits.leaf() / 8
            && self.bytes() + next.bytes() <= BODY_BYTES - BODY_BYTES / 8
    }

    fn split(&mut self, limits: Limits) -> Self {
        if self.bytes() <= BODY_BYTES && self.records.len() > limits.leaf() {
            return Self { records: self.records.split_off(self.records.len() / 2) };
        }
        let half = self.bytes() / 2;
        let mut below = 0;
        let cut = self.records.iter().take_while(|record| {
            below += record.size();
            below <= half
        });
        let cut = cut.count().clamp(1, self.records.len() - 1);
        Self { records: self.records.split_off(cut) }
    }

    fn append(&mut self, mut next: Self) {
        self.records.append(&mut next.records);
    }

    fn encode(&self, body: &mut [u8]) {
        let mut at = self.records.len() * RECORD_SLOT_BYTES;
        for (index, record) in self.records.iter().enumerate() {
            let offset = u16::try_from(HEADER_BYTES + at).expect("an offset within a page");
            let length = u16::try_from(record.bytes.len()).expect("a record is at most 1024 bytes");
            let slot = &mut body[index * RECORD_SLOT_BYTES..(index + 1) * RECORD_SLOT_BYTES];
            put(slot, 0, &record.key.to_le_bytes());
            put(slot, 8, &offset.to_le_bytes());
            put(slot, 10, &length.to_le_bytes());
            put(body, at, &record.bytes);
            at += record.bytes.len();
        }
    }

    fn decode(body: &[u8], count: usize, low: u64) -> Result<Self, Damage> {
        if count == 0 || count > RECORDS_MAX {
            return Err(Damage::Count(count));
        }
        let mut leaf = Self { records: Vec::with_capacity(count) };
        let mut packed_to = count * RECORD_SLOT_BYTES;
        for (index, slot) in body.chunks_exact(RECORD_SLOT_BYTES).take(count).enumerate() {
            let key = word64(slot, 0);
            let (offset, length) = (usize::from(word16(slot, 8)), usize::from(word16(slot, 10)));
            if leaf.records.last().is_some_and(|last| last.key >= key) {
                return Err(Damage::Order(index));
            }
            if offset != HEADER_BYTES + packed_to || length > RECORD_BYTES_MAX {
                return Err(Damage::Range(index));
            }
            let bytes = body.get(packed_to..packed_to + length).ok_or(Damage::Range(index))?.to_vec();
            packed_to += length;
            leaf.records.push(Record { key, bytes });
        }
        if leaf.low() != low || leaf.records.last().is_some_and(|last| last.key == u64::MAX) {
            return Err(Damage::Order(0));
        }
        if body[packed_to..].iter().any(|byte| *byte != 0) {
            return Err(Damage::Padding);
        }
        Ok(leaf)
    }
}
