//! The session of `docs/session.md`, run as it stands there: each `$` line in a shell, what it prints compared word for word. `[..]` stands
//! for what differs from one run to the next, such as times and identifiers.

use crate::cli_program::{Daemon, Place, end};
use snapbox::Assert;
use snapbox::prelude::IntoData;
use std::path::Path;
use std::process::{Command, Stdio};

/// A line that was typed, and what came of it.
struct Step {
    typed: String,
    said: String,
}

fn steps(document: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_console = false;
    for line in document.lines() {
        match line.strip_prefix("$ ") {
            _ if line.starts_with("```") => is_console = line == "```console",
            _ if !is_console => {}
            Some(typed) => steps.push(Step { typed: typed.to_owned(), said: String::new() }),
            None => {
                let step = steps.last_mut().expect("something was typed first");
                step.said.push_str(line);
                step.said.push('\n');
            }
        }
    }
    steps
}

fn shell(place: &Place, line: &str) -> Command {
    let mut command = Command::new("sh");
    let program = Path::new(env!("CARGO_BIN_EXE_offshoot")).parent().expect("a directory");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("a path"));
    let words = place.command::<&str>(&[]);
    for (name, value) in words.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["-c", line]).env("PATH", path).env_remove("OFFSHOOT_POOL");
    command.current_dir(words.get_current_dir().expect("a directory"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn the_session_in_the_documents_works_word_for_word() {
    let place = Place::in_memory();
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/session.md")).expect("readable");
    let steps = steps(&document);
    assert!(steps.len() > 20, "{}", steps.len());
    // A backslash at the end of a line is what it is.
    let compare = Assert::new().normalize_paths(false);
    let mut daemon = None;
    for Step { typed, said } in steps {
        println!("$ {typed}");
        let heard = match typed.strip_suffix(" &") {
            Some(serve) => {
                let mut command = shell(&place, &format!("exec {serve}"));
                let started = Daemon::start(&mut command);
                let ready = started.ready.clone();
                daemon = Some(started);
                ready
            }
            None => end(shell(&place, &format!("{{ {typed}; }} 2>&1")).spawn().expect("a shell")).out,
        };
        compare.eq(heard, said.into_data());
    }
    assert_eq!(daemon.expect("it is served").stop().code, Some(0));
}
