//! A mistyped command in the same three lines as every other failure.

use crate::failure::{Code, Failure};
use clap::error::{ContextKind, ErrorKind};
use std::error::Error as _;

/// `None` for `--help` and `--version`, which are no failures.
pub(crate) fn failure(error: &clap::Error) -> Option<Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        _ => Some(Failure::new(Code::Usage, "nothing was done", reason(error), next(error))),
    }
}

fn reason(error: &clap::Error) -> String {
    let context = |kind| error.get(kind).map(ToString::to_string);
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing".to_owned();
    }
    let argument = context(ContextKind::InvalidArg);
    let value = context(ContextKind::InvalidValue).filter(|value| !value.is_empty());
    if let (ErrorKind::ValueValidation, Some(argument), Some(value)) = (error.kind(), argument, value)
        && let Some(source) = error.source()
    {
        return format!("{argument} is {value:?}: {source}");
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let words: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

fn next(error: &clap::Error) -> String {
    match error.get(ContextKind::SuggestedSubcommand).or_else(|| error.get(ContextKind::SuggestedArg)) {
        Some(suggestion) => format!("{suggestion}, or --help"),
        None => "the same command with --help".to_owned(),
    }
}
