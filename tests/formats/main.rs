//! Image files in and out of a pool, beside what qemu-img makes of them; and files that mean harm.

#![expect(clippy::disallowed_methods, reason = "the tests measure how long things take")]

#[path = "../cli_program/mod.rs"]
mod cli_program;
mod confinement;
mod disk;
mod exports;
mod hostile;
mod imports;
mod measured;
mod streams;
mod tables;
mod vhdx;

use cli_program::{Place, end, signal};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;

/// A tool that has to work; gives what it printed.
#[track_caller]
fn tool(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Starts a command, interrupts it when it has told of its progress, and sees it end as one that was.
#[track_caller]
fn cancel(place: &Place, arguments: &[&str]) {
    let mut child = place.command(arguments).spawn().expect("started");
    let mut err = BufReader::new(child.stderr.take().expect("piped"));
    let mut text = String::new();
    err.read_line(&mut text).expect("a line");
    signal(&child, Signal::INT);
    err.read_to_string(&mut text).expect("text");
    assert_eq!(end(child).code, Some(1), "{text}");
    assert!(text.contains("why: it was cancelled; nothing of it is left"), "{text}");
}
