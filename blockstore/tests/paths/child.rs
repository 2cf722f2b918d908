//! Parts of tests that need a process of their own: this program again, told by its environment to run one test, in
//! which it then takes the child's part.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

const PATH: &str = "BLOCKSTORE_CHILD_PATH";

/// The path the parent gave, in a process that is to take the child's part of this test.
pub(crate) fn path_from_parent() -> Option<PathBuf> {
    env::var_os(PATH).map(PathBuf::from)
}

/// This program, as the child of the named test.
pub(crate) fn command(test: &str, path: &OsStr) -> Command {
    as_child(Command::new(env::current_exe().expect("this program's path")), test, path)
}

/// The same, after a shell has done `preparation`, which may use `$path`.
pub(crate) fn prepared_command(launcher: &[&str], preparation: &str, test: &str, path: &OsStr) -> Command {
    let program = env::current_exe().expect("this program's path");
    let script = format!("path=\"${PATH}\"; {preparation} && exec \"$0\" \"$@\"");
    let mut command = Command::new(launcher[0]);
    command.args(&launcher[1..]).arg("-c").arg(script).arg(program);
    as_child(command, test, path)
}

fn as_child(mut command: Command, test: &str, path: &OsStr) -> Command {
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(PATH, path);
    command
}

/// Runs a child to its end and shows what it said if it failed.
pub(crate) fn succeed(mut command: Command) {
    let output = command.output().expect("a child process");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    assert!(said.contains("1 passed"), "the child ran no test: {said}");
}
