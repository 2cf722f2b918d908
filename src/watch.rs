//! `--watch`: shows the same again and again, until it is interrupted.

use crate::failure::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::output::print;
use rustix::event::{Timespec, poll};
use std::io::{self, IsTerminal};
use std::process::ExitCode;

/// How often it is looked whether the operator interrupts.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
const LOOKS_A_SECOND: u64 = 10;
/// Cursor to the top left, and nothing below it (ECMA-48: CUP, ED).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

pub(crate) fn refuse_changes() -> Failure {
    let why = "--watch is for commands that only look";
    Failure::new(Code::Usage, "nothing was done", why, "the same command without --watch")
}

pub(crate) fn run(seconds: u64, look: impl Fn() -> Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    let interrupt = Interrupt::watch()?;
    let is_terminal = io::stdout().is_terminal();
    loop {
        if is_terminal {
            print(CLEAR)?;
        }
        let code = look()?;
        for _ in 0..seconds.saturating_mul(LOOKS_A_SECOND) {
            if interrupt.is_raised() {
                return Ok(code);
            }
            // A signal ends the pause, which is all that is wanted of it.
            let _signalled = poll(&mut [], Some(&LOOK));
        }
        if interrupt.is_raised() {
            return Ok(code);
        }
    }
}
