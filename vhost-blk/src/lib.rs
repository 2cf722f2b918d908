//! The vhost-user-blk door: serves volumes of a pool as virtio block devices to virtual machines.
//!
//! What it is: the vhost-user protocol on one Unix socket an export, virtio split rings in the guest's memory, and the
//! block device of virtio 1.2, section 5.2. What it is not: a virtual machine monitor, and nothing of storage: what a
//! request means is the engine's business. Packed rings, live migration and in-band notifications are not offered.
//!
//! ```text
//!   monitor (QEMU) -- Unix socket --> session (a thread an export): features, memory, rings
//!                                        |  Start, Stop
//!                                        v
//!   guest memory: rings, data <---> worker (a thread a core): its rings, one engine channel
//!                                     chain -> header -> request::validate -> Channel
//! ```
//!
//! Invariants, cited by number:
//! * V1: nothing in guest memory and nothing a monitor sends makes this crate panic, spin, or hold more memory than
//!   `limits` adds up to. A ring that lies is broken until its monitor takes it back; others go on.
//! * V2: each descriptor and each header is read once, and only the copy is judged; only `request::validate` makes a
//!   `Command`, and nothing behind it checks again.
//! * V3: every head that was taken is put into the used ring exactly once, also after the death of this process: it is
//!   in the in-flight region from before it is looked at until after it is used.
//! * V4: a ring is changed only while it is stopped, and it is stopped only when nothing of it is in flight.
//! * V5: a write is acknowledged as cached only to a driver that has been told of the cache and can flush it.
//! * V6: a volume's one read-write attachment lives as long as its export, not as long as a connection.
//! * V7: every head that is used is counted once, before its driver can see that it is used; counters live as long as their
//!   export.
//! * V8: the limits of an export hold back one request of a ring at a time, in the order of the ring; it holds no memory, and
//!   nothing is taken behind it. A ring that is to stop does not wait.
#![deny(unsafe_code)]

mod address_space;
mod back_channel;
mod chain;
mod clock;
mod completion;
mod config;
mod conversation;
mod counters;
mod error;
mod export;
mod features;
mod histogram;
mod inflight;
mod limits;
mod mailbox;
mod memory;
mod message;
mod notifier;
mod parts;
mod poll_delay;
mod preparation;
#[cfg(any(test, feature = "rehearsal"))]
pub mod rehearsal;
mod request;
mod ring;
mod served;
mod server;
mod session;
mod watch;
mod worker;
mod workers;

pub use counters::{Count, Counts};
pub use error::Error;
pub use export::{ExportOptions, ExportStatus};
pub use histogram::Latencies;
pub use limits::QUEUES_MAX;
pub use server::{Server, ServerOptions};
