//! Names in bulk: `'desk-{01..25}'` and `'{lab,office}-pc'`, expanded by the tool itself so that they work in every
//! shell, from scripts and quoted.
//!
//! A range counts up or down; zeros in front of either end set the width of all. Several braces multiply. Braces do
//! not nest.

/// Most names one pattern may stand for.
pub(crate) const NAMES_MAX: usize = 10_000;

/// Why a pattern cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BraceError {
    #[error("a '{{' or '}}' has no partner, or braces are nested")]
    Unbalanced,
    #[error("{{{0}}} is neither a list such as {{a,b}} nor a range such as {{01..25}}")]
    NeitherListNorRange(String),
    #[error("it stands for more than {NAMES_MAX} names")]
    TooMany,
}

/// All names a pattern stands for, in order.
pub(crate) fn expand(pattern: &str) -> Result<Vec<String>, BraceError> {
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some(open) = rest.find(['{', '}']) {
        let (before, after) = (&rest[..open], &rest[open + 1..]);
        let close = after.find(['{', '}']).ok_or(BraceError::Unbalanced)?;
        if rest[open..].starts_with('}') || after[close..].starts_with('{') {
            return Err(BraceError::Unbalanced);
        }
        let choices = choices(&after[..close])?;
        if names.len().saturating_mul(choices.len()) > NAMES_MAX {
            return Err(BraceError::TooMany);
        }
        names = names
            .iter()
            .flat_map(|name| choices.iter().map(move |choice| format!("{name}{before}{choice}")))
            .collect();
        rest = &after[close + 1..];
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(names)
}

fn choices(inside: &str) -> Result<Vec<String>, BraceError> {
    let neither = || BraceError::NeitherListNorRange(inside.to_owned());
    if inside.contains(',') {
        return Ok(inside.split(',').map(str::to_owned).collect());
    }
    let (first, last) = inside.split_once("..").ok_or_else(neither)?;
    range(first, last).ok_or_else(neither)?
}

/// `None` when the ends are not numbers.
fn range(first: &str, last: &str) -> Option<Result<Vec<String>, BraceError>> {
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return None;
    }
    let padded = [first, last].iter().any(|end| end.len() > 1 && end.starts_with('0'));
    let width = if padded { first.len().max(last.len()) } else { 0 };
    let (Ok(from), Ok(to)) = (first.parse::<u64>(), last.parse::<u64>()) else {
        return Some(Err(BraceError::TooMany));
    };
    if usize::try_from(from.abs_diff(to)).map_or(true, |steps| steps >= NAMES_MAX) {
        return Some(Err(BraceError::TooMany));
    }
    let mut numbers: Vec<u64> = (from.min(to)..=from.max(to)).collect();
    if from > to {
        numbers.reverse();
    }
    Some(Ok(numbers.iter().map(|number| format!("{number:0width$}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::{BraceError, NAMES_MAX, expand};

    #[test]
    fn ranges_keep_their_zeros_and_count_both_ways() {
        let names = expand("desk-{01..25}").expect("legal");
        assert_eq!(names.len(), 25);
        assert_eq!((names[0].as_str(), names[24].as_str()), ("desk-01", "desk-25"));
        assert_eq!(expand("{8..10}").expect("legal"), ["8", "9", "10"]);
        assert_eq!(expand("a{3..1}b").expect("legal"), ["a3b", "a2b", "a1b"]);
        assert_eq!(expand("{0..1}").expect("legal"), ["0", "1"]);
        assert_eq!(expand("{1..003}").expect("legal"), ["001", "002", "003"]);
    }

    #[test]
    fn lists_and_several_braces_multiply() {
        let names = expand("{lab,office}-{1..2}@v").expect("legal");
        assert_eq!(names, ["lab-1@v", "lab-2@v", "office-1@v", "office-2@v"]);
        assert_eq!(expand("plain").expect("legal"), ["plain"]);
        assert_eq!(expand("").expect("legal"), [""]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["a{1..2", "a}b", "a{1..{2,3}}", "{", "}", "{{1..2}}"] {
            assert_eq!(expand(text), Err(BraceError::Unbalanced), "{text}");
        }
        for text in ["{}", "{a}", "{a..c}", "{1..}", "{..}", "{-1..2}", "{1..9..2}"] {
            assert!(matches!(expand(text), Err(BraceError::NeitherListNorRange(_))), "{text}");
        }
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        assert_eq!(expand(&format!("{{1..{NAMES_MAX}}}")).expect("at the bound").len(), NAMES_MAX);
        for text in
            ["{0..10000}", "{1..101}{1..100}", "{1..99999999999999999999999}", "{0..18446744073709551615}"]
        {
            assert_eq!(expand(text), Err(BraceError::TooMany), "{text}");
        }
    }
}
