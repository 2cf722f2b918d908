//! A volume, snapshot or version that somebody has open.

use crate::core::Core;
use crate::ids::LayerId;
use crate::live::Live;
use crossbeam_utils::CachePadded;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a volume is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    /// At most one at a time per volume; never for snapshots and versions.
    ReadWrite,
}

/// An open volume. Clones share it; the last one dropped closes it. Every request carries a clone, so a thread that
/// sends requests makes them from an attachment [`Attachment::for_thread`] gave it: then it counts clones alone.
#[derive(Clone)]
pub struct Attachment {
    /// Padded, because whole cache lines are what threads share.
    inner: Arc<CachePadded<Handle>>,
}

/// What one thread has of an open volume.
struct Handle {
    open: Arc<Open>,
    /// Its writes wait for space when the pool is full.
    is_patient: AtomicBool,
    /// They did, and nobody waits for them any more.
    is_done_waiting: AtomicBool,
}

pub(crate) struct Open {
    core: Arc<Core>,
    live: Arc<Live>,
    access: Access,
    /// The sealed layer this reader keeps.
    pinned: Option<LayerId>,
}

impl Attachment {
    pub(crate) fn new(core: Arc<Core>, live: Arc<Live>, access: Access, pinned: Option<LayerId>) -> Self {
        Self::of(Arc::new(Open { core, live, access, pinned }))
    }

    fn of(open: Arc<Open>) -> Self {
        Self {
            inner: Arc::new(CachePadded::new(Handle {
                open,
                is_patient: AtomicBool::new(false),
                is_done_waiting: AtomicBool::new(false),
            })),
        }
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.inner.open.live
    }

    pub(crate) fn belongs_to(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.inner.open.core, core)
    }

    /// The same attachment for another thread, whose clones touch nothing this one's touch.
    #[must_use]
    pub fn for_thread(&self) -> Self {
        Self::of(self.inner.open.clone())
    }

    /// From now on writes of this attachment's clones wait for space when the pool is full, for as long as
    /// [`Pool::hold_when_full`](crate::Pool::hold_when_full) allows; not those of what [`Attachment::for_thread`] makes of it.
    pub fn be_patient(&self) {
        self.inner.is_patient.store(true, Ordering::SeqCst);
    }

    /// They do not wait any more, as at first; those that do fail.
    pub fn end_patience(&self) {
        if self.inner.is_patient.swap(false, Ordering::SeqCst) {
            self.inner.is_done_waiting.store(true, Ordering::SeqCst);
            self.inner.open.core.announce();
        }
    }

    pub(crate) fn is_done_waiting(&self) -> bool {
        self.inner.is_done_waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn is_patient(&self) -> bool {
        self.inner.is_patient.load(Ordering::SeqCst)
    }

    /// Bytes the guest sees; changes when the volume is resized.
    pub fn size(&self) -> u64 {
        self.inner.open.live.size()
    }

    pub fn is_read_only(&self) -> bool {
        self.inner.open.access == Access::ReadOnly
    }

    /// The name it was opened by, or was renamed to since.
    pub fn name(&self) -> String {
        self.inner.open.live.name.lock().clone()
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Attachment({}, {:?})", self.name(), self.inner.open.access)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut catalog = self.core.catalog.lock();
        self.live.detach(self.access);
        let id = self.pinned.unwrap_or_else(|| self.live.read().id);
        if catalog.try_layer(id).is_some() {
            let layer = catalog.peek_mut(id);
            layer.pins -= u32::from(self.pinned.is_some());
            layer.close(&self.live);
        }
        // A layer that was only kept by this reader can be reclaimed now.
        catalog.touch();
        drop(catalog);
        self.core.keeper.ring();
    }
}
