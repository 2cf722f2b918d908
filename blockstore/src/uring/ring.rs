//! A small typed ring: it owns every flight, and so its buffer, from the moment the kernel is told of it until the
//! kernel has answered. The only unsafe code of the io_uring engine is here.
//!
//! Invariants: each occupied slot has exactly one entry that the kernel has not answered, with the slot's number as
//! its user data. There are no more slots than entries in the submission queue, and twice as many in the completion
//! queue, so neither overflows.

use super::Flight;
use crate::buffer::arena::{self, Arena};
use crate::error::IoError;
use crate::file::progress::Step;
use crate::file::{MediumKind, ZEROS};
use crate::operation::{Durability, Operation};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How often in a row the kernel may be too busy to take entries, before the rest waits for the next call.
const BUSY_RETRIES_MAX: u32 = 16;
/// Of the kernel, for one that submits to a file in memory.
const COPYING_THREADS_MAX: u32 = 2;
/// Longer writes of a file in memory are tried in the submitter: those that are left to threads at once are begun side by side, and
/// spin for the file's lock as long as one of them has it. Bytes.
const ASYNC_WRITE_MAX: usize = 64 << 10;
/// Where the kernel's table of this ring has the file itself, and the file as the flushes see it.
const DATA_FILE: Fd = Fd(0);
const SYNC_FILE: Fd = Fd(1);
/// Where the kernel's table of this ring has the arena.
const ARENA: u16 = 0;

pub(super) struct Ring {
    ring: IoUring,
    slots: Box<[Option<Flight>]>,
    free: Vec<usize>,
    /// Memory that is registered; nothing where the kernel would not have it.
    arena: Option<&'static Arena>,
    /// Of every step but long writes ([`ASYNC_WRITE_MAX`]).
    flags: Flags,
    is_held_up: bool,
}

impl Ring {
    pub(super) fn new(depth: usize, file: &File, medium: MediumKind) -> io::Result<Self> {
        let ring = build(depth.next_power_of_two())?;
        let sync_file = own_view(file)?;
        ring.submitter().register_files(&[file.as_raw_fd(), sync_file.as_raw_fd()])?;
        let slots = std::iter::repeat_with(|| None).take(depth).collect();
        let arena = register_arena(&ring);
        let flags = match medium {
            MediumKind::Memory => flags(&ring, file),
            MediumKind::Dax | MediumKind::Disk => Flags::FIXED_FILE,
        };
        if flags.contains(Flags::ASYNC) {
            bound_threads(&ring);
        }
        Ok(Self { ring, slots, free: (0..depth).rev().collect(), arena, flags, is_held_up: false })
    }

    pub(super) fn probe() -> io::Result<()> {
        build(1).map(drop)
    }

    /// Flights that have not landed.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Queues the flight's next step; `send` tells the kernel. There must be fewer flights than the ring's depth.
    pub(super) fn start(&mut self, flight: Flight) {
        let slot = self.free.pop().expect("the channel's depth is the ring's");
        let flight = self.slots[slot].insert(flight);
        let user_data = u64::try_from(slot).expect("a slot's number");
        let entry = entry(flight, self.arena, self.flags).user_data(user_data);
        // SAFETY: the memory that the entry names is the buffer of the flight in the slot, or the static zeros. The
        // flight stays in the slot, and nobody else can reach its buffer, until `land` has seen the kernel's answer;
        // where that can not be waited for, `drop` leaks it. A read's buffer is exclusively the flight's, or lent and
        // referred to by nobody.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the submission queue has an entry for each slot");
    }

    /// Hands queued entries to the kernel, all of them unless it is too busy; then the next call tries again.
    pub(super) fn send(&mut self) {
        let mut retries = 0;
        while self.unsent() > 0 && retries < BUSY_RETRIES_MAX {
            if !matches!(self.ring.submit(), Ok(taken) if taken > 0) {
                retries += 1;
            }
        }
        self.is_held_up = self.unsent() > 0;
    }

    /// The kernel was too busy to take all: nobody is told when it is not any more.
    pub(super) fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    /// Makes what has completed visible to `land`, without blocking.
    pub(super) fn gather(&mut self) {
        let queue = self.ring.submission();
        let has_work = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        if has_work {
            // Where the kernel is too busy or interrupted, the next call tries again.
            drop(self.ring.submit());
        }
    }

    /// Whether `land` has something.
    pub(super) fn has_landed(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Flights that the kernel has not answered.
    pub(super) fn under_way(&mut self) -> usize {
        self.in_flight() - self.ring.completion().len()
    }

    /// Entries the kernel has not taken yet.
    fn unsent(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// A flight whose step the kernel has answered.
    pub(super) fn land(&mut self) -> Option<(Flight, Result<usize, Errno>)> {
        let completion = self.ring.completion().next()?;
        let slot = usize::try_from(completion.user_data()).expect("user data is a slot's number");
        let flight = self.slots[slot].take().expect("the kernel answers an entry once");
        self.free.push(slot);
        let answer = completion.result();
        let answer = usize::try_from(answer).map_err(|_| Errno::from_raw_os_error(answer.saturating_neg()));
        Some((flight, answer))
    }

    /// Waits until a flight may land, for `timeout` at most; a signal ends it early.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<(), IoError> {
        if self.has_landed() {
            return Ok(());
        }
        let timeout = Timespec::from(timeout);
        match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout)) {
            Ok(_) => Ok(()),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY) => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    /// Readable while completions are there to be seen.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's own and open as long as the ring, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    /// Waits for every flight. Fails only if the kernel will not talk about this ring any more.
    fn drain(&mut self) -> io::Result<()> {
        while self.in_flight() > 0 {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
                    _ => return Err(error),
                },
            }
            while self.land().is_some() {}
        }
        Ok(())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.drain().is_err() {
            // The kernel may still write to these buffers, so their memory is never used again.
            std::mem::forget(std::mem::take(&mut self.slots));
        }
        // Lets go of the files now and not when the kernel gets to it. Where this fails, that is all that is lost.
        drop(self.ring.submitter().unregister_files());
    }
}

fn build(entries: usize) -> io::Result<IoUring> {
    let entries = u32::try_from(entries).expect("a depth is at most DEPTH_MAX");
    let ring = IoUring::builder()
        .dontfork()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .build(entries)
        // Kernels before 5.19 know no cooperative task running.
        .or_else(|_| IoUring::builder().dontfork().build(entries))?;
    let parameters = ring.params();
    if parameters.is_feature_ext_arg() && parameters.is_feature_nodrop() {
        return Ok(ring);
    }
    // Before 5.11 a wait cannot have a timeout of its own.
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// The file opened once more, for this channel's flushes only. The kernel tells a write-back error once to each open
/// file, so channels that shared one could take an error from each other (B9). Where the file cannot be opened again,
/// as after a change of user, they do share it; a failed flush is then still known to all who ask after its end.
fn own_view(file: &File) -> io::Result<OwnedFd> {
    match File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
        Ok(view) => Ok(view.into()),
        Err(_) => file.as_fd().try_clone_to_owned(),
    }
}

/// A limit on locked memory may forbid it (RLIMIT_MEMLOCK); transfers then pin their pages one by one.
fn register_arena(ring: &IoUring) -> Option<&'static Arena> {
    let arena = arena::establish();
    let (base, length) = arena.memory();
    let memory = [libc::iovec { iov_base: base.cast(), iov_len: length }];
    // SAFETY: the arena is never freed, and all that is transferred to it goes into buffers of flights.
    let registered = unsafe { ring.submitter().register_buffers(&memory) };
    registered.is_ok().then_some(arena)
}

/// Since Linux 6.5, the transfers of a file that knows none that do not wait, as of one on tmpfs, are made by the kernel's own threads;
/// unless it is told, it tries each of them in the submitter first. Before, it made them there.
fn flags(ring: &IoUring, file: &File) -> Flags {
    // Linux 6.10, the first of these that says so.
    let is_late = ring.params().is_feature_recvsend_bundle();
    let mut byte = [0];
    // A file that does know them may refuse this one for another reason.
    match preadv2(file, &mut [IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT) {
        Err(Errno::OPNOTSUPP) if is_late => Flags::FIXED_FILE | Flags::ASYNC,
        _ => Flags::FIXED_FILE,
    }
}

/// Threads that copy are never idle: more of them than keep up with one submitter only wait for each other. The bound is the calling
/// thread's, and that of whoever submits to the ring first. Where it cannot be set, they are more.
fn bound_threads(ring: &IoUring) {
    // Of the second kind are all steps that are marked: the kernel does not look at the file before a thread has them.
    drop(ring.submitter().register_iowq_max_workers(&mut [0, COPYING_THREADS_MAX]));
}

fn entry(flight: &mut Flight, arena: Option<&Arena>, flags: Flags) -> Entry {
    if flight.settled.is_some() {
        return opcode::Nop::new().build();
    }
    let step = flight.progress.step(&flight.submission.operation);
    let flags = match step {
        Step::Write { length, .. } | Step::WriteZeros { length, .. } if length > ASYNC_WRITE_MAX => {
            flags - Flags::ASYNC
        }
        _ => flags,
    };
    let entry = match (step, &mut flight.submission.operation) {
        (Step::Read { offset, skip, length }, Operation::Read { buffer, .. }) => {
            let start = buffer.pointer_to(skip, length).as_ptr();
            let (fixed, length) = (is_in(arena, start, length), call_length(length));
            if fixed {
                opcode::ReadFixed::new(DATA_FILE, start, length, ARENA).offset(offset).build()
            } else {
                opcode::Read::new(DATA_FILE, start, length).offset(offset).build()
            }
        }
        (Step::Write { offset, skip, length, durability }, Operation::Write { buffer, .. }) => {
            let start = buffer.pointer_to(skip, length).as_ptr();
            let durability = match durability {
                Durability::Cached => 0,
                Durability::Through => libc::RWF_DSYNC,
            };
            let (fixed, length) = (is_in(arena, start, length), call_length(length));
            if fixed {
                let write = opcode::WriteFixed::new(DATA_FILE, start, length, ARENA);
                write.offset(offset).rw_flags(durability).build()
            } else {
                opcode::Write::new(DATA_FILE, start, length).offset(offset).rw_flags(durability).build()
            }
        }
        (Step::WriteZeros { offset, length }, _) => {
            let zeros = &ZEROS[..length];
            opcode::Write::new(DATA_FILE, zeros.as_ptr(), call_length(length)).offset(offset).build()
        }
        (Step::Fallocate { mode, offset, length }, _) => {
            let mode = i32::try_from(mode.bits()).expect("the modes are small numbers");
            opcode::Fallocate::new(DATA_FILE, length).offset(offset).mode(mode).build()
        }
        (Step::Sync, _) => opcode::Fsync::new(SYNC_FILE).flags(FsyncFlags::DATASYNC).build(),
        (step, operation) => unreachable!("{step:?} is no step of {operation:?}"),
    };
    entry.flags(flags)
}

fn is_in(arena: Option<&Arena>, start: *const u8, length: usize) -> bool {
    arena.is_some_and(|arena| arena.holds(start, length))
}

fn call_length(length: usize) -> u32 {
    u32::try_from(length).expect("a step is at most 1 GiB")
}

#[cfg(test)]
mod tests {
    use super::{Flags, build, flags};
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::fs::File;

    #[test]
    fn only_files_that_always_wait_are_left_to_threads_of_the_kernel() {
        let ring = build(1).expect("a ring");
        let memory = File::from(memfd_create("in memory", MemfdFlags::CLOEXEC).expect("a file"));
        assert_eq!(flags(&ring, &memory).contains(Flags::ASYNC), ring.params().is_feature_recvsend_bundle());
        // Never waits.
        let zeros = File::open("/dev/zero").expect("a device");
        assert!(!flags(&ring, &zeros).contains(Flags::ASYNC));
    }
}
