//! Sizes as people write and read them.
//!
//! Both unit families are understood: `10G` and `10GiB` are 10 x 2^30 bytes, `10GB` is 10 x 10^9. Shown are IEC
//! units only. A fraction is fine where it comes out at whole bytes.

use std::fmt;
use std::str::FromStr;

/// Sizes of pools and volumes are multiples of this many bytes.
pub(crate) const GRAIN_BYTES: u64 = 4096;
/// The largest size a file offset can address, rounded down to whole blocks.
pub(crate) const SIZE_MAX: u64 = (1 << 63) - GRAIN_BYTES;
/// More digits than any size needs.
const FRACTION_DIGITS_MAX: usize = 9;

/// The size of a pool or a volume in bytes: not zero, whole blocks, not above [`SIZE_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    #[error("it is empty")]
    Empty,
    #[error("a size cannot be negative")]
    Negative,
    #[error("a size is a number and a unit, such as 10G, 512MiB or 4096")]
    NotANumber,
    #[error("{0:?} is no unit; K, M, G, T, P and E are, also as KiB (1024) or KB (1000)")]
    Unit(String),
    #[error("it does not come out at whole bytes")]
    Fraction,
    #[error("it must be at least {GRAIN_BYTES} bytes")]
    Zero,
    #[error("it is {0} bytes, which is no multiple of {GRAIN_BYTES}; the next one is {1}")]
    NotWholeBlocks(u64, u64),
    #[error("it is larger than {SIZE_MAX} bytes, the most a file can have")]
    TooLarge,
}

impl Size {
    pub(crate) fn bytes(self) -> u64 {
        self.0
    }

    /// Checks a number of bytes.
    pub(crate) fn from_bytes(bytes: u64) -> Result<Self, SizeError> {
        if bytes == 0 {
            return Err(SizeError::Zero);
        }
        if bytes > SIZE_MAX {
            return Err(SizeError::TooLarge);
        }
        if !bytes.is_multiple_of(GRAIN_BYTES) {
            return Err(SizeError::NotWholeBlocks(bytes, bytes.next_multiple_of(GRAIN_BYTES)));
        }
        Ok(Self(bytes))
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        Self::from_bytes(parse_bytes(text.trim())?)
    }
}

/// Any number of bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    if text.is_empty() {
        return Err(SizeError::Empty);
    }
    if text.starts_with('-') {
        return Err(SizeError::Negative);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || fraction.len() > FRACTION_DIGITS_MAX {
        return Err(SizeError::NotANumber);
    }
    let unit = unit_bytes(unit.trim())?;
    let whole = whole.parse::<u128>().map_err(|_| SizeError::TooLarge)?;
    let whole = whole.checked_mul(unit).ok_or(SizeError::TooLarge)?;
    let bytes = whole.checked_add(fraction_bytes(fraction, unit)?).ok_or(SizeError::TooLarge)?;
    u64::try_from(bytes).map_err(|_| SizeError::TooLarge)
}

fn fraction_bytes(fraction: &str, unit: u128) -> Result<u128, SizeError> {
    if fraction.is_empty() {
        return Ok(0);
    }
    let digits = fraction.parse::<u128>().map_err(|_| SizeError::NotANumber)?;
    let scale = fraction.chars().fold(1_u128, |scale, _| scale * 10);
    if (digits * unit).is_multiple_of(scale) { Ok(digits * unit / scale) } else { Err(SizeError::Fraction) }
}

fn unit_bytes(unit: &str) -> Result<u128, SizeError> {
    let wrong = || SizeError::Unit(unit.to_owned());
    let lower = unit.to_ascii_lowercase();
    if lower.is_empty() || lower == "b" {
        return Ok(1);
    }
    let mut letters = lower.chars();
    let power = letters.next().and_then(|letter| "kmgtpe".find(letter)).ok_or_else(wrong)?;
    let base: u128 = match letters.as_str() {
        "" | "i" | "ib" => 1024,
        "b" => 1000,
        _ => return Err(wrong()),
    };
    Ok((0..=power).fold(1, |bytes, _| bytes * base))
}

/// A number of bytes as people read it: `1.9 GiB`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Iec(pub(crate) u64);

impl fmt::Display for Iec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut scale: u128 = 1;
        let mut unit = 0;
        while u128::from(self.0) >= scale * 1024 && unit + 1 < units.len() {
            scale *= 1024;
            unit += 1;
        }
        let tenths = (u128::from(self.0) * 10 + scale / 2) / scale;
        let text = match tenths % 10 {
            0 => format!("{} {}", tenths / 10, units[unit]),
            tenth => format!("{}.{tenth} {}", tenths / 10, units[unit]),
        };
        out.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Iec, SIZE_MAX, Size, SizeError};

    fn parse(text: &str) -> Result<u64, SizeError> {
        text.parse::<Size>().map(Size::bytes)
    }

    #[test]
    fn both_unit_families_are_understood() {
        let cases = [
            ("4096", 4096),
            ("4096B", 4096),
            ("8k", 8192),
            ("10G", 10 << 30),
            ("10GiB", 10 << 30),
            ("10gib", 10 << 30),
            ("1.5G", 3 << 29),
            ("0.5 TiB", 1 << 39),
            ("4.096kB", 4096),
            ("512 MiB", 1 << 29),
            ("4E", 4 << 60),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_its_reason() {
        assert_eq!(parse(""), Err(SizeError::Empty));
        assert_eq!(parse("0"), Err(SizeError::Zero));
        assert_eq!(parse("0G"), Err(SizeError::Zero));
        assert_eq!(parse("-5G"), Err(SizeError::Negative));
        assert_eq!(parse("1"), Err(SizeError::NotWholeBlocks(1, 4096)));
        assert_eq!(parse("5000"), Err(SizeError::NotWholeBlocks(5000, 8192)));
        assert_eq!(parse("10GB"), Err(SizeError::NotWholeBlocks(10_000_000_000, 10_000_003_072)));
        assert_eq!(parse("0.0001K"), Err(SizeError::Fraction));
        assert_eq!(parse("ten"), Err(SizeError::NotANumber));
        assert_eq!(parse("1.2.3G"), Err(SizeError::NotANumber));
        assert_eq!(parse("10X"), Err(SizeError::Unit("X".to_owned())));
        assert_eq!(parse("10GiBs"), Err(SizeError::Unit("GiBs".to_owned())));
        assert_eq!(parse("8E"), Err(SizeError::TooLarge));
        assert_eq!(parse("99999999999999999999999999999999999999999999"), Err(SizeError::TooLarge));
        assert_eq!(parse("9999999999999999999T"), Err(SizeError::TooLarge));
    }

    #[test]
    fn the_largest_size_is_accepted_and_shown() {
        assert_eq!(parse(&SIZE_MAX.to_string()), Ok(SIZE_MAX));
        assert_eq!(Iec(u64::MAX).to_string(), "16 EiB");
    }

    #[test]
    fn people_read_at_most_one_decimal() {
        assert_eq!(Iec(0).to_string(), "0 B");
        assert_eq!(Iec(1023).to_string(), "1023 B");
        assert_eq!(Iec(4096).to_string(), "4 KiB");
        assert_eq!(Iec(1536).to_string(), "1.5 KiB");
        assert_eq!(Iec(10 << 30).to_string(), "10 GiB");
        assert_eq!(Iec(351_000_000).to_string(), "334.7 MiB");
    }
}
