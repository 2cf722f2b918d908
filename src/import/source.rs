//! The file an image is made from: raw, sparse or not, and the same at the end as at the beginning.

use crate::failure::{Code, Failure};
use crate::size::{GRAIN_BYTES, Iec};
use rustix::fs::{OFlags, SeekFrom, fcntl_setfl, seek};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// First bytes of formats that would be nonsense as a raw disk, and their names for qemu-img.
const FORMATS: [(&[u8], &str); 6] = [
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"QED\0", "qed"),
    (b"# Disk DescriptorFile", "vmdk"),
];

#[derive(Debug)]
pub(super) struct Source {
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

impl Source {
    pub(super) fn open(path: &Path, force_raw: bool, what: &str) -> Result<Self, Failure> {
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
        let source = Self { file, shown, length, mark };
        source.refuse_empty(what)?;
        if !force_raw {
            source.refuse_formats(what)?;
        }
        Ok(source)
    }

    /// The size of the version: the file's, rounded up to whole blocks; what is missing reads as zeros.
    pub(super) fn size(&self) -> u64 {
        self.length.next_multiple_of(GRAIN_BYTES)
    }

    fn refuse_empty(&self, what: &str) -> Result<(), Failure> {
        if self.length > 0 && self.length <= crate::size::SIZE_MAX {
            return Ok(());
        }
        let why = format!("{} is {} long, which is no disk", self.shown, Iec(self.length));
        Err(Failure::new(Code::Usage, what, why, format!("ls -l {}", self.shown)))
    }

    fn refuse_formats(&self, what: &str) -> Result<(), Failure> {
        let mut start = [0; 32];
        let length = self.read_some(&mut start, 0, what)?;
        let found = FORMATS.iter().find(|(magic, _)| start[..length].starts_with(magic));
        let Some((_, format)) = found else { return Ok(()) };
        Err(Failure::new(
            Code::Usage,
            what,
            format!("{} is {format}, and only raw images are imported", self.shown),
            format!("qemu-img convert -f {format} -O raw {} IMAGE.raw, or --force-raw", self.shown),
        ))
    }

    /// The next range from `from` on that may hold data, in whole blocks; `None` when only holes are left.
    pub(super) fn next_data(&self, from: u64, what: &str) -> Result<Option<Range<u64>>, Failure> {
        if from >= self.length {
            return Ok(None);
        }
        let start = match seek(&self.file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return self.verify_unchanged(what).map(|()| None),
            // A file system that knows no holes.
            Err(rustix::io::Errno::INVAL) => return Ok(Some(from..self.size())),
            Err(errno) => return Err(self.unreadable(&errno.into(), from, what)),
        };
        let end = seek(&self.file, SeekFrom::Hole(start))
            .map_err(|errno| self.unreadable(&errno.into(), start, what))?
            .clamp(start, self.length);
        Ok(Some((start - start % GRAIN_BYTES).max(from)..end.next_multiple_of(GRAIN_BYTES)))
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

    /// Reads until the buffer is full or the file ends.
    fn read_some(&self, buffer: &mut [u8], offset: u64, what: &str) -> Result<usize, Failure> {
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

    fn unreadable(&self, error: &io::Error, offset: u64, what: &str) -> Failure {
        let why = format!("{} cannot be read at byte {offset}: {error}", self.shown);
        Failure::new(Code::Failed, what, why, format!("dmesg, then a copy of {}", self.shown))
    }
}

#[cfg(test)]
mod tests {
    use super::Source;
    use crate::failure::Code;
    use std::fs::{self, File};
    use std::io::Write;

    #[test]
    fn a_source_that_ends_early_or_changes_says_where() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk.raw");
        fs::write(&path, vec![1; 10_000]).expect("written");
        let source = Source::open(&path, false, "x").expect("a disk");
        assert_eq!(source.size(), 12_288, "whole blocks");
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

    #[test]
    fn holes_are_skipped_and_data_comes_in_whole_blocks() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk.raw");
        let mut file = File::create(&path).expect("a file");
        file.write_all(&[1; 100]).expect("written");
        file.set_len(1 << 30).expect("a length");
        let source = Source::open(&path, false, "x").expect("a disk");
        let first = source.next_data(0, "x").expect("readable").expect("data");
        assert_eq!(first.start, 0);
        assert!(first.end.is_multiple_of(4096) && first.end <= 1 << 30);
        let rest = source.next_data(1 << 30, "x").expect("readable");
        assert_eq!(rest, None);
    }

    #[test]
    fn another_format_is_refused_by_its_name_unless_forced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk");
        fs::write(&path, b"vhdxfile").expect("written");
        let failure = Source::open(&path, false, "x").expect_err("not raw");
        assert_eq!(failure.code, Code::Usage);
        assert!(failure.next.contains("qemu-img convert -f vhdx"), "{failure}");
        Source::open(&path, true, "x").expect("forced");
    }
}
