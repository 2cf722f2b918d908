//! The load that verifies what it reads, `vhost-load --verify`, lives through kills of the daemon, its state through kills of
//! the load; and it sees a byte that is not as it was written.

mod cli_program;
#[path = "../benches/vhost_load/mod.rs"]
mod vhost_load;

use cli_program::{Daemon, Ended, Place, end, signal};
use rustix::process::Signal;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use vhost_load::state::NEWEST_AT;
use vhost_load::vhost_client::{Ask, Driver};

const BLOCK: usize = 4096;
/// Blocks that are used: so few that each is written many times.
const BLOCKS: u64 = 256;
const DAMAGED: u64 = 77;
/// Writes between two kills.
const WRITES: u64 = 2000;
/// Longest wait for them.
const PATIENCE: Duration = Duration::from_secs(60);
/// The arguments, a line each, in a process that is to be the load: this program again, told to run `LOAD`.
const ARGUMENTS: &str = "OFFSHOOT_TEST_LOAD";
const LOAD: &str = "a_load_outlives_the_daemon_and_its_state_outlives_the_load";

#[test]
fn a_load_outlives_the_daemon_and_its_state_outlives_the_load() {
    if let Ok(arguments) = env::var(ARGUMENTS) {
        std::process::exit(vhost_load::run(arguments.lines().map(OsString::from)).into());
    }
    let (setting, mut daemon) = Setting::new();
    // Another engine follows each kill of the daemon; loads that poll and loads that sleep.
    for (engine, waits) in
        ["uring", "inline", "mapped"].into_iter().cycle().zip([&["--event"][..], &[]].repeat(3))
    {
        let mut load = setting.start(&[&["--seconds", "60"], waits].concat());
        load.wait_for("begun");
        setting.wait_for_writes();
        daemon.kill();
        daemon = setting.serve(engine);
        println!("{}; then {engine}", load.wait_for("gone"));
        load.wait_for("back");
        setting.wait_for_writes();
        load.kill();
    }
    let said = setting.load(&["--seconds", "0.2"]).ok();
    assert!(said.contains(&format!("ended verified={BLOCKS} ")), "{said}");
    setting.end(daemon);
}

#[test]
fn a_byte_that_is_not_as_it_was_written_is_found_and_its_block_is_named() {
    let (setting, daemon) = Setting::new();
    let said = setting.load(&["--seconds", "0.2"]).ok();
    assert!(said.contains(&format!("ended verified={BLOCKS} ")), "{said}");
    setting.flip(1000);
    let ended = setting.load(&["--seconds", "0"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let named = format!("block {DAMAGED}: expected generation ");
    assert!(ended.err.contains(&named) && ended.err.contains("but not from byte 1000 on"), "{}", ended.err);
    // What was found is not believed, so the damage can be undone.
    setting.flip(1000);
    setting.load(&["--seconds", "0"]).ok();
    setting.end(daemon);
}

#[test]
fn a_state_of_another_disk_or_of_other_blocks_is_refused() {
    let (setting, daemon) = Setting::new();
    setting.load(&["--seconds", "0"]).ok();
    setting.place.ok(&["export", "stop", "desk-1"]);
    setting.place.ok(&["volume", "create", "larger", "--size", "12M"]);
    setting.export("larger");
    for other in [&["--seconds", "0"][..], &["--seconds", "0", "--block", "8192"]] {
        let ended = setting.load(other);
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        assert!(ended.err.contains("the state is of another disk: of 8388608 bytes"), "{}", ended.err);
    }
    setting.end(daemon);
}

/// A pool, and a clone of an image that is exported.
struct Setting {
    place: Place,
}

impl Setting {
    fn new() -> (Self, Daemon) {
        let place = Place::in_memory().with_pool();
        place.disk("disk.raw", 8, 7, &[0, DAMAGED, 2047]);
        place.ok(&["image", "import", "img@v1", "disk.raw"]);
        place.ok(&["clone", "create", "img@v1", "desk-1"]);
        let setting = Self { place };
        let daemon = setting.serve("auto");
        (setting, daemon)
    }

    fn socket(&self) -> PathBuf {
        self.place.path("disk.sock")
    }

    fn state(&self) -> PathBuf {
        self.place.path("disk.state")
    }

    fn serve(&self, engine: &str) -> Daemon {
        let daemon = self.place.serve(&["--io", engine]);
        self.export("desk-1");
        daemon
    }

    fn export(&self, name: &str) {
        let socket = self.socket();
        self.place.ok(&["export", "start", name, "--socket", socket.to_str().expect("text")]);
    }

    fn start(&self, more: &[&str]) -> Load {
        let (socket, state, size) = (self.socket(), self.state(), (BLOCKS * 4096).to_string());
        let paths = ["--socket", socket.to_str().expect("text"), "--verify", state.to_str().expect("text")];
        let arguments = [&["vhost-load"], &paths[..], &["--depth", "16", "--size", &size], more];
        let mut child = Command::new(env::current_exe().expect("this program's path"))
            .args(["--exact", LOAD, "--nocapture", "--test-threads=1"])
            .env(ARGUMENTS, arguments.concat().join("\n"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        Load { child, said }
    }

    /// From beginning to end.
    fn load(&self, more: &[&str]) -> Ended {
        self.start(more).end()
    }

    fn newest(&self) -> u64 {
        let mut word = [0; 8];
        let at = u64::try_from(NEWEST_AT).expect("small");
        File::open(self.state()).and_then(|file| file.read_exact_at(&mut word, at)).expect("a state");
        u64::from_le_bytes(word)
    }

    fn wait_for_writes(&self) {
        let (begun, wanted) = (now(), self.newest() + WRITES);
        while self.newest() < wanted {
            assert!(begun.elapsed() < PATIENCE, "{} of {wanted} writes", self.newest());
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Changes one byte of one block, as another driver.
    fn flip(&self, byte: usize) {
        let mut driver = Driver::connect(&self.socket(), 1, BLOCK).expect("the load has ended");
        let offset = DAMAGED * 4096;
        assert_eq!(driver.run(Ask::Read { offset, length: BLOCK }).expect("an answer"), 0);
        let mut bytes = driver.bytes(0, BLOCK);
        bytes[byte] ^= 0x10;
        driver.fill(0, &bytes);
        assert_eq!(driver.run(Ask::Write { offset, length: BLOCK }).expect("an answer"), 0);
    }

    fn end(self, daemon: Daemon) {
        assert_eq!(daemon.stop().code, Some(0));
        self.place.ok(&["pool", "check"]);
    }
}

/// A load that runs; without its daemon it ends soon by itself.
struct Load {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Load {
    /// The next line that begins like this.
    fn wait_for(&mut self, beginning: &str) -> String {
        let mut line = String::new();
        while !line.starts_with(beginning) {
            line.clear();
            assert!(self.said.read_line(&mut line).expect("text") > 0, "it ended without {beginning:?}");
        }
        line.trim_end().to_owned()
    }

    fn kill(self) {
        signal(&self.child, Signal::KILL);
        assert_eq!(self.end().code, None, "it was still running");
    }

    fn end(self) -> Ended {
        let Self { child, said } = self;
        let out = std::io::read_to_string(said).expect("text");
        Ended { out, ..end(child) }
    }
}

#[expect(clippy::disallowed_methods, reason = "patience is measured by the clock")]
fn now() -> Instant {
    Instant::now()
}
