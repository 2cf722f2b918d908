//! A load generator for vhost-user-blk back ends: one queue, a fixed depth.
//!
//! `vhost-load --socket PATH --rw read --depth 32 --seconds 5` measures one kind of load and prints one line of figures. It
//! polls; with `--event` it sleeps between completions, as a guest does. `--pid PID` adds what the back end's process has
//! used of the CPU for each request.
//!
//! `vhost-load --socket PATH --verify STATE --seconds 60` writes and reads at random and compares whatever it reads with
//! what it knows to have written. It outlives its back end, and STATE outlives it, so either may be killed at any time.

#[path = "vhost_load/mod.rs"]
mod vhost_load;

fn main() -> std::process::ExitCode {
    vhost_load::run(std::env::args_os()).into()
}
