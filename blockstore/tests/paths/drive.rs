//! Small helpers: files to open, and one operation at a time.

use blockstore::{
    Access, Buffer, Device, DeviceError, Durability, Engine, IoChannel, IoError, OpenOptions, Operation,
    Submission, Token,
};
use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Waits for one operation, of a tenth of a second each, until it counts as hanging.
const WAITS_MAX: u32 = 600;

pub(crate) fn directory_on_disk() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

pub(crate) fn directory_in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs")
}

/// A sparse file of this length in the directory.
pub(crate) fn file_of(directory: &TempDir, length: u64) -> PathBuf {
    let path = directory.path().join("disk");
    File::create(&path).and_then(|file| file.set_len(length)).expect("a file");
    path
}

pub(crate) fn open(path: &Path, access: Access, engine: Engine) -> Result<Arc<dyn Device>, DeviceError> {
    blockstore::open(path, &OpenOptions { access, engine })
}

pub(crate) fn open_to_write(path: &Path) -> Result<Arc<dyn Device>, DeviceError> {
    blockstore::open(path, &OpenOptions::default())
}

pub(crate) fn channel(device: &dyn Device) -> Box<dyn IoChannel> {
    device.open_channel(8).expect("a channel")
}

pub(crate) fn run(
    channel: &mut dyn IoChannel,
    operation: Operation,
) -> (Result<(), IoError>, Option<Buffer>) {
    let mut queue = VecDeque::from([Submission { token: Token(0), operation }]);
    channel.submit(&mut queue);
    let mut done = Vec::new();
    for _ in 0..WAITS_MAX {
        if channel.poll(&mut done) > 0 {
            let completion = done.remove(0);
            return (completion.result, completion.buffer);
        }
        channel.wait(Duration::from_millis(100)).expect("waiting");
    }
    panic!("an operation never completes");
}

pub(crate) fn read(channel: &mut dyn IoChannel, offset: u64, length: usize) -> Result<Vec<u8>, IoError> {
    let (result, buffer) = run(channel, Operation::Read { offset, buffer: Buffer::zeroed(length) });
    result.map(|()| buffer.expect("a read gives its buffer back").to_vec())
}

pub(crate) fn write(channel: &mut dyn IoChannel, offset: u64, bytes: &[u8]) -> Result<(), IoError> {
    let buffer = Buffer::from_slice(bytes);
    run(channel, Operation::Write { offset, buffer, durability: Durability::Cached }).0
}

pub(crate) fn flush(channel: &mut dyn IoChannel) -> Result<(), IoError> {
    run(channel, Operation::Flush).0
}
