//! Memory that its owner goes on writing to while a device transfers it, as a guest may do with a buffer it has given away.

use crate::drive::{channel, directory_in_memory, directory_on_disk, file_of, flush, open, read, run};
use blockstore::{Access, Durability, Engine, Loan, Operation};
use memmap2::{MmapOptions, MmapRaw};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;

const BYTES: usize = 64 << 10;
const WRITES: usize = 100;
/// How often every byte changes at most; far more often than the writes take time for.
const CHANGES_MAX: usize = 200_000;

/// Changes every byte from one to the other and back, until it is told to stop.
fn keep_changing(memory: &MmapRaw, stop: &AtomicBool) {
    let start = memory.as_mut_ptr();
    for value in [0x11, 0x22].into_iter().cycle().take(CHANGES_MAX) {
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
            // Nobody lends it any: its file system or its disk makes sums of what it gets, or has it copied by the kernel.
            assert!(path.starts_with(env!("CARGO_TARGET_TMPDIR")));
            continue;
        }
        let memory = Arc::new(MmapOptions::new().len(BYTES).map_anon().map(MmapRaw::from).expect("memory"));
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
        assert!(written.iter().all(|byte| [0, 0x11, 0x22].contains(byte)), "bytes nobody has written");
    }
}
