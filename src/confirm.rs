//! Asks before something is destroyed: what it hits is shown first, and a script has to say `--yes`.

use crate::failure::{Code, Failure};
use crate::output::say;
use std::io::{self, BufRead, IsTerminal};

/// `damage` says what goes; `word` is what has to be typed.
pub(crate) fn confirm(yes: bool, damage: &str, word: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let why = format!("{damage}, and there is no terminal to ask on");
        return Err(Failure::new(
            Code::NeedsConfirmation,
            "nothing was changed",
            why,
            "the same command with --yes",
        ));
    }
    say(damage);
    say(&format!("type {word} to go on:"));
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    match read {
        Ok(_) if line.trim() == word => Ok(()),
        _ => Err(Failure::new(
            Code::NeedsConfirmation,
            "nothing was changed",
            format!("{word} was not typed"),
            "the same command again",
        )),
    }
}
