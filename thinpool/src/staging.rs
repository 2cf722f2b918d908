//! Records staged and not yet in the journal: one lane per channel, merged by sequence when a batch is cut.
//!
//! A record goes to its lane and to the crash tail before the change it describes becomes visible, both inside the
//! publish gate, so that a cut, which closes the gate, sees either both the record and its effect or neither.

use crate::ids::Sequence;
use crate::journal::framed_len;
use crate::tail::{Tail, TailFull};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A record and its number, encoded.
#[derive(Debug, Clone)]
pub(crate) struct Staged {
    pub(crate) sequence: Sequence,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Staging {
    lanes: Vec<Mutex<Vec<Staged>>>,
    last: AtomicU64,
    /// Bytes that what is staged takes in a journal batch.
    bytes: AtomicU64,
}

impl Staging {
    pub(crate) fn new(lanes: usize, last: Sequence) -> Self {
        Self {
            lanes: (0..lanes).map(|_| Mutex::new(Vec::new())).collect(),
            last: AtomicU64::new(last.0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Stages one record in the tail, then in the lane. Nothing has happened when the tail is full.
    pub(crate) fn stage(&self, lane: usize, tail: &Tail, bytes: Vec<u8>) -> Result<Sequence, TailFull> {
        let mut records = self.lanes[lane].lock();
        let sequence = Sequence(self.last.fetch_add(1, Ordering::SeqCst) + 1);
        tail.append(lane, sequence.0, &bytes)?;
        self.bytes.fetch_add(framed(&bytes), Ordering::Relaxed);
        records.push(Staged { sequence, bytes });
        Ok(sequence)
    }

    pub(crate) fn last(&self) -> Sequence {
        Sequence(self.last.load(Ordering::SeqCst))
    }

    /// Bytes that everything staged takes in a journal batch, without the batch's header.
    pub(crate) fn framed_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes everything staged, in order. The caller holds the publish gate.
    pub(crate) fn cut(&self) -> Vec<Staged> {
        let mut all: Vec<Staged> =
            self.lanes.iter().flat_map(|lane| std::mem::take(&mut *lane.lock())).collect();
        all.sort_unstable_by_key(|staged| staged.sequence);
        let bytes: u64 = all.iter().map(|staged| framed(&staged.bytes)).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        all
    }

    /// Forgets what is durable already, because a checkpoint holds it.
    pub(crate) fn retire(&self, upto: Sequence) {
        for lane in &self.lanes {
            let mut records = lane.lock();
            let count = records.partition_point(|staged| staged.sequence <= upto);
            let bytes: u64 = records.drain(..count).map(|staged| framed(&staged.bytes)).sum();
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Copies of everything staged: what a failed flush leaves in doubt.
    pub(crate) fn pending(&self) -> Vec<Staged> {
        let mut all: Vec<Staged> = self.lanes.iter().flat_map(|lane| lane.lock().clone()).collect();
        all.sort_unstable_by_key(|staged| staged.sequence);
        all
    }
}

fn framed(bytes: &[u8]) -> u64 {
    cow_tree::units::length_of(framed_len(bytes.len()))
}
