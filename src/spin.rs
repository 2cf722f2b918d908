//! How long workers look for work before they sleep, as people write it: `400us`, `1ms`, `0`.

use std::str::FromStr;
use std::time::Duration;

/// Longer than any disk takes that is worth waiting for awake.
const MAX: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Spin(Duration);

impl FromStr for Spin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is no time from 0 to 10ms, such as 400us");
        let (digits, unit) = match text.find(|letter: char| !letter.is_ascii_digit()) {
            Some(end) => text.split_at(end),
            None => (text, ""),
        };
        let number: u64 = digits.parse().map_err(|_| refused())?;
        let time = match unit {
            "us" => Duration::from_micros(number),
            "ms" => Duration::from_millis(number),
            "" if number == 0 => Duration::ZERO,
            _ => return Err(refused()),
        };
        if time <= MAX { Ok(Self(time)) } else { Err(refused()) }
    }
}

impl TryFrom<String> for Spin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Spin> for Duration {
    fn from(spin: Spin) -> Self {
        spin.0
    }
}

#[cfg(test)]
mod tests {
    use super::Spin;
    use std::time::Duration;

    #[test]
    fn times_have_a_unit_and_an_end() {
        for (text, microseconds) in
            [("0", 0), ("0us", 0), ("50us", 50), ("400us", 400), ("1ms", 1000), ("10ms", 10_000)]
        {
            let spin: Result<Spin, _> = text.parse();
            assert_eq!(spin.map(Duration::from), Ok(Duration::from_micros(microseconds)), "{text}");
        }
        for text in
            ["", "us", "50", "-1us", "1.5ms", "11ms", "10001us", "1s", "50 us", "99999999999999999999us"]
        {
            assert!(text.parse::<Spin>().is_err_and(|why| why.contains("such as 400us")), "{text}");
        }
    }
}
