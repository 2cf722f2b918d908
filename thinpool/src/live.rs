//! An open volume: the lock around its layer, the ranges being changed, and the gate a snapshot closes.
//!
//! Lookups take the body's lock shared: a sharded lock, so that two channels reading one volume do not touch the
//! same cache line. Changes take it exclusively. It is never held over I/O.
//!
//! Every write that is not a full-block overwrite of owned blocks holds its range in `ranges` from its lookup to its
//! publication; overwrites look at `locked_ranges` alone and go the slow way when it is not zero.

use crate::attachment::Access;
use crate::body::LayerBody;
use crate::catalog::CatalogEntry;
use crate::ids::Sequence;
use crate::range_lock::RangeLocks;
use crate::windows::Windows;
use cow_tree::units::{BlockAddress, LogicalBlock};
use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[derive(Debug)]
pub(crate) struct Live {
    body: ShardedLock<LayerBody>,
    pub(crate) name: Mutex<String>,
    /// Bytes the guest sees.
    size: AtomicU64,
    /// The last record staged for this volume.
    uncommitted: AtomicU64,
    pub(crate) ranges: Mutex<RangeLocks>,
    pub(crate) locked_ranges: AtomicUsize,
    /// Set while a snapshot waits for writes in flight; new ones wait until it opens.
    gate_closed: AtomicBool,
    windows: Mutex<Windows>,
    /// Attachments by access; at most one is read-write.
    writers: AtomicU32,
    readers: AtomicU32,
}

impl Live {
    /// `last` is the last record staged: which of the records before are the volume's is not known.
    pub(crate) fn new(body: LayerBody, entry: &CatalogEntry, last: Sequence) -> Self {
        Self {
            body: ShardedLock::new(body),
            name: Mutex::new(entry.name.to_string()),
            size: AtomicU64::new(entry.size),
            uncommitted: AtomicU64::new(last.0),
            ranges: Mutex::new(RangeLocks::default()),
            locked_ranges: AtomicUsize::new(0),
            gate_closed: AtomicBool::new(false),
            windows: Mutex::new(Windows::default()),
            writers: AtomicU32::new(0),
            readers: AtomicU32::new(0),
        }
    }

    /// The body, shared. A panic elsewhere while it was changed poisons the lock: then no answer is right.
    pub(crate) fn read(&self) -> ShardedLockReadGuard<'_, LayerBody> {
        self.body.read().expect("no thread panics while it changes a layer")
    }

    pub(crate) fn write(&self) -> ShardedLockWriteGuard<'_, LayerBody> {
        self.body.write().expect("no thread panics while it changes a layer")
    }

    /// Counts an attachment; a second writer is refused. The caller holds the catalog's lock.
    pub(crate) fn attach(&self, access: Access) -> Result<(), ()> {
        if access == Access::ReadOnly {
            self.readers.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        self.writers.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).map(drop).map_err(drop)
    }

    pub(crate) fn detach(&self, access: Access) {
        let count = if access == Access::ReadWrite { &self.writers } else { &self.readers };
        count.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.writers.load(Ordering::SeqCst) > 0 || self.readers.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(crate) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// The last record of this volume that may not be durable yet.
    pub(crate) fn uncommitted(&self) -> Sequence {
        Sequence(self.uncommitted.load(Ordering::SeqCst))
    }

    pub(crate) fn raise_uncommitted(&self, sequence: Sequence) {
        self.uncommitted.fetch_max(sequence.0, Ordering::SeqCst);
    }

    /// The address at which `at` would stand in its window's place.
    pub(crate) fn window(&self, at: LogicalBlock) -> Option<BlockAddress> {
        self.windows.lock().get(at)
    }

    /// The blocks of the window are placed around `address` from now on.
    pub(crate) fn remember_window(&self, at: LogicalBlock, address: BlockAddress) {
        self.windows.lock().put(at, address);
    }

    pub(crate) fn is_gate_closed(&self) -> bool {
        self.gate_closed.load(Ordering::SeqCst)
    }

    pub(crate) fn set_gate_closed(&self, closed: bool) {
        self.gate_closed.store(closed, Ordering::SeqCst);
    }
}
