//! How the sessions and the server reach a worker.

use crate::counters::RingCounters;
use crate::notifier::Signal;
use crate::ring::{Ring, Stopped};
use parking_lot::Mutex;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this ring under this number, which no other ring of the worker has.
    Start {
        number: u64,
        ring: Box<Ring>,
        counters: Arc<RingCounters>,
    },
    /// Take nothing more from the ring, finish what was taken, and say what became of it (V4).
    Stop {
        number: u64,
        stopped: Sender<Stopped>,
    },
    /// The limits of an export have changed.
    Relimited,
    End,
}

/// How to reach a worker. Clones reach the same one.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox(Arc<Inbox>);

#[derive(Debug)]
struct Inbox {
    messages: Mutex<Vec<Message>>,
    /// Looked at by a worker that is busy and does not sleep.
    has_mail: AtomicBool,
    signal: Signal,
}

impl Mailbox {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(Arc::new(Inbox {
            messages: Mutex::default(),
            has_mail: AtomicBool::new(false),
            signal: Signal::new()?,
        })))
    }

    pub(crate) fn send(&self, message: Message) {
        self.0.messages.lock().push(message);
        self.0.has_mail.store(true, Ordering::Release);
        self.0.signal.give();
    }

    pub(crate) fn has_mail(&self) -> bool {
        self.0.has_mail.load(Ordering::Acquire)
    }

    /// All that has come.
    pub(crate) fn read(&self) -> Vec<Message> {
        if !self.0.has_mail.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut *self.0.messages.lock())
    }
}

/// Readable once something has come, and never read.
impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.signal.as_fd()
    }
}
