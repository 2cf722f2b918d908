//! A real Linux guest under QEMU on a clone of an image, over vhost-user-blk: its own driver, its own file system; and the
//! same while the daemon beneath it is killed again and again.

#[path = "../cli_program/mod.rs"]
mod cli_program;

use cli_program::{Daemon, Place};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// Rounds of the guest that is to endure; the daemon is killed in every second.
const ROUNDS: u32 = 16;
const KILLS_MIN: u32 = 7;
/// Seconds after which QEMU is ended.
const PATIENCE_S: &str = "400";

/// Kernel and memory file system, made by `scripts/guest-kit`, once for all tests.
fn kit() -> &'static Path {
    static KIT: OnceLock<PathBuf> = OnceLock::new();
    KIT.get_or_init(make_kit)
}

fn make_kit() -> PathBuf {
    let kit = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-kit");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/guest-kit");
    assert!(Command::new(script).arg(&kit).status().expect("it starts").success(), "no kit");
    kit
}

/// A pool with an image of an ext4 file system and a clone of it, served and exported.
struct Setting {
    place: Place,
    daemon: Option<Daemon>,
}

impl Setting {
    fn new() -> Self {
        let place = Place::on_disk().with_pool();
        fs::create_dir(place.path("files")).expect("made");
        fs::write(place.path("files/hello"), "from the golden image\n").expect("written");
        let image = place.path("disk.raw");
        fs::File::create(&image).and_then(|file| file.set_len(48 << 20)).expect("made");
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-d"]).arg(place.path("files")).arg(&image);
        assert!(make.status().expect("e2fsprogs are installed").success());
        place.ok(&["image", "import", "img@v1", "disk.raw"]);
        fs::write(place.path("user.yaml"), "#cloud-config\n").expect("written");
        place.ok(&["clone", "create", "img@v1", "desk", "--seed", "user.yaml"]);
        let mut setting = Self { place, daemon: None };
        setting.serve();
        setting
    }

    fn socket(&self) -> PathBuf {
        self.place.path("desk.sock")
    }

    fn serve(&mut self) {
        self.daemon = Some(self.place.serve(&[]));
        let socket = self.socket();
        self.place.ok(&["export", "start", "desk", "--socket", socket.to_str().expect("text")]);
    }

    fn kill(&mut self) {
        self.daemon.take().expect("it runs").kill();
    }

    /// A virtual machine on the clone that runs this function of `scripts/guest-init`.
    fn boot(&self, function: &str) -> Machine {
        self.boot_on(&[self.socket()], function)
    }

    fn boot_on(&self, disks: &[PathBuf], function: &str) -> Machine {
        let kit = kit();
        let mut command = Command::new("timeout");
        command
            .args([PATIENCE_S, "qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"])
            .args(["-machine", "q35,memory-backend=mem,vmport=off", "-smp", "2", "-m", "256"])
            .args(["-object", "memory-backend-memfd,id=mem,size=256M,share=on", "-nodefaults"])
            .args(["-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(kit.join("vmlinuz"))
            .arg("-initrd")
            .arg(kit.join("initrd"))
            .args(["-append", &format!("console=ttyS0 panic=-1 quiet {function}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        for (number, socket) in disks.iter().enumerate() {
            let device = format!("vhost-user-blk-pci,chardev=c{number},num-queues=2,queue-size=128");
            let chardev = format!("socket,id=c{number},path={},reconnect=1", socket.display());
            command.args(["-chardev", &chardev, "-device", &device]);
        }
        let mut child = command.spawn().expect("qemu-system-x86 is installed");
        let console = BufReader::new(child.stdout.take().expect("piped"));
        Machine { child, console, seen: Vec::new() }
    }

    /// The file system as the pool has it is clean, and so is the pool.
    fn end(mut self) {
        self.place.ok(&["export", "stop", "desk"]);
        let uri = format!("nbd+unix:///desk?socket={}", self.place.path("nbd.sock").display());
        let copy = self.place.path("copy.raw");
        assert!(
            Command::new("nbdcopy").arg(uri).arg(&copy).status().expect("libnbd-bin is installed").success()
        );
        let found =
            Command::new("e2fsck").args(["-f", "-n"]).arg(&copy).output().expect("e2fsprogs are installed");
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stdout));
        assert_eq!(self.daemon.take().expect("it runs").stop().code, Some(0));
        self.place.ok(&["pool", "check"]);
    }
}

/// A running QEMU; ended when it is dropped.
struct Machine {
    child: Child,
    console: BufReader<ChildStdout>,
    seen: Vec<String>,
}

impl Machine {
    /// The next step the guest has done; nothing when the machine has ended. A step that failed is a failure.
    fn step(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.console.read_line(&mut line).expect("the console is text") > 0 {
            self.seen.push(line.trim_end().to_owned());
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["GUEST", name, .., code] = words.as_slice() {
                assert_eq!(*code, "0", "{name}: {:#?}", self.seen);
                return Some((*name).to_owned());
            }
            line.clear();
        }
        None
    }

    fn steps(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.step()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has ended by itself unless a test fails.
        let _gone_is_fine = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[test]
fn a_linux_guest_mounts_writes_trims_and_reads_its_clone() {
    let setting = Setting::new();
    let steps = setting.boot("guest=tour").steps();
    let expected = [
        "cache",
        "mount",
        "golden",
        "write",
        "sync",
        "read",
        "remove",
        "trim",
        "again",
        "unmount",
        "remount",
        "read-again",
        "unmount-again",
        "direct",
        "no-errors",
        "end",
    ];
    assert_eq!(steps, expected);
    setting.end();
}

#[test]
fn a_linux_guest_finds_its_seed_by_its_label_and_reads_it() {
    let setting = Setting::new();
    let seed = PathBuf::from(setting.place.ok(&["export", "start", "desk-seed"]).trim_end());
    let steps = setting.boot_on(&[setting.socket(), seed], "guest=seed").steps();
    assert_eq!(steps, ["label", "read-only", "mount", "meta-data", "user-data", "no-errors", "end"]);
    setting.end();
}

#[test]
fn a_linux_guest_lives_through_kills_of_the_daemon() {
    let mut setting = Setting::new();
    let mut machine = setting.boot(&format!("guest=endure rounds={ROUNDS}"));
    let (mut kills, mut last) = (0, String::new());
    while let Some(step) = machine.step() {
        // After this step the guest writes to its disk: into a page cache first, then with `sync`.
        if step
            .strip_prefix("write-")
            .is_some_and(|round| round.parse().is_ok_and(|round: u32| round % 2 == 1))
        {
            setting.kill();
            setting.serve();
            kills += 1;
        }
        last = step;
    }
    assert_eq!(last, "end", "{:#?}", machine.seen);
    assert!(kills >= KILLS_MIN, "only {kills} kills");
    println!("{kills} kills, {} steps of the guest", machine.seen.len());
    drop(machine);
    setting.end();
}
