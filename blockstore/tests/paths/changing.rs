//! Memory that its owner goes on writing to while a device transfers it, as a guest may do with a buffer it has given away.

use crate::drive::{
    channel, directory_in_memory, directory_on_disk, file_of, flush, open, open_to_write, read, run,
};
use blockstore::{Access, Durability, Engine, Loan, Operation};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{major, minor, statfs};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use tempfile::TempDir;

const BYTES: usize = 64 << 10;
const WRITES: usize = 100;
/// A bound only: the writes end long before.
const CHANGES_MAX: usize = 200_000;
const VALUES: [u8; 2] = [0x11, 0x22];

/// Changes every byte from one value to the other and back, until it is told to stop.
fn keep_changing(memory: &MmapRaw, stop: &AtomicBool) {
    let start = memory.as_mut_ptr();
    for value in VALUES.into_iter().cycle().take(CHANGES_MAX) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        for at in 0..BYTES {
            // SAFETY: the map is as long as that and exists as long as the borrow; nobody refers to its bytes.
            let byte = unsafe { AtomicU8::from_ptr(start.wrapping_add(at)) };
            byte.store(value, Ordering::Relaxed);
        }
    }
}

#[test]
fn memory_that_changes_while_it_is_written_costs_nothing_but_its_own_bytes() {
    for (directory, engine) in [
        (directory_on_disk(), Engine::Inline),
        (directory_on_disk(), Engine::Uring),
        (directory_in_memory(), Engine::Uring),
        (directory_in_memory(), Engine::Mapped),
    ] {
        let path = file_of(&directory, 1 << 20);
        let device = open(&path, Access::ReadWrite, engine).expect("a device");
        if !device.bears_changing_memory() {
            // Nobody lends it any.
            continue;
        }
        let mut memory = MmapOptions::new().len(BYTES).map_anon().expect("memory");
        memory.fill(VALUES[0]);
        let memory = Arc::new(MmapRaw::from(memory));
        let start = NonNull::new(memory.as_mut_ptr()).expect("it is mapped");
        // SAFETY: the map exists as long as its owner, and only pointers lead to it.
        let loan = unsafe { Loan::new(start, BYTES, memory.clone()) };
        let (mut channel, stop) = (channel(&*device), AtomicBool::new(false));
        let results: Vec<_> = thread::scope(|scope| {
            scope.spawn(|| keep_changing(&memory, &stop));
            let write = |number| {
                let buffer = loan.buffer(0, BYTES).expect("inside");
                let durability = if number % 10 == 0 { Durability::Through } else { Durability::Cached };
                run(&mut *channel, Operation::Write { offset: 0, buffer, durability }).0
            };
            let results = (0..WRITES).map(write).collect();
            stop.store(true, Ordering::Relaxed);
            results
        });
        assert_eq!(results, [Ok(()); WRITES], "{device:?}");
        assert_eq!(flush(&mut *channel), Ok(()));
        let written = read(&mut *channel, 0, BYTES).expect("reading");
        assert!(written.iter().all(|byte| VALUES.contains(byte)), "bytes that never were there");
    }
}

/// The disk of the directory is one that the kernel may give changing pages to, and made of no others, as `/sys` has it.
fn is_plain(directory: &Path) -> bool {
    let number = fs::metadata(directory).expect("it is there").dev();
    let disk = PathBuf::from(format!("/sys/dev/block/{}:{}", major(number), minor(number)));
    let disk = if disk.join("partition").exists() { disk.join("..") } else { disk };
    let is_alone = fs::read_dir(disk.join("slaves")).is_ok_and(|entries| entries.count() == 0)
        && !disk.join("loop").exists();
    is_alone && fs::read_to_string(disk.join("queue/stable_writes")).is_ok_and(|text| text == "0\n")
}

#[test]
fn only_memory_and_plain_disks_with_ext_file_systems_are_lent_memory_that_changes() {
    let (disk, memory) = (directory_on_disk(), directory_in_memory());
    let bears = |directory: &TempDir| {
        open_to_write(&file_of(directory, 1 << 20))
            .map(|device| (device.bears_changing_memory(), device.works_alone()))
    };
    assert_eq!(bears(&memory).expect("a device"), (true, false));
    let (is_lent, is_direct) = bears(&disk).expect("a device");
    let is_ext = statfs(disk.path()).expect("a file system").f_type == 0xef53;
    assert_eq!(is_lent, is_direct && is_ext && is_plain(disk.path()));
}
