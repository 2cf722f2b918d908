//! Names as they are typed on a command line: many, with braces, each once; and patterns of what is there.

use crate::brace::{self, NAMES_MAX};
use crate::failure::{Code, Failure};
use crate::handler::parse_name;
use crate::wire::EntryView;
use std::collections::BTreeSet;

/// All names the patterns stand for, in order. `what` is the first line of the failure.
pub(super) fn expand(patterns: &[String], what: &str) -> Result<Vec<String>, Failure> {
    let names = expand_braces(patterns, what)?;
    for name in &names {
        parse_name(name, what)?;
    }
    Ok(names)
}

/// The same, where a '*' stands for any characters of names that exist.
pub(super) fn select(patterns: &[String], entries: &[EntryView], what: &str) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for pattern in expand_braces(patterns, what)? {
        if !pattern.contains('*') {
            parse_name(&pattern, what)?;
            names.push(pattern);
            continue;
        }
        let before = names.len();
        let hits = entries.iter().filter(|entry| matches(&pattern, &entry.name));
        names.extend(hits.map(|entry| entry.name.clone()));
        if names.len() == before {
            let why = format!("nothing here is called as {pattern}");
            return Err(Failure::new(Code::NotFound, what, why, "offshoot ls"));
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

/// Whether a '*' in the pattern can stand for what else the name has. It stands for no '@': volumes are not meant with
/// their snapshots.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(tail) = name.strip_prefix(start) else { return false };
    let ends = tail.char_indices().map(|(place, _)| place).chain([tail.len()]);
    let mut ends = ends.take_while(|&place| !tail[..place].contains('@'));
    ends.any(|place| matches(rest, &tail[place..]))
}

fn expand_braces(patterns: &[String], what: &str) -> Result<Vec<String>, Failure> {
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

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything_but_an_at() {
        for (pattern, name, hits) in [
            ("desk-*", "desk-01", true),
            ("desk-*", "desk-", true),
            ("desk-*", "desk-01@before", false),
            ("desk-*@*", "desk-01@before", true),
            ("*", "a", true),
            ("*-*1", "desk-11", true),
            ("*b", "abab", true),
            ("*c", "abab", false),
            ("a*", "\u{e4}", false),
        ] {
            assert_eq!(matches(pattern, name), hits, "{pattern} {name}");
        }
    }
}
