//! B8: one owner, whichever name and process he comes with, until his last operation has ended.

use crate::child;
use crate::drive::{
    channel, directory_in_memory, directory_on_disk, file_of, open, open_to_write, read, write,
};
use blockstore::{Access, Buffer, DeviceError, Durability, Engine, Operation, Submission, Token};
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

const SIZE: u64 = 64 << 20;

/// The holder, in a refusal that must not take long.
fn holder(path: &Path, access: Access) -> String {
    #[allow(clippy::disallowed_methods, reason = "the claim is about real time")]
    let start = Instant::now();
    let refused = open(path, access, Engine::Auto);
    assert!(start.elapsed() < Duration::from_secs(1), "a refusal takes less than a second");
    match refused {
        Err(DeviceError::Locked { holder, .. }) => holder,
        other => panic!("this is in use: {other:?}"),
    }
}

#[test]
fn a_second_open_is_refused_under_every_name() {
    let directory = directory_on_disk();
    let path = file_of(&directory, SIZE);
    let (soft, hard) = (directory.path().join("soft"), directory.path().join("hard"));
    symlink(&path, &soft).expect("a symbolic link");
    fs::hard_link(&path, &hard).expect("a hard link");
    for engine in [Engine::Inline, Engine::Uring] {
        let _device = open(&path, Access::ReadWrite, engine).expect("nobody has it");
        for name in [&path, &soft, &hard] {
            assert_eq!(holder(name, Access::ReadWrite), "this process");
            assert_eq!(holder(name, Access::ReadOnly), "this process");
        }
    }
}

#[test]
fn readers_share_and_keep_writers_out() {
    let directory = directory_on_disk();
    let path = file_of(&directory, SIZE);
    let readers = [(); 3].map(|()| open(&path, Access::ReadOnly, Engine::Auto).expect("readers share"));
    assert_eq!(holder(&path, Access::ReadWrite), "this process");
    drop(readers);
    let writer = open_to_write(&path).expect("the readers are gone");
    assert_eq!(holder(&path, Access::ReadOnly), "this process");
    drop(writer);
}

#[test]
fn a_channel_keeps_the_lock_and_its_end_gives_it_back_at_once() {
    for (directory, engine) in [
        (directory_on_disk(), Engine::Inline),
        (directory_on_disk(), Engine::Uring),
        (directory_in_memory(), Engine::Mapped),
    ] {
        let path = file_of(&directory, SIZE);
        for round in 0..20 {
            let device = open(&path, Access::ReadWrite, engine).expect("the lock was given back");
            let mut channel = channel(&*device);
            drop(device);
            write(&mut *channel, 4096, &[round; 4096]).expect("a channel outlives its device");
            assert_eq!(holder(&path, Access::ReadWrite), "this process");
        }
    }
}

#[test]
fn another_process_is_named() {
    if let Some(path) = child::path_from_parent() {
        hold(&path);
        return;
    }
    let directory = directory_on_disk();
    let path = file_of(&directory, SIZE);
    let (mut child, _output) = holding_child("lock::another_process_is_named", &path);
    let named = holder(&path, Access::ReadWrite);
    assert!(named.starts_with(&format!("process {} (", child.id())), "{named}");
    // The child's input ends, and so does the child.
    drop(child.stdin.take());
    assert!(child.wait().expect("the child").success());
    open_to_write(&path).expect("the child is gone");
}

/// The lock outlasts a killed process for as long as its last writes do, and not longer.
#[test]
fn a_killed_process_is_outwaited_and_writes_nothing_afterwards() {
    if let Some(path) = child::path_from_parent() {
        write_for_ever(&path);
        return;
    }
    let directory = directory_on_disk();
    let path = file_of(&directory, SIZE);
    for _ in 0..3 {
        let test = "lock::a_killed_process_is_outwaited_and_writes_nothing_afterwards";
        let (mut child, _output) = holding_child(test, &path);
        child.kill().expect("the child runs");
        let device = open_to_write(&path).expect("the dead hold no lock for long");
        let mut channel = channel(&*device);
        for offset in (0..SIZE).step_by(1 << 20) {
            write(&mut *channel, offset, &[0x11; 1 << 20]).expect("writing");
        }
        child.wait().expect("the child is dead");
        for offset in (0..SIZE).step_by(1 << 20) {
            assert!(read(&mut *channel, offset, 1 << 20).expect("reading").iter().all(|byte| *byte == 0x11));
        }
    }
}

/// A child that has said that it has the device, and its output, which must stay open.
fn holding_child(test: &str, path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut command = child::command(test, path.as_os_str());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child process");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let found = output.by_ref().lines().map_while(Result::ok).any(|line| line.contains("holding"));
    assert!(found, "the child did not get the device");
    (child, output)
}

fn hold(path: &Path) {
    let device = open_to_write(path).expect("nobody has it");
    println!("holding");
    let rest = std::io::stdin().read_to_end(&mut Vec::new());
    assert!(rest.is_ok() && device.size() == SIZE);
}

fn write_for_ever(path: &Path) {
    let device = open(path, Access::ReadWrite, Engine::Uring).expect("nobody has it");
    let mut channel = device.open_channel(64).expect("a channel");
    let mut queue = VecDeque::new();
    let mut done = Vec::new();
    for round in 0_u64.. {
        let offset = round % 64 * (1 << 20);
        let buffer = Buffer::from_slice(&[0x99; 1 << 20]);
        let operation = Operation::Write { offset, buffer, durability: Durability::Cached };
        queue.push_back(Submission { token: Token(round), operation });
        channel.submit(&mut queue);
        if queue.is_empty() {
            continue;
        }
        if round == 64 {
            println!("holding");
        }
        while !queue.is_empty() {
            channel.wait(Duration::from_secs(1)).expect("waiting");
            done.clear();
            channel.poll(&mut done);
            channel.submit(&mut queue);
        }
    }
}
