//! What the program and its children have used of the machine, as the kernel counted it.

use std::time::{Duration, Instant};

/// Of the program, and of any child of its own, in KiB.
const RESIDENT_KIB_MAX: i64 = 320 << 10;
/// For anything that ends in an error.
const TIME_MAX: Duration = Duration::from_secs(30);

/// The largest of all processes that this one and its children have waited for, in KiB.
fn peak_resident_kib() -> i64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the pointer is to memory for one such record.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    assert_eq!(result, 0);
    // SAFETY: the call has filled the record.
    unsafe { usage.assume_init() }.ru_maxrss
}

#[track_caller]
pub(crate) fn assert_modest() {
    let peak = peak_resident_kib();
    assert!(peak < RESIDENT_KIB_MAX, "a process had {peak} KiB of memory");
}

/// Runs it, and sees that neither it nor a child takes much of memory or time.
#[track_caller]
pub(crate) fn modestly<T>(run: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = run();
    let took = begun.elapsed();
    assert!(took < TIME_MAX, "it took {took:?}");
    assert_modest();
    result
}
