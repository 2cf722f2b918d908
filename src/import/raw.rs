//! A raw disk, sparse or not.

use super::source::{Outlet, PIECE_BYTES, Piece, Stop};
use super::source_file::SourceFile;
use crate::failure::{Code, Failure};
use crate::size::GRAIN_BYTES;
use crate::wire::ImportOrder;
use rustix::fs::{SeekFrom, seek};
use std::ops::Range;

/// First bytes of formats that would be nonsense as a raw disk, and their names for `--format` or qemu-img.
const FORMATS: [(&[u8], &str); 8] = [
    (b"QFI\xfb", "qcow2"),
    (b"KDMV", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
    (b"QED\0", "qed"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"\x28\xb5\x2f\xfd", "raw.zst"),
    (b"\x1f\x8b\x08", "raw.gz"),
];
const UNREAD: [&str; 2] = ["vpc", "qed"];

#[derive(Debug)]
pub(super) struct Raw {
    file: SourceFile,
}

impl Raw {
    pub(super) fn open(order: &ImportOrder, what: &str) -> Result<Self, Failure> {
        if !order.backing.is_empty() {
            let why = "a raw disk has no backing file";
            return Err(Failure::new(Code::Usage, what, why, "--format qcow2, if that is what it is"));
        }
        let raw = Self { file: SourceFile::open(&order.file, what)? };
        if !order.force_raw {
            raw.refuse_formats(what)?;
        }
        Ok(raw)
    }

    /// The size of the version: the file's, rounded up to whole blocks; what is missing reads as zeros.
    pub(super) fn size(&self) -> u64 {
        self.file.length().next_multiple_of(GRAIN_BYTES)
    }

    pub(super) fn verify_unchanged(&self, what: &str) -> Result<(), Failure> {
        self.file.verify_unchanged(what)
    }

    fn refuse_formats(&self, what: &str) -> Result<(), Failure> {
        let mut start = [0; 32];
        let length = self.file.read_some(&mut start, 0, what)?;
        let found = FORMATS.iter().find(|(magic, _)| start[..length].starts_with(magic));
        let Some((_, format)) = found else { return Ok(()) };
        let shown = self.file.shown();
        let next = if UNREAD.contains(format) {
            format!("qemu-img convert -f {format} -O raw {shown} IMAGE.raw, or --force-raw")
        } else {
            format!("--format {format}, or --force-raw if it is a disk that only begins like one")
        };
        Err(Failure::new(Code::Usage, what, format!("{shown} is {format}, and was to be read as raw"), next))
    }

    pub(super) fn read(&self, outlet: &Outlet, what: &str) -> Result<(), Stop> {
        let mut at = 0;
        while let Some(data) = self.next_data(at, what)? {
            give_hole(outlet, at..data.start)?;
            at = data.start;
            while at < data.end {
                let length = PIECE_BYTES.min(data.end - at);
                let mut buffer = outlet.buffer(length)?;
                self.file.read(&mut buffer, at, what)?;
                at += length;
                outlet.give(Piece::Data(buffer), at)?;
            }
        }
        give_hole(outlet, at..self.size())
    }

    /// The next range from `from` on that may hold data, in whole blocks; `None` when only holes are left.
    fn next_data(&self, from: u64, what: &str) -> Result<Option<Range<u64>>, Failure> {
        let (file, length) = (self.file.file(), self.file.length());
        if from >= length {
            return Ok(None);
        }
        let start = match seek(file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => return self.file.verify_unchanged(what).map(|()| None),
            // A file system that knows no holes.
            Err(rustix::io::Errno::INVAL) => return Ok(Some(from..self.size())),
            Err(errno) => return Err(self.file.unreadable(&errno.into(), from, what)),
        };
        let end = seek(file, SeekFrom::Hole(start))
            .map_err(|errno| self.file.unreadable(&errno.into(), start, what))?
            .clamp(start, length);
        Ok(Some((start - start % GRAIN_BYTES).max(from)..end.next_multiple_of(GRAIN_BYTES)))
    }
}

fn give_hole(outlet: &Outlet, range: Range<u64>) -> Result<(), Stop> {
    if range.is_empty() {
        return Ok(());
    }
    outlet.give(Piece::Hole(range.end - range.start), range.end)
}

#[cfg(test)]
mod tests {
    use super::Raw;
    use crate::failure::{Code, Failure};
    use crate::wire::{Base, ImportOrder};
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::Path;

    fn open(path: &Path, force_raw: bool) -> Result<Raw, Failure> {
        let order = ImportOrder {
            version: "golden@v1".to_owned(),
            file: path.to_owned(),
            base: Base::Latest,
            force_raw,
            format: Default::default(),
            backing: Vec::new(),
            size_max: 1 << 40,
        };
        Raw::open(&order, "x")
    }

    #[test]
    fn holes_are_skipped_and_data_comes_in_whole_blocks() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk.raw");
        let mut file = File::create(&path).expect("a file");
        file.write_all(&[1; 100]).expect("written");
        file.set_len(1 << 30).expect("a length");
        let source = open(&path, false).expect("a disk");
        let first = source.next_data(0, "x").expect("readable").expect("data");
        assert_eq!(first.start, 0);
        assert!(first.end.is_multiple_of(4096) && first.end <= 1 << 30);
        let rest = source.next_data(1 << 30, "x").expect("readable");
        assert_eq!(rest, None);
    }

    #[test]
    fn a_disk_is_of_whole_blocks() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk.raw");
        fs::write(&path, vec![1; 10_000]).expect("written");
        assert_eq!(open(&path, false).expect("a disk").size(), 12_288);
    }

    #[test]
    fn another_format_is_refused_by_its_name_unless_forced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("disk");
        let cases: [(&[u8], &str); 3] = [
            (b"vhdxfile", "--format vhdx"),
            (b"\x28\xb5\x2f\xfd", "--format raw.zst"),
            (b"QED\0", "qemu-img convert -f qed"),
        ];
        for (start, next) in cases {
            fs::write(&path, start).expect("written");
            let failure = open(&path, false).expect_err("not raw");
            assert_eq!(failure.code, Code::Usage);
            assert!(failure.next.contains(next), "{failure}");
            open(&path, true).expect("forced");
        }
    }
}
