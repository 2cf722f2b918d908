//! The NBD door: serves the volumes, snapshots and image versions of a pool to NBD clients.
//!
//! What it is: the fixed newstyle handshake and the transmission phase with simple and structured replies and with
//! extended headers, on Unix sockets and TCP, with TLS where it goes beyond the machine. Untrusted bytes come in, legal
//! requests to the engine come out; one function, `request::validate`, decides which are legal. What it is not: anything
//! of storage; what a request means is the engine's business.
//!
//! ```text
//!            acceptor (a thread)            worker (a thread each: one ring, one engine channel)
//!   clients ------ accept ------> in turn ---> connection --- reader: Handshake, then Session::next
//!                                                 |               |  actions        ^ answers
//!                                                 |               v                 | Session::complete
//!                                                 |            Worker::submit    Worker::pump
//!                                                 |               |                 |
//!                                                 |               +--> Channel -----+
//!                                                 +--- writer: Session::stage --> socket
//! ```
//! `Handshake` and `Session` do no I/O: they are driven by tests and by a fuzzer (`rehearsal`) as well as by sockets.
//!
//! Block sizes: clients are told that they may use single bytes, that 4096 are preferred, and that the largest payload has
//! 32 MiB. What is not whole blocks costs a read of what is beside it, done by the engine, so that clients who share a block
//! do not undo each other's writes.
//!
//! Invariants, cited by number:
//! * W1: no bytes of a client make this crate panic, spin, or hold more memory than `limits` adds up to.
//! * W2: only `request::validate` makes a `Command`; behind it nothing is checked again.
//! * W3: after any answer the stream is in step: options and payloads are consumed whether refused or not. Where
//!   that is impossible, the connection ends.
//! * W4: every request takes one of a bounded number of slots until its reply is staged, or sent from where it is, legal or not.
//! * W5: a connection's state outlives its last request in the engine.
//! * W6: a volume's one read-write attachment is shared by all connections of a server and given back with the last.
//! * W7: a flush on any connection covers the completed writes of all: the engine flushes volumes, not connections.
//! * W8: no work on the pool is done for a client that has not named an export; nothing is opened before GO.
//! * W9: before TLS, where it is required, a client learns nothing; what it sent and agreed before TLS counts for nothing.
//! * W10: the limits of an export hold back one request of a connection at a time, in the order of the stream, and nothing is
//!   read behind it. Nobody waits who is cut off, nor when the server closes.
#![forbid(unsafe_code)]

mod acceptor;
mod connection;
mod contexts;
mod error;
mod exports;
mod fields;
mod handshake;
mod limiters;
mod limits;
mod listen;
mod proto;
#[cfg(any(test, feature = "rehearsal"))]
pub mod rehearsal;
mod reply;
mod request;
mod server;
mod session;
mod signal;
mod status;
mod survey;
mod tls;
mod tunnel;
mod wire;
mod worker;

pub use error::Error;
pub use limits::Limits;
pub use listen::Listen;
pub use server::{Server, ServerOptions};
pub use tls::{Grant, Tls};
