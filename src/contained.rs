//! A program of others at work on bytes of strangers, in a process that can do little else.
//!
//! The child begins as this very program (`contained/inside.rs`), gives up what it does not need, and becomes the other
//! one. What it keeps: the files it was handed, as descriptors; the system's programs and libraries, for reading; one
//! socket. Memory, time on a CPU and descriptors are limited; it writes no file; no other one can be opened and no TCP used
//! where the kernel has Landlock; it dies with the thread that started it, or when its [`Contained`] is dropped.

mod inside;

use crate::failure::{Code, Failure, sentence};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

pub(crate) use inside::enter;

/// The first argument of a process that is to be contained; the second is an [`Order`] as JSON.
const MARK: &str = "--contained";
/// Files a child may be handed, at most.
pub(crate) const FILES_MAX: usize = 32;
/// Of what a child says, so many bytes are kept.
const WORDS_BYTES_MAX: u64 = 4096;
const WORDS_SHOWN_MAX: usize = 300;
/// How often it is asked whether somebody still waits for a child's end.
const LOOK: Duration = Duration::from_millis(100);

/// What a contained process may use. All of them are hard limits of the kernel.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Of address space.
    pub(crate) memory_bytes: u64,
    /// On all its CPUs together.
    pub(crate) cpu_seconds: u64,
}

/// What a child is told.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    parent: u32,
    program: PathBuf,
    arguments: Vec<String>,
    /// Numbers of the parent's descriptors.
    files: Vec<i32>,
    limits: Limits,
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Looked for in PATH.
    pub(crate) program: &'static str,
    /// The package of Debian that has it.
    pub(crate) package: &'static str,
    pub(crate) arguments: Vec<String>,
    /// To be read.
    pub(crate) files: &'a [&'a File],
    pub(crate) limits: Limits,
    /// One that listens already.
    pub(crate) socket: Option<UnixListener>,
    pub(crate) output: Output,
}

/// What becomes of a child's standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Dropped,
    /// It waits for whoever takes it.
    Heard,
}

/// A running child; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Contained {
    program: &'static str,
    child: Child,
    words: ChildStderr,
    limits: Limits,
}

/// Stands in an argument for the number of the socket in the child.
pub(crate) const SOCKET_IN_CHILD: &str = "@SOCKET@";

/// Stands in an argument for the path of a handed file in the child.
pub(crate) fn path_in_child(index: usize) -> String {
    format!("@FILE{index}@")
}

impl Contained {
    pub(crate) fn start(job: Job<'_>, what: &str) -> Result<Self, Failure> {
        assert!(job.files.len() <= FILES_MAX, "the caller hands over a few files");
        let Some(program) = find(job.program) else {
            let why = format!("{} is needed for it and is not installed", job.program);
            return Err(Failure::new(Code::Failed, what, why, format!("apt install {}", job.package)));
        };
        let order = Order {
            parent: std::process::id(),
            program,
            arguments: job.arguments,
            files: job.files.iter().map(|file| file.as_raw_fd()).collect(),
            limits: job.limits,
        };
        let unstartable = |why: String| {
            Failure::new(
                Code::Failed,
                what,
                format!("{} does not start: {why}", job.program),
                "the same command again",
            )
        };
        let order = serde_json::to_string(&order).map_err(|error| unstartable(sentence(&error)))?;
        let mut child = Command::new("/proc/self/exe")
            .args([MARK, &order])
            .env_clear()
            .current_dir("/")
            .stdin(job.socket.map_or_else(Stdio::null, |socket| Stdio::from(OwnedFd::from(socket))))
            .stdout(if job.output == Output::Heard { Stdio::piped() } else { Stdio::null() })
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| unstartable(error.to_string()))?;
        let words = child.stderr.take().expect("it is piped");
        Ok(Self { program: job.program, child, words, limits: job.limits })
    }

    /// Where a child that is heard says what it has to say; once.
    pub(crate) fn take_output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Ends the child, and tells what it said last.
    pub(crate) fn abort(mut self) -> String {
        self.kill();
        self.last_words()
    }

    /// Waits for the child's own end, as long as it says something at least so often and somebody wants it; `good` are the exit
    /// codes of success.
    pub(crate) fn finish(
        mut self,
        good: &[i32],
        patience: Duration,
        is_unwanted: &dyn Fn() -> bool,
    ) -> Result<(), String> {
        let look = Timespec::try_from(LOOK).expect("short");
        let mut said = Vec::new();
        let mut waited = Duration::ZERO;
        let silent = loop {
            let mut polled = [PollFd::new(&self.words, PollFlags::IN)];
            if !matches!(poll(&mut polled, Some(&look)), Ok(1..)) {
                waited += LOOK;
                if waited >= patience || is_unwanted() {
                    break true;
                }
                continue;
            }
            waited = Duration::ZERO;
            let mut part = [0; 512];
            match self.words.read(&mut part) {
                Ok(0) => break false,
                Ok(length) => said.extend(&part[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
            said.drain(..said.len().saturating_sub(usize::try_from(WORDS_BYTES_MAX).expect("small")));
        };
        if silent {
            self.kill();
        }
        match self.child.wait() {
            Ok(status) if status.code().is_some_and(|code| good.contains(&code)) => Ok(()),
            Ok(_) if silent => Err(format!("it did nothing for {} s", waited.as_secs())),
            Ok(status) => Err(self.explain(&said, status)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn kill(&mut self) {
        // It may have ended by itself.
        let _ended_is_fine = self.child.kill();
    }

    /// Only for a child that was killed or has ended: nobody else has the other end of the pipe.
    fn last_words(&mut self) -> String {
        let status = self.child.wait();
        let mut said = Vec::new();
        let heard = self.words.by_ref().take(WORDS_BYTES_MAX).read_to_end(&mut said);
        match (status, heard) {
            (Ok(status), Ok(_)) => self.explain(&said, status),
            (Err(error), _) | (_, Err(error)) => error.to_string(),
        }
    }

    fn explain(&self, said: &[u8], status: ExitStatus) -> String {
        let said = String::from_utf8_lossy(said);
        if let Some(line) = said.lines().rfind(|line| !line.trim().is_empty()) {
            return shorten(line, self.program);
        }
        match status.signal() {
            Some(SIGXCPU) => format!("it used up its {} s of CPU time", self.limits.cpu_seconds),
            _ => format!("it ended with {status}"),
        }
    }
}

const SIGXCPU: i32 = 24;

/// What a program of QEMU says, without its name and without what it was told to open.
fn shorten(line: &str, program: &str) -> String {
    let line = line.trim().trim_start_matches(program).trim_start_matches(": ");
    let told = ["}': ", "}: "].into_iter().find_map(|end| line.rsplit_once(end));
    let line = told.map_or(line, |(_, reason)| reason);
    line.chars().take(WORDS_SHOWN_MAX).collect()
}

impl Drop for Contained {
    fn drop(&mut self) {
        self.kill();
        // Without it the child would stay in the table of processes.
        let _its_end_does_not_matter = self.child.wait();
    }
}

/// A program by its name, as a shell finds it.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{find, shorten};

    #[test]
    fn what_qemu_says_is_cut_to_its_reason() {
        let line =
            "qemu-nbd: Failed to blk_new_open 'json:{\"driver\": \"vmdk\"}': invalid VMDK image descriptor\n";
        assert_eq!(shorten(line, "qemu-nbd"), "invalid VMDK image descriptor");
        let line = "qemu-storage-daemon: --blockdev {\"driver\": \"vmdk\"}: invalid VMDK image descriptor";
        assert_eq!(shorten(line, "qemu-storage-daemon"), "invalid VMDK image descriptor");
        assert_eq!(shorten("qemu-nbd: no", "qemu-nbd"), "no");
        assert_eq!(shorten(&"x".repeat(5000), "qemu-nbd").len(), 300);
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(find("sh").expect("every system has one").is_absolute());
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
