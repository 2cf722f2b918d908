//! Labels: what operators note about their volumes, `key=value`. They are properties of the catalog with a prefix of their own.

use std::collections::BTreeMap;

const PREFIX: &str = "label.";
const KEY_BYTES_MAX: usize = 63;
const VALUE_BYTES_MAX: usize = 255;

pub(crate) fn property(key: &str) -> String {
    format!("{PREFIX}{key}")
}

pub(crate) fn of(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let label =
        |(key, value): (&String, &String)| Some((key.strip_prefix(PREFIX)?.to_owned(), value.clone()));
    properties.iter().filter_map(label).collect()
}

/// The properties that are no labels.
pub(crate) fn others(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let other = |(key, _): &(&String, &String)| !key.starts_with(PREFIX);
    properties.iter().filter(other).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Why a label cannot be set.
pub(crate) fn refusal(key: &str, value: Option<&str>) -> Option<String> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(is_fine) {
        return Some(format!(
            "{:?} is no key of a label: up to {KEY_BYTES_MAX} letters, digits, '.', '_', '-' and '/'",
            key.chars().take(40).collect::<String>()
        ));
    }
    let value = value?;
    let is_long = value.len() > VALUE_BYTES_MAX;
    (is_long || value.chars().any(char::is_control)).then(|| {
        format!("the value of {key} is longer than {VALUE_BYTES_MAX} bytes, or has control characters")
    })
}

/// What `-l` selects: all of `key=value`, `key!=value`, `key` (any value) and `!key` (none), with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    Has(String),
    HasNot(String),
}

impl Selector {
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| match term {
            Term::Is(key, value) => labels.get(key) == Some(value),
            Term::IsNot(key, value) => labels.get(key) != Some(value),
            Term::Has(key) => labels.contains_key(key),
            Term::HasNot(key) => !labels.contains_key(key),
        })
    }
}

impl std::str::FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let term = |text: &str| {
            let (key, term) = if let Some((key, value)) = text.split_once("!=") {
                (key, Term::IsNot(key.to_owned(), value.to_owned()))
            } else if let Some((key, value)) = text.split_once('=') {
                (key, Term::Is(key.to_owned(), value.to_owned()))
            } else if let Some(key) = text.strip_prefix('!') {
                (key, Term::HasNot(key.to_owned()))
            } else {
                (text, Term::Has(text.to_owned()))
            };
            refusal(key, None).map_or(Ok(term), Err)
        };
        text.split(',').map(|part| term(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

/// `key=value` as it is typed; `key-` removes the label.
pub(crate) fn parse(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) => (key, Some(value)),
        (None, Some(key)) => (key, None),
        (None, None) => return Err("a label is key=value, or key- to remove it".to_owned()),
    };
    match refusal(key, value) {
        Some(why) => Err(why),
        None => Ok((key.to_owned(), value.map(str::to_owned))),
    }
}

/// `key=value` of something new.
pub(crate) fn parse_new(text: &str) -> Result<(String, String), String> {
    match parse(text)? {
        (key, Some(value)) => Ok((key, value)),
        (key, None) => Err(format!("what is new has no label {key} to remove")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Selector, of, others, parse, parse_new, property};
    use std::collections::BTreeMap;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_and_other_properties_are_told_apart() {
        let properties = map(&[("label.env", "lab"), ("offshoot.export", "x")]);
        assert_eq!((property("env").as_str(), of(&properties)), ("label.env", map(&[("env", "lab")])));
        assert_eq!(others(&properties), map(&[("offshoot.export", "x")]));
    }

    #[test]
    fn every_term_of_a_selector_has_to_hold() {
        let labels = map(&[("env", "lab"), ("os", "deb12")]);
        let cases = [
            ("env=lab", true),
            ("env=lab,os=deb12", true),
            ("env=lab,os=win11", false),
            ("env!=lab", false),
            ("owner!=me", true),
            ("env", true),
            ("!env", false),
            ("!owner", true),
        ];
        for (text, selects) in cases {
            assert_eq!(text.parse::<Selector>().expect("a selector").matches(&labels), selects, "{text}");
        }
        for text in ["", "=x", "a b", "env=lab,", "!"] {
            text.parse::<Selector>().expect_err(text);
        }
    }

    #[test]
    fn labels_are_typed_as_key_and_value() {
        assert_eq!(parse("env=a=b"), Ok(("env".to_owned(), Some("a=b".to_owned()))));
        assert_eq!(parse("env-"), Ok(("env".to_owned(), None)));
        for text in ["env", "=x", "a b=c", "a=\n", &format!("a={}", "x".repeat(256))] {
            parse(text).expect_err(text);
        }
        parse_new("env-").expect_err("nothing is there to remove");
    }
}
