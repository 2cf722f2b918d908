//! What becomes of a write that finds a pool full. Kept with the pool, as `hold=60s` or `error`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The pool's property that has it.
pub(crate) const PROPERTY: &str = "offshoot.on-full";

/// Nobody waits for a day.
const SECONDS_MAX: u32 = 24 * 3600;

/// As people write it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum OnFull {
    /// It fails at once.
    #[default]
    Error,
    /// It waits for space, so many seconds at most; then it fails.
    Hold(u32),
}

impl OnFull {
    /// That of the pool with these properties. A pool may come from anybody: what makes no sense does not count.
    pub(crate) fn of(properties: &BTreeMap<String, String>) -> Self {
        properties.get(PROPERTY).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// Longest time a write waits.
    pub(crate) fn longest(self) -> Duration {
        match self {
            Self::Error => Duration::ZERO,
            Self::Hold(seconds) => Duration::from_secs(u64::from(seconds)),
        }
    }

    /// For people.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Error => "a write that finds the pool full fails at once".to_owned(),
            Self::Hold(seconds) => format!("a write that finds the pool full waits {seconds} s for space"),
        }
    }
}

impl FromStr for OnFull {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "error" {
            return Ok(Self::Error);
        }
        let told = text.strip_prefix("hold=").and_then(|time| {
            let (number, unit) = time.split_at(time.find(|digit: char| !digit.is_ascii_digit())?);
            let factor = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            };
            number.parse::<u32>().ok()?.checked_mul(factor)
        });
        match told {
            Some(seconds @ 1..=SECONDS_MAX) => Ok(Self::Hold(seconds)),
            _ => Err("it is hold= with a time from 1s to 24h, such as hold=60s, or error".to_owned()),
        }
    }
}

impl fmt::Display for OnFull {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => out.write_str("error"),
            Self::Hold(seconds) => write!(out, "hold={seconds}s"),
        }
    }
}

impl TryFrom<String> for OnFull {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<OnFull> for String {
    fn from(on_full: OnFull) -> Self {
        on_full.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{OnFull, PROPERTY};
    use std::collections::BTreeMap;

    #[test]
    fn what_is_written_is_what_is_meant() {
        let meant = [("error", OnFull::Error), ("hold=60s", OnFull::Hold(60)), ("hold=1s", OnFull::Hold(1))];
        for (text, on_full) in meant {
            assert_eq!(text.parse(), Ok(on_full));
            assert_eq!(on_full.to_string(), text);
            assert_eq!(OnFull::of(&BTreeMap::from([(PROPERTY.to_owned(), text.to_owned())])), on_full);
        }
        assert_eq!("hold=5m".parse(), Ok(OnFull::Hold(300)));
        assert_eq!("hold=24h".parse(), Ok(OnFull::Hold(86400)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_does_not_count() {
        for text in [
            "",
            "hold",
            "hold=",
            "hold=60",
            "hold=0s",
            "hold=25h",
            "hold=-1s",
            "hold=1.5s",
            "hold=é",
            "Error",
        ] {
            assert!(text.parse::<OnFull>().is_err(), "{text}");
            let noted = BTreeMap::from([(PROPERTY.to_owned(), text.to_owned())]);
            assert_eq!(OnFull::of(&noted), OnFull::Error, "{text}");
        }
        assert!("hold=99999999999h".parse::<OnFull>().is_err());
    }
}
