//! Block devices, on a loop device.

use crate::drive::{channel, directory_on_disk, file_of, flush, open, read, run, write};
use crate::loop_device::{self, LoopDevice};
use blockstore::{Access, DeviceError, Engine, IoError, Operation};
use std::fs::File;
use std::process::Command;

const SIZE: u64 = 4 << 20;

#[test]
fn a_block_device_is_a_device() {
    if !loop_device::can_be_had("a block device is a device") {
        return;
    }
    let directory = directory_on_disk();
    let disk = LoopDevice::over(&file_of(&directory, SIZE));
    for engine in [Engine::Auto, Engine::Uring, Engine::Inline] {
        let device = open(disk.path(), Access::ReadWrite, engine).expect("a block device");
        assert_eq!(device.size(), SIZE);
        assert!(!device.bears_changing_memory(), "a long write of memory that is gone would be its failure");
        let mut channel = channel(&*device);
        write(&mut *channel, 0, &[8; 1 << 16]).expect("writing");
        assert_eq!(run(&mut *channel, Operation::WriteZeroes { offset: 4096, length: 8192 }).0, Ok(()));
        assert_eq!(run(&mut *channel, Operation::Allocate { offset: 0, length: SIZE }).0, Ok(()));
        let mut expected = vec![8; 1 << 16];
        expected[4096..12288].fill(0);
        if device.discard_granularity().is_some() {
            assert_eq!(run(&mut *channel, Operation::Discard { offset: 16384, length: 16384 }).0, Ok(()));
            expected[16384..32768].fill(0);
        }
        assert_eq!(flush(&mut *channel), Ok(()));
        assert_eq!(read(&mut *channel, 0, 1 << 16), Ok(expected));
        assert_eq!(run(&mut *channel, Operation::Resize { length: 2 * SIZE }).0, Err(IoError::Unsupported));
        assert_eq!(flush(&mut *channel), Ok(()), "a refusal is no failure of the medium");
        match open(disk.path(), Access::ReadWrite, engine) {
            Err(DeviceError::Locked { holder, .. }) => assert_eq!(holder, "this process"),
            other => panic!("this is in use: {other:?}"),
        }
    }
}

#[test]
fn a_block_device_that_others_made_longer_takes_its_new_size() {
    if !loop_device::can_be_had("a block device that others made longer") {
        return;
    }
    let directory = directory_on_disk();
    let file = file_of(&directory, SIZE);
    let disk = LoopDevice::over(&file);
    for (engine, size) in [(Engine::Uring, SIZE), (Engine::Inline, 2 * SIZE)] {
        let device = open(disk.path(), Access::ReadWrite, engine).expect("a block device");
        let mut channel = channel(&*device);
        let resize = |length| Operation::Resize { length };
        assert_eq!(run(&mut *channel, resize(2 * size)).0, Err(IoError::Unsupported), "it is not longer yet");
        File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_len(2 * size))
            .expect("a longer file");
        let told = Command::new("losetup").arg("--set-capacity").arg(disk.path()).status();
        assert!(told.is_ok_and(|status| status.success()));
        assert_eq!((device.size(), write(&mut *channel, size, &[1; 4096])), (size, Err(IoError::OutOfRange)));
        assert_eq!(run(&mut *channel, resize(3 * size)).0, Err(IoError::Unsupported));
        assert_eq!((run(&mut *channel, resize(2 * size)).0, device.size()), (Ok(()), 2 * size));
        assert_eq!(write(&mut *channel, 2 * size - 4096, &[1; 4096]), Ok(()));
        assert_eq!(flush(&mut *channel), Ok(()));
    }
}
