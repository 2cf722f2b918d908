//! The engine's errors in the operator's terms: an exit code, a reason, and the next command.

use crate::failure::{Code, Failure, sentence};
use crate::reason::Reason;
use blockstore::{DeviceError, IoError};
use thinpool::{Error, MemberError, RequestError};

/// `what` says what did not happen.
pub(crate) fn engine(what: impl Into<String>, error: &Error) -> Failure {
    let (reason, next) = advice(error);
    Failure::because(reason, what, sentence(error), next)
}

fn advice(error: &Error) -> (Reason, &'static str) {
    match error {
        Error::NotFound(_) => (Reason::NoSuchName, "offshoot ls"),
        Error::Exists(_) => (Reason::NameTaken, "offshoot ls, then another name"),
        Error::Busy { .. } => (Reason::InUse, "offshoot ls, then end what uses it and try again"),
        Error::Invalid(_) => (Reason::Invalid, "offshoot help"),
        Error::OutOfSpace => (Reason::PoolFull, "offshoot df, then offshoot pool grow or offshoot rm"),
        Error::TailFull | Error::DrainTimeout => (Reason::Overloaded, "the same command again"),
        Error::Cancelled => (Reason::Cancelled, "the same command again"),
        Error::Closing => (Reason::Closing, "the same command again"),
        Error::ReadOnly => (Reason::ReadOnly, "offshoot pool status"),
        Error::Poisoned => (Reason::Poisoned, "offshoot pool status"),
        Error::TailGone => {
            (Reason::TailGone, "offshoot pool check --accept-lost-writes, which gives those writes up")
        }
        Error::Damage(_) => (Reason::Damage, "offshoot pool check, and keep a copy of the pool"),
        Error::Member(error) => member_advice(error),
        Error::Device(error) => device_advice(error),
        Error::Io { source: IoError::OutOfSpace, .. } => {
            (Reason::FileSystemFull, "df on the pool's path, then room on that file system")
        }
        _ => (Reason::Device, "offshoot pool check"),
    }
}

fn member_advice(error: &MemberError) -> (Reason, &'static str) {
    match error {
        MemberError::NotFirst { .. } => {
            (Reason::WrongDevice, "--pool with the path of device 0 of that pool")
        }
        MemberError::Missing { .. } => (Reason::DeviceMissing, "--device with the path where it is now"),
        MemberError::Other { .. } | MemberError::TooMany { .. } => {
            (Reason::WrongDevice, "--device with paths of this pool's devices after the first, each once")
        }
        MemberError::TooShort { .. } => (Reason::DeviceStale, "the whole device, or a whole copy of it"),
        MemberError::Older { .. } | MemberError::FirstIsOlder { .. } => {
            (Reason::DeviceStale, "the devices as they were last used together, all of one moment")
        }
        MemberError::Unmarked { .. } => (Reason::DeviceStale, "a copy of that device from before the damage"),
    }
}

fn device_advice(error: &DeviceError) -> (Reason, &'static str) {
    match error {
        DeviceError::Locked { .. } => (Reason::PoolLocked, "wait for that process, or end it"),
        DeviceError::NotFound(_) => (Reason::NoSuchPool, "ls -l on the pool's path, or offshoot pool create"),
        DeviceError::Exists(_) => (Reason::FileExists, "ls -l on that path, then another path"),
        DeviceError::UringUnavailable(_) => (Reason::NoUring, "--io auto, which does without io_uring"),
        DeviceError::NotMemory(_) => (Reason::NotMemory, "--io auto, or a pool on tmpfs"),
        DeviceError::NotADisk { .. } => (Reason::NotADisk, "--pool with a file or a block device"),
        _ => (Reason::Device, "ls -l and df on the pool's path"),
    }
}

/// The same for errors of the file or block device below a pool.
pub(crate) fn device(what: impl Into<String>, error: &DeviceError) -> Failure {
    let (reason, next) = device_advice(error);
    Failure::because(reason, what, sentence(error), next)
}

/// The same for a read or write of a volume.
pub(crate) fn request(what: impl Into<String>, error: RequestError) -> Failure {
    match error {
        RequestError::OutOfSpace => {
            let next = "offshoot df, then offshoot pool grow";
            Failure::because(Reason::PoolFull, what, sentence(&error), next)
        }
        _ => Failure::new(Code::Failed, what, sentence(&error), "offshoot pool status"),
    }
}
