//! Bytes nobody can foresee, from the kernel.

use crate::failure::{Code, Failure};
use std::fs::File;
use std::io::{self, Read};

pub(crate) fn bytes<const COUNT: usize>() -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The same for an identifier or a name; `what` is the first line of the failure.
pub(crate) fn identity<const COUNT: usize>(what: &str) -> Result<[u8; COUNT], Failure> {
    bytes().map_err(|error| {
        Failure::new(Code::Failed, what, format!("no random bytes: {error}"), "ls -l /dev/urandom")
    })
}
