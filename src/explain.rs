//! The engine's errors in the operator's terms: an exit code, a reason, and the next command.

use crate::failure::{Code, Failure, sentence};
use blockstore::{DeviceError, IoError};
use thinpool::{Error, MemberError, RequestError};

/// `what` says what did not happen.
pub(crate) fn engine(what: impl Into<String>, error: &Error) -> Failure {
    let (code, next) = advice(error);
    Failure::new(code, what, sentence(error), next)
}

fn advice(error: &Error) -> (Code, &'static str) {
    match error {
        Error::NotFound(_) => (Code::NotFound, "offshoot ls"),
        Error::Exists(_) => (Code::Conflict, "offshoot ls, then another name"),
        Error::Busy { .. } => (Code::Conflict, "offshoot ls, then end what uses it and try again"),
        Error::Invalid(_) => (Code::Usage, "offshoot help"),
        Error::OutOfSpace => (Code::Capacity, "offshoot df, then offshoot pool grow or offshoot rm"),
        Error::TailFull | Error::DrainTimeout => (Code::Conflict, "the same command again"),
        Error::Cancelled => (Code::Failed, "the same command again"),
        Error::Closing => (Code::Unreachable, "the same command again"),
        Error::ReadOnly | Error::Poisoned => (Code::Failed, "offshoot pool status"),
        Error::TailGone => {
            (Code::NeedsConfirmation, "offshoot pool check --accept-lost-writes, which gives those writes up")
        }
        Error::Damage(_) => (Code::Failed, "offshoot pool check, and keep a copy of the pool"),
        Error::Member(error) => member_advice(error),
        Error::Device(error) => device_advice(error),
        Error::Io { source: IoError::OutOfSpace, .. } => {
            (Code::Capacity, "df on the pool's path, then room on that file system")
        }
        _ => (Code::Failed, "offshoot pool check"),
    }
}

fn member_advice(error: &MemberError) -> (Code, &'static str) {
    match error {
        MemberError::NotFirst { .. } => (Code::Usage, "--pool with the path of device 0 of that pool"),
        MemberError::Missing { .. } => (Code::NotFound, "--device with the path where it is now"),
        MemberError::Other { .. } | MemberError::TooMany { .. } => {
            (Code::Usage, "--device with paths of this pool's devices after the first, each once")
        }
        MemberError::TooShort { .. } => (Code::Failed, "the whole device, or a whole copy of it"),
        MemberError::Older { .. } | MemberError::FirstIsOlder { .. } => {
            (Code::Failed, "the devices as they were last used together, all of one moment")
        }
        MemberError::Unmarked { .. } => (Code::Failed, "a copy of that device from before the damage"),
    }
}

fn device_advice(error: &DeviceError) -> (Code, &'static str) {
    match error {
        DeviceError::Locked { .. } => (Code::Conflict, "wait for that process, or end it"),
        DeviceError::NotFound(_) => (Code::NotFound, "ls -l on the pool's path, or offshoot pool create"),
        DeviceError::Exists(_) => (Code::Conflict, "ls -l on that path, then another path"),
        DeviceError::UringUnavailable(_) => (Code::Failed, "--io auto, which does without io_uring"),
        DeviceError::NotMemory(_) => (Code::Usage, "--io auto, or a pool on tmpfs"),
        DeviceError::NotADisk { .. } => (Code::Usage, "--pool with a file or a block device"),
        _ => (Code::Failed, "ls -l and df on the pool's path"),
    }
}

/// The same for errors of the file or block device below a pool.
pub(crate) fn device(what: impl Into<String>, error: &DeviceError) -> Failure {
    let (code, next) = device_advice(error);
    Failure::new(code, what, sentence(error), next)
}

/// The same for a read or write of a volume.
pub(crate) fn request(what: impl Into<String>, error: RequestError) -> Failure {
    match error {
        RequestError::OutOfSpace => {
            Failure::new(Code::Capacity, what, sentence(&error), "offshoot df, then offshoot pool grow")
        }
        _ => Failure::new(Code::Failed, what, sentence(&error), "offshoot pool status"),
    }
}
