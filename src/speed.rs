//! Limits of speed as people write them.

use crate::size::{Iec, SizeError, parse_bytes};
use rate_limit::RateLimits;
use std::num::NonZeroU64;
use std::str::FromStr;

/// Bytes in a second, written as a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bandwidth(pub(crate) NonZeroU64);

/// Requests in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requests(pub(crate) NonZeroU64);

/// So much, or `none`: without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

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

/// The limits of an export, for people.
pub(crate) fn words(iops: Option<NonZeroU64>, bytes: Option<NonZeroU64>) -> String {
    let requests = iops.map(|iops| format!("{iops} requests"));
    let bytes = bytes.map(|bytes| Iec(bytes.get()).to_string());
    match (requests, bytes) {
        (None, None) => "no limits of speed".to_owned(),
        (Some(requests), Some(bytes)) => format!("at most {requests} and {bytes} in a second"),
        (Some(one), None) | (None, Some(one)) => format!("at most {one} in a second"),
    }
}

impl FromStr for Requests {
    type Err = SpeedError;

    fn from_str(text: &str) -> Result<Self, SpeedError> {
        let count = text.parse().map_err(|_| SpeedError::Count(text.to_owned()))?;
        NonZeroU64::new(count).map(Self).ok_or(SpeedError::Nothing)
    }
}

impl<T: FromStr> FromStr for Limit<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(Some).map(Self) }
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
                Some(("iops", count)) => limits.iops.replace(count.parse::<Requests>()?.0),
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

#[cfg(test)]
mod tests {
    use super::{Bandwidth, Limit, NamedLimits, Requests, SpeedError};
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
        assert_eq!("none".parse(), Ok(Limit::<Requests>(None)));
        assert_eq!("7".parse(), Ok(Limit(Some(Requests(NonZeroU64::new(7).expect("some"))))));
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
