//! Limits of speed: how many requests, and how many bytes of them, may begin in a second.
//!
//! What it is: token buckets that all who serve an export share, on whatever thread. What it is not: a queue, a timer or a
//! clock. Whoever serves asks when a request may begin, keeps it until then, and says what time it is.
//!
//! ```text
//!   request --> reserve(cost, now) --> at once, or a turn --> the server keeps it until it is due --> begins
//!                    |
//!              paid_until: requests    a request begins when what began before it is paid for, but for `burst`
//!              paid_until: bytes
//! ```
//! A bucket is one moment, until which everything that began is paid for (the generic cell rate algorithm: ITU-T I.371,
//! annex A, "virtual scheduling"). So a request longer than the bucket begins like any other, and whoever comes next waits
//! until it is paid for.
//!
//! Invariants:
//! * Q1: in any time t, what begins costs at most (t + burst) times the rate and one request more.
//! * Q2: turns are given in the order in which they are asked for; nobody is overtaken by who comes later.
//! * Q3: what costs nothing of a bucket never waits for it.
//! * Q4: without limits nothing is locked or written that others read.
#![forbid(unsafe_code)]

mod bucket;
mod limiter;

pub use limiter::{Cost, RateLimiter, RateLimits, Turn};
