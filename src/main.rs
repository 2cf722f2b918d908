//! `offshoot`: pools, golden images and linked clones, from the command line.
//!
//! What it is: the only composition root. It lowers what was typed into what the engine needs, opens pools, serves
//! them, and prints what came of it. What it is not: it decides nothing about storage.
//!
//! ```text
//!   arguments --> verbs --> pool_choice --> reach --+--> daemon::Client ==(HTTP)==> daemon::ControlServer --+
//!                                                   |                                                       v
//!                                                   +--> local_pool -----------------------------> handler, plan --> thinpool::Pool
//!                           serve --> hosting (local_pool, doors, nbd_server::Server) + ControlServer
//! ```
//! Invariants:
//! * O1 A command does the same and says the same whether a daemon holds the pool or nobody does: one handler.
//! * O2 A command does all of what it says, or nothing and says so; where it did a part, its exit code is 8.
//! * O3 Standard output is data only; every failure is three lines on standard error and one exit code.
//! * O4 A pool is opened once: the lock on its file decides, not the control socket.
//! * O5 Every change is in the history, with who asked for it and what came of it.
//! * O6 With `--dry-run` nothing is changed, and what is said is what the change itself would meet.
#![forbid(unsafe_code)]

mod alert;
mod arguments;
mod brace;
mod calls;
mod clock;
mod complete;
mod config;
mod confirm;
mod contained;
mod crash_tail;
mod daemon;
mod doors;
mod explain;
mod failure;
mod handler;
mod history;
mod hosting;
mod image_export;
mod image_format;
mod import;
mod interrupt;
mod labels;
mod list;
mod local_pool;
mod nbd_client;
mod output;
mod plan;
mod pool_choice;
mod pool_devices;
mod pool_file;
mod progress;
mod qemu;
mod random;
mod reach;
mod reason;
mod registry;
mod rendezvous;
mod run_directory;
mod seed;
mod service_manager;
mod size;
mod speed;
mod spin;
mod state_directory;
mod usage;
mod users;
mod verbs;
mod watch;
mod wire;

use arguments::Arguments;
use clap::{CommandFactory, Parser};
use clap_complete::CompleteEnv;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = contained::enter() {
        return code;
    }
    // A shell that asks what could be typed next is answered, and that is all.
    CompleteEnv::with_factory(Arguments::command).var(verbs::COMPLETE).complete();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return mistyped(&error),
    };
    let result = match arguments.view.watch {
        None => verbs::run(arguments),
        Some(_) if !arguments.verb.is_look() => Err(watch::refuse_changes()),
        // What is typed does not change, and can be read as often as it is needed.
        Some(seconds) => watch::run(seconds, || verbs::run(Arguments::parse())),
    };
    match result {
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
