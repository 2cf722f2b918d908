//! What takes the bytes of an export: a sparse file, or a qcow2 image that a contained QEMU writes.

use super::qcow2::Qcow2;
use crate::failure::{Code, Failure};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

#[derive(Debug)]
pub(super) enum Sink {
    Raw(File),
    Qcow2(Box<Qcow2>),
}

impl Sink {
    pub(super) fn raw(file: &File, size: u64, what: &str) -> Result<Self, Failure> {
        let own = file.set_len(size).and_then(|()| file.try_clone());
        own.map(Sink::Raw).map_err(|error| unwritable(&error, what))
    }

    pub(super) fn qcow2(file: &File, size: u64, what: &str) -> Result<Self, Failure> {
        Qcow2::create(file, size, what).map(Box::new).map(Sink::Qcow2)
    }

    /// Each byte is written once at most.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], what: &str) -> Result<(), Failure> {
        match self {
            Sink::Raw(file) => file.write_all_at(bytes, offset).map_err(|error| unwritable(&error, what)),
            Sink::Qcow2(image) => image.write(offset, bytes, what),
        }
    }

    /// Everything is with the file; it is durable when the file is.
    pub(super) fn finish(self, what: &str) -> Result<(), Failure> {
        match self {
            Sink::Raw(_) => Ok(()),
            Sink::Qcow2(image) => image.finish(what),
        }
    }
}

pub(super) fn unwritable(error: &io::Error, what: &str) -> Failure {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if is_full { Code::Capacity } else { Code::Failed };
    Failure::new(code, what, format!("the file cannot be written: {error}"), "df on the file's directory")
}
