//! Names as they are typed on a command line: many, with braces, each once.

use crate::brace::{self, NAMES_MAX};
use crate::failure::{Code, Failure};
use crate::handler::parse_name;
use std::collections::BTreeSet;

/// All names the patterns stand for, in order. `what` is the first line of the failure.
pub(super) fn expand(patterns: &[String], what: &str) -> Result<Vec<String>, Failure> {
    let usage =
        |why: String| Failure::new(Code::Usage, what, why, "names such as desk-01 or 'desk-{01..25}'");
    let mut names = Vec::new();
    for pattern in patterns {
        let shown: String = pattern.chars().take(60).collect();
        let some = brace::expand(pattern).map_err(|error| usage(format!("{shown:?}: {error}")))?;
        names.extend(some);
        if names.len() > NAMES_MAX {
            return Err(usage(brace::BraceError::TooMany.to_string()));
        }
    }
    let mut seen = BTreeSet::new();
    for name in &names {
        parse_name(name, what)?;
        if !seen.insert(name) {
            return Err(usage(format!("{name} is named twice")));
        }
    }
    Ok(names)
}

/// The names need a part behind '@', or must have none.
pub(super) fn require_point(names: &[String], wanted: Point, what: &str) -> Result<(), Failure> {
    let wrong = names.iter().find(|name| name.contains('@') != (wanted == Point::Required));
    match (wrong, wanted) {
        (None, _) => Ok(()),
        (Some(name), Point::Required) => {
            let why = format!("{name} names no snapshot");
            Err(Failure::new(Code::Usage, what, why, format!("{name}@before")))
        }
        (Some(name), Point::Forbidden) => {
            let why = format!("{name} is the name of a snapshot or a version, not of a volume");
            Err(Failure::new(Code::Usage, what, why, "a name without '@'"))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Required,
    Forbidden,
}
