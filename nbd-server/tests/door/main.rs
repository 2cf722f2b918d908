//! The NBD door on a real pool: real sockets, a real engine, a client written from the protocol's document.

#[path = "../served/mod.rs"]
mod served;

mod closing;
mod export;
mod extended;
mod limits;
mod negotiation;
mod power_cut;
mod sharing;
mod space;
mod tls;
