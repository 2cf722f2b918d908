//! `offshoot`: pools, golden images and linked clones, from the command line.
//!
//! What it is: the only composition root. It lowers what was typed into what the engine needs, opens pools, serves
//! them, and prints what came of it. What it is not: it decides nothing about storage.
//!
//! ```text
//!   arguments --> verbs --> reach --+--> daemon::Client ==(socket)==> daemon::ControlServer --+
//!                                   |                                                         v
//!                                   +--> local_pool ------------------------------------> handler --> thinpool::Pool
//!                           serve --> local_pool + ControlServer + nbd_server::Server
//! ```
//! Invariants:
//! * O1 A command does the same and says the same whether a daemon holds the pool or nobody does: one handler.
//! * O2 A command does all of what it says, or nothing and says so; where it did a part, its exit code is 8.
//! * O3 Standard output is data only; every failure is three lines on standard error and one exit code.
//! * O4 A pool is opened once: the lock on its file decides, not the control socket.
#![forbid(unsafe_code)]

mod alert;
mod arguments;
mod brace;
mod calls;
mod clock;
mod confirm;
mod contained;
mod crash_tail;
mod daemon;
mod doors;
mod explain;
mod failure;
mod handler;
mod image_export;
mod image_format;
mod import;
mod interrupt;
mod local_pool;
mod nbd_client;
mod output;
mod pool_file;
mod progress;
mod qemu;
mod reach;
mod rendezvous;
mod run_directory;
mod service_manager;
mod size;
mod usage;
mod verbs;
mod wire;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = contained::enter() {
        return code;
    }
    let arguments = match arguments::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return mistyped(&error),
    };
    match verbs::run(arguments) {
        Ok(code) => code,
        Err(failure) => report(&failure),
    }
}

fn mistyped(error: &clap::Error) -> ExitCode {
    match usage::failure(error) {
        Some(failure) => report(&failure),
        None => match output::print(&error.render().to_string()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => report(&failure),
        },
    }
}

fn report(failure: &failure::Failure) -> ExitCode {
    output::say(&failure.to_string());
    failure.code.into()
}
