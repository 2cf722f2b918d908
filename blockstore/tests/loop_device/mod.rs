//! A loop device over a file, for as long as the value lives. Where this user cannot have one, there is nothing to test
//! on, and the tests say so; where root can, they must not be left out.

use std::path::{Path, PathBuf};
use std::process::Command;

const CONTROL: &str = "/dev/loop-control";

/// Whether this user can have loop devices here; says so when not.
pub(crate) fn can_be_had(what_for: &str) -> bool {
    let can = rustix::process::geteuid().is_root() && Path::new(CONTROL).exists();
    if !can {
        eprintln!("NOT RUN: {what_for} needs root and {CONTROL}");
    }
    can
}

pub(crate) struct LoopDevice(PathBuf);

impl LoopDevice {
    pub(crate) fn over(file: &Path) -> Self {
        let output =
            Command::new("losetup").args(["--find", "--show"]).arg(file).output().expect("losetup runs");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "root gets no loop device: {complaint}");
        let name = String::from_utf8(output.stdout).expect("a path");
        Self(PathBuf::from(name.trim_end()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    /// A device that is still open is detached when it is closed.
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.0).status();
        let is_detached = detached.is_ok_and(|status| status.success());
        // A test that fails has said why already; a second panic would hide it.
        assert!(is_detached || std::thread::panicking(), "{} stays", self.0.display());
    }
}
