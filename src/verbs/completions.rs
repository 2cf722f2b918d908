//! `offshoot completions SHELL` and `offshoot man DIRECTORY`: made from the commands themselves.

use crate::arguments::{Arguments, Shell};
use crate::failure::{Code, Failure};
use crate::output::{print, say};
use clap::CommandFactory;
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};
use std::path::Path;

/// The variable that a shell sets when it asks for candidates.
pub(crate) const VARIABLE: &str = "COMPLETE";

pub(super) fn script(shell: Shell) -> Result<(), Failure> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
        Shell::Elvish => &Elvish,
        Shell::Powershell => &Powershell,
    };
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "offshoot", "offshoot", "offshoot", &mut script).map_err(
        |error| Failure::new(Code::Failed, "no script was written", error.to_string(), "another shell"),
    )?;
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn manual(directory: &Path) -> Result<(), Failure> {
    let refused = |error: std::io::Error| {
        let why = format!("{}: {error}", directory.display());
        Failure::new(
            Code::Failed,
            "not all manual pages were written",
            why,
            "a directory that can be written",
        )
    };
    std::fs::create_dir_all(directory).map_err(refused)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(refused)?;
    say(&format!("manual pages are in {}; next: man -l {0}/offshoot.1", directory.display()));
    Ok(())
}
