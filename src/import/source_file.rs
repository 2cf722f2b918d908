//! A file that an image is read from: opened once, and the same at the end as at the beginning.

use crate::failure::{Code, Failure};
use crate::size::{Iec, SIZE_MAX};
use rustix::fs::{OFlags, SeekFrom, fcntl_setfl, seek};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

#[derive(Debug)]
pub(super) struct SourceFile {
    file: File,
    shown: String,
    /// Bytes in the file.
    length: u64,
    mark: Option<Mark>,
}

/// What tells a changed file. A block device has none.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl SourceFile {
    pub(super) fn open(path: &Path, what: &str) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let unreadable = |error: io::Error| {
            let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Failed };
            Failure::new(code, what, format!("{shown} cannot be read: {error}"), format!("ls -l {shown}"))
        };
        // Without NONBLOCK the open of a FIFO would wait for a writer.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("a small flag");
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
        fcntl_setfl(&file, OFlags::empty()).map_err(|errno| unreadable(errno.into()))?;
        let metadata = file.metadata().map_err(unreadable)?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let why = format!("{shown} is neither a file nor a block device");
            return Err(Failure::new(Code::Usage, what, why, format!("ls -l {shown}")));
        }
        let mark = kind.is_file().then(|| Mark::of(&metadata));
        let length = seek(&file, SeekFrom::End(0)).map_err(|errno| unreadable(errno.into()))?;
        seek(&file, SeekFrom::Start(0)).map_err(|errno| unreadable(errno.into()))?;
        let source = Self { file, shown, length, mark };
        source.refuse_empty(what)?;
        Ok(source)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Its path, for messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Bytes in the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn is_block_device(&self) -> bool {
        self.mark.is_none()
    }

    fn refuse_empty(&self, what: &str) -> Result<(), Failure> {
        if self.length > 0 && self.length <= SIZE_MAX {
            return Ok(());
        }
        let why = format!("{} is {} long, which is no disk", self.shown, Iec(self.length));
        Err(Failure::new(Code::Usage, what, why, format!("ls -l {}", self.shown)))
    }

    /// Fills the buffer from `offset`; behind the file's last byte are zeros.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64, what: &str) -> Result<(), Failure> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (inside, behind) = buffer.split_at_mut(left.min(buffer.len()));
        behind.fill(0);
        let length = self.read_some(inside, offset, what)?;
        if length < inside.len() {
            let end = offset + u64::try_from(length).expect("a length");
            let why = format!("{} ended early, at byte {end} of {}", self.shown, self.length);
            return Err(Failure::new(
                Code::Failed,
                what,
                why,
                "the same command when nobody writes the file",
            ));
        }
        Ok(())
    }

    /// Reads until the buffer is full or the file ends; gives how many bytes there were.
    pub(super) fn read_some(&self, buffer: &mut [u8], offset: u64, what: &str) -> Result<usize, Failure> {
        let mut length = 0;
        while length < buffer.len() {
            let at = offset + u64::try_from(length).expect("a length");
            match self.file.read_at(&mut buffer[length..], at) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(&error, at, what)),
            }
        }
        Ok(length)
    }

    /// A file that changed while it was read is a mix of two disks.
    pub(super) fn verify_unchanged(&self, what: &str) -> Result<(), Failure> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let now = self.file.metadata().map_err(|error| self.unreadable(&error, 0, what))?;
        if *mark == Mark::of(&now) {
            return Ok(());
        }
        let how = if now.len() == mark.length {
            "it was written".to_owned()
        } else {
            format!("it was {} bytes long and is now {}", mark.length, now.len())
        };
        let why = format!("{} changed while it was read: {how}", self.shown);
        Err(Failure::new(Code::Failed, what, why, "the same command when nobody writes the file"))
    }

    pub(super) fn unreadable(&self, error: &io::Error, offset: u64, what: &str) -> Failure {
        let why = format!("{} cannot be read at byte {offset}: {error}", self.shown);
        Failure::new(Code::Failed, what, why, format!("dmesg, then a copy of {}", self.shown))
    }
}

#[cfg(test)]
mod tests {
    use super::SourceFile;
    use std::fs::{self, File};

    #[test]
    fn a_source_that_ends_early_or_changes_says_where() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk.raw");
        fs::write(&path, vec![1; 10_000]).expect("written");
        let source = SourceFile::open(&path, "x").expect("a disk");
        let mut buffer = vec![9; 8192];
        source.read(&mut buffer, 4096, "x").expect("readable");
        assert_eq!((buffer[5903], buffer[5904]), (1, 0), "zeros behind the end");
        source.verify_unchanged("x").expect("unchanged");
        File::options().write(true).open(&path).expect("there").set_len(5000).expect("cut");
        let failure = source.read(&mut buffer, 4096, "x").expect_err("cut short");
        assert!(failure.why.ends_with("ended early, at byte 5000 of 10000"), "{failure}");
        let failure = source.verify_unchanged("x").expect_err("changed");
        assert!(failure.why.ends_with("it was 10000 bytes long and is now 5000"), "{failure}");
    }
}
