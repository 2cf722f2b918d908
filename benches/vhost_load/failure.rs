//! Why a load ends before its time.

use super::contents::{Stamp, checksum};
use super::state::Record;
use std::io;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("block {block}: expected {expected}, found {found}")]
    Mismatch { block: u64, expected: String, found: String },
    #[error("{what} failed with {answer}")]
    Refused { what: String, answer: i32 },
    #[error("the back end does not answer any more")]
    Silent,
    #[error("the back end is gone, and not back after {seconds} s: {why}")]
    Gone { seconds: u64, why: io::Error },
    #[error("{0}")]
    Unfit(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Failure {
    /// What was found is neither `acknowledged` nor what the record has in flight.
    pub(crate) fn mismatch(acknowledged: Stamp, record: Record, found: &[u8]) -> Self {
        let mut expected = format!("generation {}", acknowledged.generation.0);
        if let Some(other) = record.in_flight {
            expected += &format!(", or {} which was in flight", other.0);
        }
        Self::Mismatch { block: acknowledged.block, expected, found: described(acknowledged, record, found) }
    }
}

fn described(acknowledged: Stamp, record: Record, found: &[u8]) -> String {
    let claimed = Stamp::claimed_by(found, acknowledged.seed);
    if claimed.is_in(found) {
        return format!("generation {} of block {}", claimed.generation.0, claimed.block);
    }
    if record.first == Some(checksum(found)) {
        return "what was there first".to_owned();
    }
    match claimed.first_difference(found) {
        Some(at) if claimed.block == acknowledged.block => {
            format!("generation {}, but not from byte {at} on", claimed.generation.0)
        }
        _ => "nothing that was written".to_owned(),
    }
}
