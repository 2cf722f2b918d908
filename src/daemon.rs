//! How commands reach a pool that `offshoot serve` holds: one line of JSON each way over a Unix socket.
//!
//! The socket lies in a directory closed to other users, and the daemon asks the kernel who calls: only its own user
//! and root are answered.

mod client;
mod server;

pub(crate) use client::Client;
pub(crate) use server::ControlServer;

/// Longest request or answer line, in bytes: ten thousand names fit, and as many exports with all their counters.
const LINE_BYTES_MAX: u64 = 64 << 20;
