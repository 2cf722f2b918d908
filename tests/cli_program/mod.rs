//! The program as its users meet it: started as a process, in a directory of its own, with a run directory on tmpfs.
#![allow(dead_code, reason = "each test file uses its part")]

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// One finished command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// It worked.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// It failed with this code, in exactly three lines, of which the middle one says `why`; nothing on stdout.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, why: &str) {
        let talk = |line: &&str| !line.starts_with("note: ") && !line.ends_with("%)");
        let lines: Vec<&str> = self.err.lines().filter(talk).collect();
        let [what, reason, next] = lines.as_slice() else { panic!("three lines, not: {}", self.err) };
        assert!(
            what.starts_with("error: ") && reason.starts_with("why: ") && next.starts_with("try: "),
            "{lines:?}"
        );
        assert!(reason.contains(why), "{reason:?} does not say {why:?}");
        assert_eq!(self.code, Some(code), "{}", self.err);
        assert_eq!(self.out, "");
    }
}

/// What lies in a directory: every path with its length and a hash of its bytes.
pub(crate) type Inventory = BTreeMap<PathBuf, (u64, u64)>;

/// A place to work in. Its directories go with it.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
    run: TempDir,
    state: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::in_directory(tempfile::tempdir().expect("a directory"))
    }

    /// The pool is where the build is, which is not in memory.
    pub(crate) fn on_disk() -> Self {
        Self::in_directory(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory"))
    }

    pub(crate) fn in_memory() -> Self {
        Self::in_directory(tempfile::tempdir_in("/dev/shm").expect("tmpfs"))
    }

    fn in_directory(directory: TempDir) -> Self {
        let private = Permissions::from_mode(0o700);
        let mut builder = tempfile::Builder::new();
        let run =
            builder.prefix("offshoot-test-").permissions(private).tempdir_in("/dev/shm").expect("tmpfs");
        let state = tempfile::tempdir().expect("a directory");
        Self { directory, run, state }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn pool(&self) -> PathBuf {
        self.path("p.pool")
    }

    pub(crate) fn run_directory(&self) -> &Path {
        self.run.path()
    }

    pub(crate) fn state_directory(&self) -> &Path {
        self.state.path()
    }

    /// The program, in this place, with the pool `p.pool`.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offshoot"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("OFFSHOOT_POOL", self.pool())
            .env("OFFSHOOT_RUN_DIR", self.run.path())
            .env("OFFSHOOT_STATE_DIR", self.state.path())
            .env_remove("OFFSHOOT_API")
            .env_remove("OFFSHOOT_IO")
            .env_remove("CLICOLOR_FORCE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A shell that may mount what it likes, seen by nobody else; $OFFSHOOT is the program.
    pub(crate) fn in_mount_namespace(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", script])
            .current_dir(self.directory.path())
            .env("OFFSHOOT", env!("CARGO_BIN_EXE_offshoot"))
            .env("OFFSHOOT_POOL", self.pool())
            .env("OFFSHOOT_RUN_DIR", self.run.path())
            .env("OFFSHOOT_STATE_DIR", self.state.path())
            .env_remove("OFFSHOOT_API")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        end(self.command(arguments).spawn().expect("the program starts"))
    }

    #[track_caller]
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        self.run(arguments).ok()
    }

    #[track_caller]
    pub(crate) fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> serde_json::Value {
        let mut all: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        all.extend(["-o", "json"].map(OsStr::new));
        serde_json::from_str(&self.ok(&all)).expect("one JSON document")
    }

    /// A pool of 256 MiB under the name all commands use.
    pub(crate) fn with_pool(self) -> Self {
        self.ok(&["pool", "create", "p.pool", "--size", "256M"]);
        self
    }

    /// A raw disk: zeros, with a block of `byte` at each of `blocks`, and a hole at its end.
    pub(crate) fn disk(&self, name: &str, mebibytes: u64, byte: u8, blocks: &[u64]) -> PathBuf {
        let path = self.path(name);
        let mut file = File::create(&path).expect("a file");
        file.set_len(mebibytes << 20).expect("a length");
        for block in blocks {
            file.seek(SeekFrom::Start(block * 4096)).expect("an offset");
            file.write_all(&[byte; 4096]).expect("written");
        }
        path
    }

    /// Everything in the working directory and the run directory.
    pub(crate) fn inventory(&self) -> Inventory {
        let mut found = Inventory::new();
        take_inventory(self.directory.path(), &mut found);
        take_inventory(self.run.path(), &mut found);
        found
    }

    /// The words of every command there is, by the help of the commands above it.
    pub(crate) fn commands(&self) -> Vec<Vec<String>> {
        self.commands_below(&[])
    }

    fn commands_below(&self, above: &[String]) -> Vec<Vec<String>> {
        let help = self.ok(&[above, &["--help".to_owned()]].concat());
        let Some((_, list)) = help.split_once("Commands:\n") else { return vec![above.to_vec()] };
        let names = list.lines().take_while(|line| line.starts_with("  ")).filter_map(|line| {
            let name = line.strip_prefix("  ")?.split(' ').next()?;
            (!name.is_empty() && name != "help").then(|| name.to_owned())
        });
        names.flat_map(|name| self.commands_below(&[above, &[name]].concat())).collect()
    }

    /// Starts `serve` and waits for its ready line.
    #[track_caller]
    pub(crate) fn serve(&self, arguments: &[&str]) -> Daemon {
        let mut all = vec!["serve", "--socket", "nbd.sock"];
        all.extend(arguments);
        Daemon::start(&mut self.command(&all))
    }
}

impl Daemon {
    /// Starts `serve` and waits for its ready line.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let mut ready = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut ready).expect("a line");
        if !ready.starts_with("ready ") {
            panic!("the daemon is not ready: {}", end(child).err);
        }
        Daemon { child: Some(child), ready }
    }
}

fn take_inventory(directory: &Path, found: &mut Inventory) {
    for entry in directory.read_dir().expect("readable") {
        let path = entry.expect("an entry").path();
        let metadata = path.symlink_metadata().expect("there");
        if metadata.is_dir() {
            take_inventory(&path, found);
        }
        let hash = if metadata.is_file() { hash(&path) } else { 0 };
        found.insert(path, (metadata.len(), hash));
    }
}

fn hash(path: &Path) -> u64 {
    let mut file = File::open(path).expect("readable");
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).expect("readable") {
            0 => return hasher.finish(),
            length => hasher.write(&buffer[..length]),
        }
    }
}

pub(crate) fn end(child: Child) -> Ended {
    let output = child.wait_with_output().expect("it ends");
    Ended {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(process(child), signal).expect("our own process");
}

fn process(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id")
}

/// A running `serve`; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Option<Child>,
    pub(crate) ready: String,
}

impl Daemon {
    pub(crate) fn process_id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(mut self) -> Ended {
        let child = self.child.take().expect("it runs");
        signal(&child, Signal::TERM);
        end(child)
    }

    /// SIGSTOP; returns when none of its threads runs any more.
    pub(crate) fn pause(&self) {
        let child = self.child.as_ref().expect("it runs");
        signal(child, Signal::STOP);
        let stopped = waitid(WaitId::Pid(process(child)), WaitIdOptions::STOPPED).expect("our own process");
        assert!(stopped.is_some_and(|status| status.stopped()), "it has ended");
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        signal(self.child.as_ref().expect("it runs"), Signal::CONT);
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        let child = self.child.take().expect("it runs");
        signal(&child, Signal::KILL);
        end(child);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Only on the way out of a failed test.
            let _gone_is_fine = child.kill();
            let _ended = child.wait();
        }
    }
}
