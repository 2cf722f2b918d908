//! What takes the bytes of an export: a sparse file, or a qcow2 image.

use super::qcow2::{self, Qcow2};
use crate::failure::{Code, Failure};
use crate::image_format::ImageFormat;
use crate::size::Iec;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

#[derive(Debug)]
pub(super) enum Sink {
    Raw(File),
    Qcow2(Qcow2),
}

impl Sink {
    /// For a disk of `size` bytes, into an empty file.
    pub(super) fn new(file: &File, size: u64, format: ImageFormat, what: &str) -> Result<Self, Failure> {
        let refused = |why: String, next| Err(Failure::new(Code::Usage, what, why, next));
        let own = || file.try_clone().map_err(|error| unwritable(&error, what));
        match format {
            ImageFormat::Raw => {
                file.set_len(size).map_err(|error| unwritable(&error, what))?;
                own().map(Sink::Raw)
            }
            ImageFormat::Qcow2 if size <= qcow2::SIZE_MAX => {
                own().map(|file| Sink::Qcow2(Qcow2::new(file, size)))
            }
            ImageFormat::Qcow2 => {
                let most = Iec(qcow2::SIZE_MAX);
                refused(format!("it has {}, and qcow2 holds {most}", Iec(size)), "--format raw")
            }
            other => refused(
                format!("images of the format {other} are read and not written"),
                "--format raw or qcow2",
            ),
        }
    }

    /// Each byte is written once at most, from the disk's start to its end; what is not written reads as zeros.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], what: &str) -> Result<(), Failure> {
        let written = match self {
            Sink::Raw(file) => file.write_all_at(bytes, offset),
            Sink::Qcow2(image) => image.write(offset, bytes),
        };
        written.map_err(|error| unwritable(&error, what))
    }

    /// Everything is with the file; it is durable when the file is.
    pub(super) fn finish(self, what: &str) -> Result<(), Failure> {
        match self {
            Sink::Raw(_) => Ok(()),
            Sink::Qcow2(image) => image.finish().map_err(|error| unwritable(&error, what)),
        }
    }
}

pub(super) fn unwritable(error: &io::Error, what: &str) -> Failure {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if is_full { Code::Capacity } else { Code::Failed };
    Failure::new(code, what, format!("the file cannot be written: {error}"), "df on the file's directory")
}
