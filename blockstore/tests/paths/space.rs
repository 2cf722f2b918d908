//! A full file system, and a limit on the size of files: `OutOfSpace`, no signal, and everything else goes on.

use crate::child;
use crate::drive::{channel, directory_on_disk, file_of, flush, open, read, run, write};
use blockstore::{Access, Engine, IoChannel, IoError, Operation};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::process::Command;

const SIZE: u64 = 4 << 20;
const FULL: Result<(), IoError> = Err(IoError::OutOfSpace);
const ENGINES: [Engine; 3] = [Engine::Inline, Engine::Uring, Engine::Mapped];

#[test]
fn a_limit_on_the_size_of_files_is_a_lack_of_space() {
    if let Some(path) = child::path_from_parent() {
        for engine in [Engine::Inline, Engine::Uring] {
            let device = open(&path, Access::ReadWrite, engine).expect("a device");
            let mut channel = channel(&*device);
            assert_eq!(write(&mut *channel, SIZE - 4096, &[1; 4096]), FULL, "{engine:?}");
            assert_eq!(run(&mut *channel, Operation::Resize { length: 2 * SIZE }).0, FULL, "{engine:?}");
            assert_eq!(device.size(), SIZE);
            assert_eq!(write(&mut *channel, 0, &[2; 4096]), Ok(()), "{engine:?}");
            assert_eq!(flush(&mut *channel), Ok(()), "no flush is lost with it");
            assert_eq!(read(&mut *channel, SIZE - 4096, 4096), Ok(vec![0; 4096]));
        }
        return;
    }
    let directory = directory_on_disk();
    let path = file_of(&directory, SIZE);
    let test = "space::a_limit_on_the_size_of_files_is_a_lack_of_space";
    child::succeed(child::prepared_command(&["sh"], "trap '' XFSZ && ulimit -f 512", test, path.as_os_str()));
}

/// Needs a mount of its own, so it runs where the kernel lets this user have one.
#[test]
fn a_full_file_system_in_memory_ends_nothing() {
    if let Some(directory) = child::path_from_parent() {
        for engine in ENGINES {
            let path = directory.join("disk");
            File::create(&path).and_then(|file| file.set_len(SIZE)).expect("a sparse file");
            fill_up(engine, path.as_os_str());
            fs::remove_file(&path).expect("the file");
        }
        return;
    }
    let launcher = ["unshare", "--mount", "--map-root-user", "sh"];
    let probe = Command::new(launcher[0]).args(&launcher[1..3]).arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("no mounts for this user here: the limit on the size of files has to do");
        return;
    }
    let directory = directory_on_disk();
    let mount = "mount -t tmpfs -o size=1m tmpfs \"$path\"";
    let test = "space::a_full_file_system_in_memory_ends_nothing";
    child::succeed(child::prepared_command(&launcher, mount, test, directory.path().as_os_str()));
}

fn fill_up(engine: Engine, path: &OsStr) {
    let device = open(path.as_ref(), Access::ReadWrite, engine).expect("a device");
    let mut channel = channel(&*device);
    let channel = &mut *channel;
    let allocate = |offset, length| Operation::Allocate { offset, length };
    assert_eq!(run(channel, allocate(0, SIZE)).0, FULL, "{engine:?}");
    assert_eq!(run(channel, allocate(0, 65536)).0, Ok(()));
    assert_eq!(write(channel, 0, &[7; 65536]), Ok(()), "an allocated range has its place");
    let written = write_until_full(channel);
    assert!(written > 65536, "{engine:?}");
    assert_eq!(write(channel, 0, &[8; 65536]), Ok(()), "what has its place can be overwritten");
    assert_eq!(read(channel, 0, 65536), Ok(vec![8; 65536]));
    // A hole takes no place when it is read, and one that finds no place when it is written changes nothing.
    assert_eq!(read(channel, SIZE - 65536, 65536), Ok(vec![0; 65536]));
    assert_eq!(write(channel, SIZE - 65536, &[9; 65536]), FULL);
    assert_eq!(run(channel, Operation::WriteZeroes { offset: SIZE - 65536, length: 65536 }).0, FULL);
    assert_eq!(flush(channel), Ok(()), "no flush is lost with it");
    assert_eq!(run(channel, Operation::Discard { offset: 65536, length: 65536 }).0, Ok(()));
    assert_eq!(write(channel, SIZE - 65536, &[9; 65536]), Ok(()), "the discarded place serves another range");
    assert_eq!(write(channel, 65536, &[9; 65536]), FULL, "and its own range has none any more");
}

/// Writes a run of 64 KiB pieces; the first that finds no place ends it.
fn write_until_full(channel: &mut dyn IoChannel) -> u64 {
    for offset in (65536..SIZE).step_by(65536) {
        match write(channel, offset, &[7; 65536]) {
            Ok(()) => assert_eq!(read(channel, offset, 65536), Ok(vec![7; 65536])),
            failed => {
                assert_eq!(failed, FULL);
                return offset;
            }
        }
    }
    panic!("a file system of 1 MiB takes {SIZE} bytes");
}
