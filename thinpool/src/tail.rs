//! The crash tail: records acknowledged and not yet durable, in memory that outlives the process.
//!
//! * L1 A record is in the tail when [`Tail::append`] returns, and stays there until it is retired.
//! * L2 A tail counts for one incarnation only; every checksum in it is salted with that, so nothing of an earlier one or
//!   of an earlier lap is ever taken for a record.
//! * L3 Killed at any instruction, a process leaves every record whose append has returned. A slot it was writing fails
//!   its checksum, which is the normal end of its lane.
//! * L4 A void tail gives no records. Being void ends only with the next [`Tail::bind`].
//!
//! The memory is a file on tmpfs, mapped ([`mapped`]), or the process's own ([`memory`], for simulations); both hold the
//! same bytes. Shared memory keeps its stores when a process dies, in whatever order; it keeps nothing over a reboot.
//! A lane belongs to one channel at a time; its lock is only ever contended by retiring.
//!
//! An opener first replays, makes the journal durable and writes a superblock that says clean; then it binds the new
//! incarnation; then it writes the superblock that names it. So no superblock ever asks for a tail that is not there.

mod header;
mod lane;
mod mapped;
mod memory;
mod region;
mod shape;

pub use memory::TailImage;
pub use shape::{LANE_BYTES_MAX, LANE_BYTES_MIN, LANES_MAX, Shape};

#[cfg(test)]
pub(crate) use header::LAYOUT as HEADER_LAYOUT;
#[cfg(test)]
pub(crate) use lane::{LANE_LAYOUT, SLOT_LAYOUT};

use header::HeaderPage;
use lane::Lane;
use parking_lot::Mutex;
use region::Region;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use thiserror::Error;

/// Name of one opening of a pool; random.
pub type Incarnation = [u8; 16];

/// A lane without room for a record. Nothing of it has been stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the crash tail has no room for a record before others are durable")]
pub struct TailFull;

/// A tail that cannot be made or used.
#[derive(Debug, Error)]
pub enum TailError {
    #[error("a crash tail cannot have {lanes} lanes of {lane_bytes} bytes")]
    Shape { lanes: u32, lane_bytes: u64 },
    #[error("{} is not on tmpfs: a crash tail on a disk would stall every write", .0.display())]
    NotTmpfs(PathBuf),
    #[error("there is no crash tail at {}", .0.display())]
    Missing(PathBuf),
    #[error("there is a crash tail at {} already", .0.display())]
    Exists(PathBuf),
    #[error("{} is not a file that only its owner, who runs this, can use", .0.display())]
    NotPrivate(PathBuf),
    #[error("the crash tail is damaged: {0}")]
    Damaged(&'static str),
    #[error("the crash tail at {} failed while {doing}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

/// What a tail holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TailContents {
    /// Whose it is; `None` before it is bound, and when binding was cut short.
    pub incarnation: Option<Incarnation>,
    /// A flush has failed: there are no records to replay, whatever was in it.
    pub voided: bool,
    /// Sequence and bytes, in order of sequence; nothing that was retired.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Lanes that end in a record a thread was killed in. Normal after a kill.
    pub holes: usize,
}

/// A crash tail. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Tail {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shape: Shape,
    header: Mutex<HeaderPage>,
    lanes: Vec<Mutex<Lane>>,
    used: AtomicU64,
    /// Lanes at least half full.
    crowded: AtomicUsize,
}

impl Tail {
    /// A tail over its parts, each of the length the shape tells. Not bound.
    fn over(shape: Shape, header: Region, lanes: Vec<Region>) -> Self {
        let lanes = (0..).zip(lanes).map(|(number, region)| Mutex::new(Lane::new(region, number))).collect();
        let header = Mutex::new(HeaderPage::new(header));
        let inner = Inner { shape, header, lanes, used: AtomicU64::new(0), crowded: AtomicUsize::new(0) };
        Self { inner: Arc::new(inner) }
    }

    #[must_use]
    pub fn lanes(&self) -> usize {
        self.inner.lanes.len()
    }

    /// Bytes of the longest record a lane can ever hold.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        self.inner.shape.record_bytes_max()
    }

    /// Bytes that records not yet retired take.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// Whether any lane is at least half full: time for a commit.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.inner.crowded.load(Ordering::Relaxed) > 0
    }

    /// Names the incarnation whose records follow, and forgets everything before.
    pub fn bind(&self, incarnation: Incarnation) {
        let mut header = self.inner.header.lock();
        header.unbind();
        for lane in &self.inner.lanes {
            self.change(lane, |lane| lane.bind(incarnation));
        }
        header.bind(incarnation);
    }

    /// Stores a record, or nothing. Sequences of one lane grow; 0 is none.
    ///
    /// # Errors
    /// When the lane has no room.
    ///
    /// # Panics
    /// If the tail is not bound, there is no such lane, or the sequence does not grow.
    pub fn append(&self, lane: usize, sequence: u64, record: &[u8]) -> Result<(), TailFull> {
        self.change(&self.inner.lanes[lane], |lane| lane.append(sequence, record))
    }

    /// Every record up to this sequence is durable elsewhere: its space is free again.
    pub fn retire(&self, upto: u64) {
        // The watermark comes first: what is overwritten later must not be missed.
        self.inner.header.lock().retire(upto);
        for lane in &self.inner.lanes {
            self.change(lane, |lane| lane.retire(upto));
        }
    }

    /// Makes the tail void: whoever reads it finds no records.
    pub fn void(&self) {
        self.inner.header.lock().void();
    }

    /// What an opener finds.
    #[must_use]
    pub fn read(&self) -> TailContents {
        let header = self.inner.header.lock();
        let voided = header.is_void();
        let Some(incarnation) = header.incarnation() else {
            return TailContents { voided, ..TailContents::default() };
        };
        let mut contents = TailContents { incarnation: Some(incarnation), voided, ..TailContents::default() };
        if voided {
            return contents;
        }
        let retired = header.retired(&incarnation);
        for lane in &self.inner.lanes {
            let ended_torn = lane.lock().read(&incarnation, |sequence, record| {
                if sequence > retired {
                    contents.records.push((sequence, record));
                }
            });
            contents.holes += usize::from(ended_torn);
        }
        contents.records.sort_unstable_by_key(|(sequence, _)| *sequence);
        contents
    }

    /// Lets a lane change, and keeps the sums over all lanes in step.
    fn change<R>(&self, lane: &Mutex<Lane>, act: impl FnOnce(&mut Lane) -> R) -> R {
        let mut lane = lane.lock();
        let (used, crowded) = (lane.used(), lane.is_half_full());
        let result = act(&mut lane);
        let grown = cow_tree::units::length_of(lane.used()).wrapping_sub(cow_tree::units::length_of(used));
        self.inner.used.fetch_add(grown, Ordering::Relaxed);
        match (crowded, lane.is_half_full()) {
            (false, true) => drop(self.inner.crowded.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.inner.crowded.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        result
    }
}

#[cfg(test)]
mod tests;
