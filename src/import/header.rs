//! What an image says of itself, looked at before anybody else reads it.
//!
//! The header's fields are checked against each other and against bounds, and whatever would lead to another file is found
//! here: a backing file is reported, everything else is refused. Nothing is allocated or read by a size that was not
//! checked. Damage further inside is left to who reads the image, which is contained.

mod fields;
mod qcow2;
mod vhdx;
mod vmdk;

use super::blocks::BlockTable;
use super::source_file::SourceFile;
use crate::failure::{Code, Failure};
use crate::image_format::ImageFormat;
use crate::size::Iec;
use fields::TooShort;

/// What an image is, according to its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) backing: Option<Backing>,
    /// Of an image that is read without asking anybody where its bytes lie.
    pub(super) blocks: Option<BlockTable>,
}

/// The file that has what an image does not have itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backing {
    /// As the image says. Nothing is opened by it.
    name: Vec<u8>,
    pub(super) format: ImageFormat,
}

impl Backing {
    /// The last part of its path.
    pub(super) fn file_name(&self) -> &[u8] {
        self.name.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// For a message.
    pub(super) fn shown(&self) -> String {
        shown(&self.name)
    }
}

/// Why an image is not read: the end of a sentence that begins with its path, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    code: Code,
    why: String,
    next: String,
}

impl Refusal {
    /// The image makes no sense.
    fn damaged(why: impl Into<String>) -> Self {
        Self { code: Code::Failed, why: why.into(), next: "a copy of the image that is whole".to_owned() }
    }

    /// The image is whole, and something else would have to be done.
    fn unwanted(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code: Code::Usage, why: why.into(), next: next.into() }
    }
}

impl From<TooShort> for Refusal {
    fn from(TooShort: TooShort) -> Self {
        Refusal::damaged("ends inside its header")
    }
}

/// Why a look at an image ended.
enum Stop {
    Refused(Refusal),
    Unreadable(Failure),
}

impl<T: Into<Refusal>> From<T> for Stop {
    fn from(refusal: T) -> Self {
        Stop::Refused(refusal.into())
    }
}

/// Reads and checks the header. `size_max` bounds the disk, in bytes.
pub(super) fn check(
    file: &SourceFile,
    format: ImageFormat,
    size_max: u64,
    what: &str,
) -> Result<Header, Failure> {
    let image = Image { file, what };
    let header = match format {
        ImageFormat::Qcow2 => qcow2::check(&image),
        ImageFormat::Vmdk => vmdk::check(&image),
        ImageFormat::Vhdx => vhdx::check(&image),
        ImageFormat::Raw | ImageFormat::RawZst | ImageFormat::RawGz => {
            Ok(Header { size: file.length(), backing: None, blocks: None })
        }
    };
    header.and_then(|header| bound(header, size_max)).map_err(|stop| match stop {
        Stop::Unreadable(failure) => failure,
        Stop::Refused(refusal) => {
            Failure::new(refusal.code, what, format!("{} {}", file.shown(), refusal.why), refusal.next)
        }
    })
}

fn bound(header: Header, size_max: u64) -> Result<Header, Stop> {
    if header.size == 0 {
        return Err(Refusal::damaged("says that its disk is empty").into());
    }
    if header.size > size_max {
        let why = format!("says that its disk has {}, and {} are the most", Iec(header.size), Iec(size_max));
        return Err(Refusal::unwanted(why, "--size-max with a larger size, if that is true").into());
    }
    Ok(header)
}

/// A file under examination.
struct Image<'a> {
    file: &'a SourceFile,
    what: &'a str,
}

impl Image<'_> {
    fn length(&self) -> u64 {
        self.file.length()
    }

    /// So many bytes from `offset`, or as many as there are.
    fn bytes(&self, offset: u64, count: usize) -> Result<Vec<u8>, Stop> {
        let mut bytes = vec![0; count];
        let length = self.file.read_some(&mut bytes, offset, self.what).map_err(Stop::Unreadable)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// A name out of an image, for a message.
fn shown(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).chars().take(100).collect();
    format!("{text:?}")
}

#[cfg(test)]
mod tests;
