//! What a contained process can do, tried by programs that mean no harm: the program is started as its own child, with an
//! order of this test's.

use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// Stands for the path of the first handed file.
const HANDED: &str = "@FILE0@";

fn order(script: &str, files: &[&File], limits: Value) -> String {
    let files: Vec<i32> = files.iter().map(|file| file.as_raw_fd()).collect();
    let limits = [("memory_bytes", 512 * MIB), ("cpu_seconds", 10)]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), limits.get(name).cloned().unwrap_or(value.into())))
        .collect::<serde_json::Map<_, _>>();
    json!({
        "parent": std::process::id(),
        "program": "/bin/bash",
        "arguments": ["-c", script],
        "files": files,
        "limits": limits,
    })
    .to_string()
}

fn start(order: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_offshoot"))
        .args(["--contained", order])
        .env("SECRET", "of the parent")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

fn run(script: &str, files: &[&File], limits: Value) -> Output {
    start(&order(script, files, limits)).wait_with_output().expect("it ends")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn with_file(content: &str) -> (TempDir, File) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    fs::write(&path, content).expect("written");
    let file = File::options().read(true).write(true).open(&path).expect("there");
    (directory, file)
}

/// True where the kernel has Landlock; without it the other limits are all there is.
fn has_landlock() -> bool {
    let kernel = fs::read_to_string("/proc/kallsyms").expect("readable");
    kernel.contains("landlock_restrict_self")
}

#[test]
fn a_handed_file_can_be_read_and_nothing_else_of_the_machine() {
    let (directory, file) = with_file("content");
    let secret = directory.path().join("secret");
    fs::write(&secret, "never").expect("written");
    let files = [&file];
    let read = run(&format!("read -r line < {HANDED}; echo \"$line\""), &files, json!({}));
    assert_eq!(said(&read.stdout), "content\n", "{}", said(&read.stderr));
    assert!(has_landlock(), "the rest of this test needs Landlock");
    for path in ["/etc/passwd", "/proc/1/environ", "/root", "/sys", secret.to_str().expect("plain")] {
        let read = run(&format!("read -r line < {path} && echo \"$line\""), &files, json!({}));
        assert_eq!(said(&read.stdout), "", "{path}");
        assert!(said(&read.stderr).contains("Permission denied"), "{path}: {}", said(&read.stderr));
    }
    let made = directory.path().join("made");
    let write = run(&format!("echo x > {HANDED}; echo x > {}", made.display()), &files, json!({}));
    assert_eq!(said(&write.stderr).matches("Permission denied").count(), 2, "{}", said(&write.stderr));
    assert!(!made.exists());
    let connect = run("echo x > /dev/tcp/127.0.0.1/9", &files, json!({}));
    assert!(said(&connect.stderr).contains("Permission denied"), "{}", said(&connect.stderr));
    let environment = run("echo ${SECRET-none}", &files, json!({}));
    assert_eq!(said(&environment.stdout), "none\n");
}

#[test]
fn memory_and_time_end() {
    let begun = Instant::now();
    let spin = run("while :; do :; done", &[], json!({ "cpu_seconds": 1 }));
    assert!(!spin.status.success());
    let eat = run("x=x; while :; do x=$x$x; done", &[], json!({ "memory_bytes": 64 * MIB }));
    assert!(!eat.status.success());
    assert!(said(&eat.stderr).contains("cannot allocate"), "{}", said(&eat.stderr));
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_process_that_is_not_the_childs_parent_cannot_order_it() {
    let order = order("echo never", &[], json!({})).replace(&format!("{}", std::process::id()), "1");
    let output = start(&order).wait_with_output().expect("it ends");
    assert!(!output.status.success());
    assert_eq!(said(&output.stdout), "");
    let output = start("nonsense").wait_with_output().expect("it ends");
    assert_eq!(said(&output.stderr), "this is for Offshoot itself\n");
}
