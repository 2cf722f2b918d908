//! The programs of others that meet ours: run, started and stopped.

use super::cli_program::Place;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// For a program to get ready.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Where a program finds an export of the daemon that a place serves.
pub(crate) fn uri(place: &Place, export: &str) -> String {
    format!("nbd+unix:///{export}?socket={}", place.path("nbd.sock").display())
}

/// Runs a program to its end and gives back what it printed; it has to be content.
#[track_caller]
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} (see scripts/install-test-tools): {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{program}: {}\n{out}\n{err}", output.status);
    out
}

/// `nbdkit memory`: a disk that another server keeps in memory. Ends when its standard input does.
#[derive(Debug)]
pub(crate) struct Nbdkit {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Nbdkit {
    pub(crate) fn memory(bytes: u64) -> Self {
        let size = format!("size={bytes}");
        // The command behind --run starts when the server is ready, and the server ends with it.
        let ready = "echo $unixsocket; exec cat > /dev/null";
        let mut child = Command::new("nbdkit")
            .args(["--unix", "-", "memory", &size, "--run", ready])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It complains there about every command that reaches behind the end.
            .stderr(Stdio::null())
            .spawn()
            .expect("nbdkit starts (see scripts/install-test-tools)");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        Self { child, socket: PathBuf::from(line.trim()) }
    }
}

impl Drop for Nbdkit {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

/// `qemu-nbd` on a raw file. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct QemuNbd {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl QemuNbd {
    /// `directory` is made for its socket: nobody else writes there.
    pub(crate) fn serve(directory: &Path, file: &str, export: &str) -> Self {
        std::fs::create_dir(directory).expect("a new directory");
        let (socket, pid_file) = (directory.join("socket"), directory.join("pid"));
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).expect("a watch");
        inotify::add_watch(&watch, directory, inotify::WatchFlags::MODIFY).expect("watched");
        let child = Command::new("qemu-nbd")
            .args(["--persistent", "--shared=0", "--format=raw", "--allocation-depth", "-x", export, "-k"])
            .arg(&socket)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(file)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("qemu-nbd starts (see scripts/install-test-tools)");
        let server = Self { child, socket };
        // It writes its number when it listens.
        let seen = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&PATIENCE)).expect("waited for");
        assert_eq!(seen, 1, "qemu-nbd does not get ready");
        server
    }
}

impl Drop for QemuNbd {
    fn drop(&mut self) {
        let _ended_is_fine = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// An export as a file of the machine: nbdfuse, which hands on requests of any bytes as the kernel makes them.
#[derive(Debug)]
pub(crate) struct Mounted {
    child: Child,
    pub(crate) file: PathBuf,
}

impl Mounted {
    pub(crate) fn new(place: &Place, export: &str) -> Self {
        let directory = place.path("mounted");
        std::fs::create_dir(&directory).expect("a new directory");
        let (file, mark) = (directory.join("disk"), directory.join("ready"));
        std::fs::write(&file, b"").expect("a file to mount over");
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC).expect("a watch");
        inotify::add_watch(&watch, &directory, inotify::WatchFlags::CLOSE_WRITE).expect("watched");
        let child = Command::new("nbdfuse")
            .arg("--pidfile")
            .args([&mark, &file])
            .arg(uri(place, export))
            .stdin(Stdio::null())
            .spawn()
            .expect("nbdfuse starts (see scripts/install-test-tools)");
        let seen = poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&PATIENCE)).expect("waited for");
        assert_eq!(seen, 1, "nbdfuse does not get ready");
        Self { child, file }
    }

    /// Everything written is at the server.
    pub(crate) fn unmount(mut self) {
        run("umount", &[&self.file]);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "nbdfuse: {status}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Only on the way out of a failed test.
            let _as_far_as_it_goes = Command::new("umount").arg(&self.file).status();
            let _ended = self.child.wait();
        }
    }
}
