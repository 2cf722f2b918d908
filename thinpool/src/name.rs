//! Names an operator types: `volume`, `volume@snapshot`, `image@version`.
//!
//! A name is checked once, here; everything behind it may trust that it is short, printable and free of path
//! tricks, so a name can become a socket path or a line of a log without further care.

use std::fmt;
use std::str::FromStr;

/// Longest part of a name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// `base` or `base@point`, where `point` is a snapshot of a volume or a version of an image.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    base: String,
    point: Option<String>,
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is {0} bytes long; the longest part may have {NAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("the name contains {0:?}; letters, digits, '.', '_', '-' and '+' are allowed")]
    Character(char),
    #[error("the name starts with {0:?}; it must start with a letter or a digit")]
    Start(char),
    #[error("the name contains more than one '@'")]
    Points,
}

impl Name {
    /// The volume or image a name belongs to, without its point in time.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The snapshot or version, when the name has one.
    pub fn point(&self) -> Option<&str> {
        self.point.as_deref()
    }

    /// `base@point`.
    pub fn at(&self, point: &str) -> Result<Self, NameError> {
        check_part(point)?;
        Ok(Self { base: self.base.clone(), point: Some(point.to_owned()) })
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut parts = text.split('@');
        let base = parts.next().unwrap_or_default();
        let point = parts.next();
        if parts.next().is_some() {
            return Err(NameError::Points);
        }
        check_part(base)?;
        if let Some(point) = point {
            check_part(point)?;
        }
        Ok(Self { base: base.to_owned(), point: point.map(str::to_owned) })
    }
}

fn check_part(part: &str) -> Result<(), NameError> {
    let first = part.chars().next().ok_or(NameError::Empty)?;
    if part.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(part.len()));
    }
    if !first.is_ascii_alphanumeric() {
        return Err(NameError::Start(first));
    }
    match part.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-+".contains(*c))) {
        Some(wrong) => Err(NameError::Character(wrong)),
        None => Ok(()),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.point {
            Some(point) => write!(out, "{}@{}", self.base, point),
            None => out.write_str(&self.base),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, NameError};

    #[test]
    fn a_name_reads_back_as_it_was_written() {
        for text in ["desk-07", "desk-07@before-update", "win11@v3", "a.b_c+d"] {
            assert_eq!(text.parse::<Name>().expect("legal").to_string(), text);
        }
    }

    #[test]
    fn path_tricks_control_characters_and_long_names_are_refused() {
        assert_eq!("".parse::<Name>(), Err(NameError::Empty));
        assert_eq!("../etc".parse::<Name>(), Err(NameError::Start('.')));
        assert_eq!("a/b".parse::<Name>(), Err(NameError::Character('/')));
        assert_eq!("a\u{7}b".parse::<Name>(), Err(NameError::Character('\u{7}')));
        assert_eq!("a\nb".parse::<Name>(), Err(NameError::Character('\n')));
        assert_eq!("ä".parse::<Name>(), Err(NameError::Start('ä')));
        assert_eq!("a@b@c".parse::<Name>(), Err(NameError::Points));
        assert_eq!("a@".parse::<Name>(), Err(NameError::Empty));
        assert_eq!("a".repeat(300).parse::<Name>(), Err(NameError::TooLong(300)));
    }
}
