//! How commands and programs reach the pools that `offshoot serve` holds: HTTP/1.1 with JSON over a Unix socket.
//!
//! The daemon asks the kernel who calls (SO_PEERCRED): its own user and root may do everything, others what their role lets
//! them. What takes long is a job with an identifier, a stream of progress and a way to cancel it.

mod access;
mod client;
mod jobs;
mod route;
mod routes;
mod seats;
mod server;

pub(crate) use access::{Access, Role};
pub(crate) use client::Client;
pub(crate) use server::{Api, ControlServer, Hosted};

/// Largest body of a request, in bytes: ten thousand names fit.
const BODY_BYTES_MAX: usize = 8 << 20;
