//! What can go wrong with a pool, in sentences for operators.

use crate::catalog::apply::Misfit;
use crate::codec::CodecError;
use crate::groups::{LoadError, Misuse, TableError};
use crate::journal::{FrameDamage, JournalDamage};
use crate::label::LabelError;
use crate::members::MemberError;
use crate::superblock::SuperblockError;
use blockstore::{DeviceError, IoError};
use std::io;

/// The crate's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the device failed while {doing}")]
    Io { doing: &'static str, source: IoError },
    #[error("the device cannot be used")]
    Device(#[from] DeviceError),
    #[error("no event descriptor could be made")]
    Descriptor(#[from] io::Error),
    #[error("{0} does not exist")]
    NotFound(String),
    #[error("{0} exists already")]
    Exists(String),
    #[error("{name} is in use: {why}")]
    Busy { name: String, why: String },
    #[error("{0}")]
    Invalid(String),
    #[error("the pool has no free space for it")]
    OutOfSpace,
    #[error("too much is staged at this moment; try again")]
    TailFull,
    #[error(
        "the pool is read-only because a flush of its device failed; open it again to go on from what is durable"
    )]
    Poisoned,
    #[error("it was cancelled")]
    Cancelled,
    #[error("the pool is open read-only")]
    ReadOnly,
    #[error("the pool is closing")]
    Closing,
    #[error("writes in flight did not end in time; nothing was changed")]
    DrainTimeout,
    #[error("the pool is damaged: {0}")]
    Damage(String),
    #[error("the device is not empty: {0}")]
    NotEmpty(String),
    #[error(transparent)]
    Label(#[from] LabelError),
    #[error(transparent)]
    Superblock(#[from] SuperblockError),
    #[error(transparent)]
    Member(#[from] MemberError),
    #[error(
        "the pool was not closed and the writes acknowledged since are gone: its crash tail for this boot is missing"
    )]
    TailGone,
    #[error("the keeper's thread cannot be started")]
    Thread(#[source] io::Error),
    #[error("the keeper ended before it had answered")]
    KeeperGone,
}

impl Error {
    /// For `map_err` around device operations.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(IoError) -> Error {
        move |source| Error::Io { doing, source }
    }
}

/// What a structure of the pool says about another that does not agree with it.
macro_rules! damage {
    ($($source:ty),+) => {$(
        impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Error::Damage(error.to_string())
            }
        }
    )+};
}

damage!(CodecError, Misfit, TableError, LoadError, Misuse, JournalDamage, FrameDamage, cow_tree::Damage);
