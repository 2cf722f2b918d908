//! Limits of speed as people write them.

use crate::size::{SizeError, parse_bytes};
use rate_limit::RateLimits;
use std::num::NonZeroU64;
use std::str::FromStr;

/// Bytes in a second, written as a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bandwidth(pub(crate) NonZeroU64);

/// `NAME=iops:COUNT,bps:SIZE`: the limits of an export; one of the two may be missing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct NamedLimits {
    pub(crate) name: String,
    pub(crate) limits: RateLimits,
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpeedError {
    #[error("it lacks the '=' between a name and its limits")]
    NoName,
    #[error("{0:?} is no name: {1}")]
    Name(String, String),
    #[error("{0:?} is no limit; iops:COUNT and bps:SIZE are")]
    Kind(String),
    #[error("{0:?} is no number of requests")]
    Count(String),
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error("with a limit of nothing, nothing would ever be done")]
    Nothing,
    #[error("a limit of one kind is there twice")]
    Twice,
}

impl FromStr for Bandwidth {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        NonZeroU64::new(parse_bytes(text.trim())?).map(Self).ok_or(SpeedError::Nothing)
    }
}

impl TryFrom<String> for NamedLimits {
    type Error = SpeedError;

    fn try_from(text: String) -> Result<Self, SpeedError> {
        text.parse()
    }
}

impl FromStr for NamedLimits {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        let (name, list) = text.split_once('=').ok_or(SpeedError::NoName)?;
        name.parse::<thinpool::Name>()
            .map_err(|error| SpeedError::Name(name.to_owned(), error.to_string()))?;
        let mut limits = RateLimits::NONE;
        for item in list.split(',') {
            let replaced = match item.split_once(':') {
                Some(("iops", count)) => limits.iops.replace(requests(count)?),
                Some(("bps", size)) => limits.bytes_per_second.replace(size.parse::<Bandwidth>()?.0),
                _ => return Err(SpeedError::Kind(item.to_owned())),
            };
            if replaced.is_some() {
                return Err(SpeedError::Twice);
            }
        }
        Ok(Self { name: name.to_owned(), limits })
    }
}

fn requests(text: &str) -> Result<NonZeroU64, SpeedError> {
    let count = text.parse().map_err(|_| SpeedError::Count(text.to_owned()))?;
    NonZeroU64::new(count).ok_or(SpeedError::Nothing)
}

#[cfg(test)]
mod tests {
    use super::{Bandwidth, NamedLimits, SpeedError};
    use rate_limit::RateLimits;
    use std::num::NonZeroU64;

    #[test]
    fn limits_are_written_in_any_order_and_one_is_enough() {
        let limits = |iops, bytes| RateLimits {
            iops: NonZeroU64::new(iops),
            bytes_per_second: NonZeroU64::new(bytes),
            ..RateLimits::NONE
        };
        for (text, name, expected) in [
            ("desk-1=iops:500,bps:20M", "desk-1", limits(500, 20 << 20)),
            ("golden@v1=bps:1.5kB,iops:1", "golden@v1", limits(1, 1500)),
            ("desk-1=bps:10MB", "desk-1", limits(0, 10_000_000)),
        ] {
            let found = text.parse();
            assert_eq!(found, Ok(NamedLimits { name: name.to_owned(), limits: expected }), "{text}");
        }
        assert_eq!("1M".parse(), Ok(Bandwidth(NonZeroU64::new(1 << 20).expect("some"))));
    }

    #[test]
    fn what_is_no_limit_is_refused_with_its_reason() {
        let refused = |text: &str| text.parse::<NamedLimits>().expect_err("it is none");
        assert_eq!(refused("iops:5"), SpeedError::NoName);
        assert!(matches!(refused("=iops:5"), SpeedError::Name(..)));
        assert_eq!(refused("desk="), SpeedError::Kind(String::new()));
        assert_eq!(refused("desk=5"), SpeedError::Kind("5".to_owned()));
        assert_eq!(refused("desk=iops:-5"), SpeedError::Count("-5".to_owned()));
        assert!(matches!(refused("desk=bps:fast"), SpeedError::Size(_)));
        assert_eq!(refused("desk=iops:0"), SpeedError::Nothing);
        assert_eq!(refused("desk=bps:0"), SpeedError::Nothing);
        assert_eq!(refused("desk=iops:5,iops:6"), SpeedError::Twice);
    }
}
