//! What can be opened, and the one clear error for each thing that cannot.

use crate::drive::{
    channel, directory_in_memory, directory_on_disk, file_of, open, open_to_write, read, run, write,
};
use blockstore::{Access, DeviceError, Engine, IoError, Operation};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

const SIZE: u64 = 1 << 20;

fn refusal(path: &Path) -> DeviceError {
    open_to_write(path).expect_err("this cannot be opened")
}

#[test]
fn only_files_and_block_devices_are_opened() {
    let directory = directory_on_disk();
    let pipe = directory.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let socket = directory.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let cases = [
        (directory.path(), "a directory"),
        (&pipe, "a pipe"),
        (&socket, "a socket"),
        (Path::new("/dev/null"), "a character device"),
    ];
    for (path, expected) in cases {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            match open(path, access, Engine::Auto) {
                Err(DeviceError::NotADisk { kind, .. }) => assert_eq!(kind, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_is_not_there_is_not_found_and_not_made() {
    let directory = directory_on_disk();
    let path = directory.path().join("missing");
    assert!(matches!(refusal(&path), DeviceError::NotFound(_)));
    let dangling = directory.path().join("dangling");
    symlink(&path, &dangling).expect("a symbolic link");
    assert!(matches!(refusal(&dangling), DeviceError::NotFound(_)));
    assert!(!path.exists());
}

#[test]
fn a_size_that_is_no_multiple_of_4096_is_refused() {
    let directory = directory_on_disk();
    for length in [1, 512, 4095, SIZE + 2048] {
        let path = file_of(&directory, length);
        match refusal(&path) {
            DeviceError::Size { size, alignment, .. } => assert_eq!((size, alignment), (length, 4096)),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::metadata(&path).expect("the file stays").len(), length);
    }
}

#[test]
fn a_file_nobody_may_open_is_a_matter_of_permission() {
    let directory = directory_on_disk();
    let path = file_of(&directory, SIZE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("the file's owner");
    match open_to_write(&path) {
        Err(DeviceError::Permission(refused)) => assert_eq!(refused, path),
        // The superuser may.
        Ok(_) if rustix::process::geteuid().is_root() => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_open_for_reading_changes_nothing() {
    for (directory, engine) in [
        (directory_on_disk(), Engine::Inline),
        (directory_on_disk(), Engine::Uring),
        (directory_in_memory(), Engine::Mapped),
    ] {
        let path = file_of(&directory, SIZE);
        fs::write(&path, vec![0x33; 1 << 20]).expect("contents");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("the file's owner");
        let device = open(&path, Access::ReadOnly, engine).expect("reading is allowed");
        assert!(device.is_read_only() && device.discard_granularity().is_none());
        let mut channel = channel(&*device);
        assert_eq!(read(&mut *channel, 4096, 8192), Ok(vec![0x33; 8192]));
        assert_eq!(write(&mut *channel, 0, &[1; 4096]), Err(IoError::ReadOnly));
        for operation in [
            Operation::WriteZeroes { offset: 0, length: 4096 },
            Operation::Discard { offset: 0, length: 4096 },
            Operation::Allocate { offset: 0, length: 4096 },
            Operation::Resize { length: 0 },
        ] {
            assert_eq!(run(&mut *channel, operation).0, Err(IoError::ReadOnly));
        }
        assert_eq!(run(&mut *channel, Operation::Flush).0, Ok(()));
        assert_eq!(fs::read(&path).expect("the file"), vec![0x33; 1 << 20]);
    }
}

#[test]
fn the_engine_suits_the_medium() {
    let disk = directory_on_disk();
    let memory = directory_in_memory();
    let engine =
        |path: &Path, engine| format!("{:?}", open(path, Access::ReadWrite, engine).expect("a device"));
    assert!(engine(&file_of(&memory, SIZE), Engine::Auto).ends_with("inline)"), "io_uring has workers there");
    assert!(engine(&file_of(&disk, SIZE), Engine::Auto).ends_with("uring)"));
    assert!(engine(&file_of(&disk, SIZE), Engine::Inline).ends_with("inline)"));
    assert!(engine(&file_of(&memory, SIZE), Engine::Mapped).ends_with("mapped)"));
    let refused = open(&file_of(&disk, SIZE), Access::ReadWrite, Engine::Mapped);
    assert!(matches!(refused, Err(DeviceError::NotMemory(_))));
}

#[test]
fn a_device_without_bytes_can_be_opened_and_grown() {
    for engine in [Engine::Inline, Engine::Uring, Engine::Mapped] {
        let directory = directory_in_memory();
        let device = open(&file_of(&directory, 0), Access::ReadWrite, engine).expect("an empty device");
        let mut channel = channel(&*device);
        assert_eq!(read(&mut *channel, 0, 4096), Err(IoError::OutOfRange));
        assert_eq!(run(&mut *channel, Operation::Resize { length: SIZE }).0, Ok(()));
        assert_eq!(write(&mut *channel, SIZE - 4096, &[9; 4096]), Ok(()));
        assert_eq!(read(&mut *channel, SIZE - 4096, 4096), Ok(vec![9; 4096]));
    }
}
