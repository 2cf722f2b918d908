//! B9 on real files, and kernels without io_uring: calls that fail in one thread only.

use crate::denied::with_failing;
use crate::drive::{
    channel, directory_in_memory, directory_on_disk, file_of, flush, open, open_to_write, read, run, write,
};
use blockstore::{Access, DeviceError, Durability, Engine, IoError, Loan, Operation};
use memmap2::{MmapOptions, MmapRaw};
use std::ptr::NonNull;
use std::sync::Arc;

const SIZE: u64 = 1 << 20;
const WRITES: [libc::c_long; 2] = [libc::SYS_pwrite64, libc::SYS_pwritev2];

#[test]
fn after_a_failed_flush_no_flush_succeeds_until_the_device_is_opened_anew() {
    for (directory, engine) in
        [(directory_on_disk(), Engine::Inline), (directory_in_memory(), Engine::Mapped)]
    {
        let path = file_of(&directory, SIZE);
        let device = open(&path, Access::ReadWrite, engine).expect("a device");
        let mut early = channel(&*device);
        assert_eq!(flush(&mut *early), Ok(()));
        let failed = with_failing(&[libc::SYS_fdatasync], libc::EIO, || flush(&mut *channel(&*device)));
        assert_eq!(failed, Err(IoError::EIO));
        for _ in 0..2 {
            // The kernel would say yes.
            assert_eq!(flush(&mut *early), Err(IoError::FlushFailed));
            assert_eq!(flush(&mut *channel(&*device)), Err(IoError::FlushFailed));
        }
        assert_eq!(write(&mut *early, 0, &[5; 4096]), Ok(()));
        assert_eq!(read(&mut *early, 0, 4096), Ok(vec![5; 4096]));
        drop((early, device));
        let device = open(&path, Access::ReadWrite, engine).expect("a device");
        assert_eq!(flush(&mut *channel(&*device)), Ok(()));
    }
}

#[test]
fn after_a_failed_write_no_flush_succeeds() {
    let directory = directory_on_disk();
    let device = open(&file_of(&directory, SIZE), Access::ReadWrite, Engine::Inline).expect("a device");
    let failed = with_failing(&WRITES, libc::EIO, || write(&mut *channel(&*device), 0, &[1; 4096]));
    assert_eq!(failed, Err(IoError::EIO));
    assert_eq!(flush(&mut *channel(&*device)), Err(IoError::FlushFailed));
}

#[test]
fn a_full_medium_or_a_failed_read_costs_no_trust() {
    let directory = directory_on_disk();
    let device = open(&file_of(&directory, SIZE), Access::ReadWrite, Engine::Inline).expect("a device");
    let full = with_failing(&WRITES, libc::ENOSPC, || write(&mut *channel(&*device), 0, &[1; 4096]));
    assert_eq!(full, Err(IoError::OutOfSpace));
    let failed = with_failing(&[libc::SYS_pread64], libc::EIO, || read(&mut *channel(&*device), 0, 4096));
    assert_eq!(failed, Err(IoError::EIO));
    assert_eq!(flush(&mut *channel(&*device)), Ok(()));
}

#[test]
fn where_ranges_cannot_be_zeroed_zeros_are_written() {
    let directory = directory_on_disk();
    let device = open(&file_of(&directory, 4 * SIZE), Access::ReadWrite, Engine::Inline).expect("a device");
    let mut channel = channel(&*device);
    for offset in (0..4 * SIZE).step_by(1 << 20) {
        write(&mut *channel, offset, &[6; 1 << 20]).expect("writing");
    }
    let done = with_failing(&[libc::SYS_fallocate], libc::EOPNOTSUPP, || {
        let mut denied = device.open_channel(4).expect("a channel");
        let length = 4 * SIZE - 8192;
        let zeroed = run(&mut *denied, Operation::WriteZeroes { offset: 4096, length }).0;
        let discarded = run(&mut *denied, Operation::Discard { offset: 0, length: 4096 }).0;
        (zeroed, discarded, flush(&mut *denied))
    });
    assert_eq!(done, (Ok(()), Err(IoError::Unsupported), Ok(())));
    let length = usize::try_from(4 * SIZE - 8192).expect("a small device");
    assert_eq!(read(&mut *channel, 0, 4096), Ok(vec![6; 4096]));
    assert!(read(&mut *channel, 4096, length).expect("reading").iter().all(|byte| *byte == 0));
    assert_eq!(read(&mut *channel, 4 * SIZE - 4096, 4096), Ok(vec![6; 4096]));
}

/// As when a monitor cuts the file that is its guest's memory: that is no fault of the device.
#[test]
fn lent_memory_that_is_gone_is_an_error_of_its_own_request_only() {
    const LONG: usize = 2 << 20;
    // All of a block, and the end of what the kernel hands to a disk in several parts.
    let cases = [(4096, 0), (LONG, 1 << 20)];
    for (engine, (length, left)) in
        [Engine::Inline, Engine::Uring].into_iter().flat_map(|engine| cases.map(|case| (engine, case)))
    {
        let directory = directory_on_disk();
        let device = open(&file_of(&directory, 2 * SIZE), Access::ReadWrite, engine).expect("a device");
        let lender = tempfile::tempfile_in("/dev/shm").expect("a file");
        lender.set_len(2 * SIZE).expect("its length");
        let memory: Arc<MmapRaw> = Arc::new(MmapOptions::new().len(length).map_raw(&lender).expect("a map"));
        let start = NonNull::new(memory.as_mut_ptr()).expect("it is mapped");
        // SAFETY: the map exists as long as its owner, and only pointers lead to it.
        let loan = unsafe { Loan::new(start, length, memory.clone()) };
        lender.set_len(left).expect("nobody has sealed it");
        let mut channel = channel(&*device);
        let buffer = || loan.buffer(0, length).expect("inside");
        let durability = Durability::Cached;
        let write_of = Operation::Write { offset: 0, buffer: buffer(), durability };
        assert_eq!(run(&mut *channel, write_of).0, Err(IoError::BadMemory));
        assert_eq!(write(&mut *channel, 4096, &[1; 4096]), Ok(()));
        let read_of = Operation::Read { offset: 0, buffer: buffer() };
        assert_eq!(run(&mut *channel, read_of).0, Err(IoError::BadMemory));
        assert_eq!(flush(&mut *channel), Ok(()));
    }
}

#[test]
fn a_file_system_without_holes_is_a_device_without_discards() {
    let directory = directory_on_disk();
    let path = file_of(&directory, SIZE);
    let device =
        with_failing(&[libc::SYS_fallocate], libc::EOPNOTSUPP, || open_to_write(&path).expect("a device"));
    assert_eq!(device.discard_granularity(), None);
    let discard = Operation::Discard { offset: 0, length: 4096 };
    assert_eq!(run(&mut *channel(&*device), discard).0, Err(IoError::Unsupported));
}

#[test]
fn a_kernel_that_forbids_io_uring_is_served_without() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let directory = directory_on_disk();
        let path = file_of(&directory, SIZE);
        with_failing(&[libc::SYS_io_uring_setup], errno, || {
            match open(&path, Access::ReadWrite, Engine::Uring) {
                Err(DeviceError::UringUnavailable(source)) => assert_eq!(source.raw_os_error(), Some(errno)),
                other => panic!("{other:?}"),
            }
            let device = open_to_write(&path).expect("there is another way");
            assert!(format!("{device:?}").ends_with("inline)"));
            let mut channel = channel(&*device);
            assert_eq!(write(&mut *channel, 0, &[3; 4096]), Ok(()));
            assert_eq!((flush(&mut *channel), channel.descriptor().is_none()), (Ok(()), true));
        });
    }
}

/// As where the limit on locked memory or on descriptors is reached.
#[test]
fn a_channel_for_which_no_ring_is_left_is_served_without() {
    let directory = directory_on_disk();
    let device = open_to_write(&file_of(&directory, SIZE)).expect("a device");
    assert_eq!(write(&mut *channel(&*device), 0, &[1; 4096]), Ok(()));
    with_failing(&[libc::SYS_io_uring_setup], libc::ENOMEM, || {
        let mut channel = channel(&*device);
        assert!(channel.descriptor().is_none());
        assert_eq!(read(&mut *channel, 0, 4096), Ok(vec![1; 4096]));
    });
}
