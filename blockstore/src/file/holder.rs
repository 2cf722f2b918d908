//! Who holds the lock of a file, as well as can be told: the kernel names no process for locks of open files, so all
//! processes' open files are looked through for one that is this file and has a lock on it.
//!
//! Everything in here may fail, or be gone the next moment; then the answer is a less precise one.

use std::fs::{self, DirEntry, File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The kernel's mark of a task that has begun to exit (`PF_EXITING` in the flags of `/proc/PID/stat`).
const EXITING: u64 = 4;
/// The ninth signal in the masks of `/proc/PID/status`.
const KILLED: u64 = 1 << 8;

/// A process that has the file open and locked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// "process 1234 (name)" or "this process".
    pub(super) name: String,
    /// It will let go by itself.
    pub(super) dying: bool,
}

/// `None` when no process that can be seen holds a lock on the file.
pub(super) fn find(file: &File) -> Option<Holder> {
    let wanted = file.metadata().ok()?;
    let own_descriptor = file.as_raw_fd().to_string();
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| describe(&process, &wanted, &own_descriptor))
}

fn describe(process: &DirEntry, wanted: &Metadata, own_descriptor: &str) -> Option<Holder> {
    let pid: u32 = process.file_name().to_str()?.parse().ok()?;
    let own = pid == std::process::id();
    let directory = process.path();
    let descriptors = fs::read_dir(directory.join("fd")).ok()?;
    let holds = |entry: &DirEntry| {
        let name = entry.file_name();
        let itself = own && name.to_str() == Some(own_descriptor);
        !itself && is_same(entry, wanted) && has_lock(&directory.join("fdinfo").join(name))
    };
    descriptors.flatten().find(holds)?;
    if own {
        return Some(Holder { name: "this process".to_owned(), dying: false });
    }
    let name = fs::read_to_string(directory.join("comm")).unwrap_or_default();
    let name: String = name.trim_end().chars().filter(|letter| !letter.is_control()).collect();
    let name = if name.is_empty() { format!("process {pid}") } else { format!("process {pid} ({name})") };
    Some(Holder { name, dying: is_dying(&directory) })
}

/// A killed process may take long to give its memory back before it closes its files.
fn is_dying(process: &Path) -> bool {
    let read = |name| fs::read_to_string(process.join(name)).unwrap_or_default();
    is_killed(&read("status")) || is_exiting(&read("stat"))
}

fn is_killed(status: &str) -> bool {
    let masks =
        status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    masks.map(str::trim).any(|mask| u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & KILLED != 0))
}

/// The name in parentheses may contain anything, also parentheses.
fn is_exiting(stat: &str) -> bool {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_whitespace().nth(6).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

fn is_same(descriptor: &DirEntry, wanted: &Metadata) -> bool {
    fs::metadata(descriptor.path())
        .is_ok_and(|found| found.dev() == wanted.dev() && found.ino() == wanted.ino())
}

/// The kernel lists an open file's locks in its `fdinfo`.
fn has_lock(fdinfo: &Path) -> bool {
    fs::read_to_string(fdinfo).is_ok_and(|text| text.lines().any(|line| line.starts_with("lock:")))
}

#[cfg(test)]
mod tests {
    use super::{is_exiting, is_killed};

    #[test]
    fn a_dying_process_is_known_by_its_flags() {
        assert!(is_exiting("77 (a) b) R 1 77 77 0 -1 4194308 0 0"));
        assert!(!is_exiting("77 (a 4) S 4 4 4 4 4 4194304 4 4"));
        assert!(!is_exiting(""));
        assert!(is_killed("Name:\tx\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"));
        assert!(!is_killed(
            "SigPnd:\t0000000000000000\nShdPnd:\t0000000000004000\nSigBlk:\t0000000000000100\n"
        ));
    }
}
