//! A driver of a vhost-user block device: as many buffers as requests, in memory shared with the back end.
//! The rings are the `virtio-driver` crate's, so nothing of Offshoot's is tested against itself.
#![allow(dead_code, reason = "each program uses its own part of it")]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use virtio_driver::{
    VhostUser, VirtioBlkFeatureFlags, VirtioBlkQueue, VirtioBlkTransport, VirtioFeatureFlags,
};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// Descriptors of one request: header, data, status.
const DESCRIPTORS: usize = 3;

/// What is asked of the device, at byte offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Read { offset: u64, length: usize },
    Write { offset: u64, length: usize },
    Flush,
    Discard { offset: u64, length: u64 },
    WriteZeroes { offset: u64, length: u64, unmap: bool },
}

/// A connected device; slots are requests with a buffer each.
pub(crate) struct Driver {
    queues: Vec<VirtioBlkQueue<'static, usize>>,
    /// The one that is used.
    queue: usize,
    transport: Box<VirtioBlkTransport>,
    memory: MmapRegion,
    slot_bytes: usize,
    pub(crate) slots: usize,
    capacity: u64,
}

impl Driver {
    /// Negotiates everything the device has, with one queue and `slots` requests of at most `slot_bytes` at a time.
    pub(crate) fn connect(socket: &Path, slots: usize, slot_bytes: usize) -> io::Result<Self> {
        Self::connect_queues(socket, 1, slots, slot_bytes)
    }

    /// The same with several queues, of which the first is used until [`Driver::turn_to`].
    pub(crate) fn connect_queues(
        socket: &Path,
        queues: usize,
        slots: usize,
        slot_bytes: usize,
    ) -> io::Result<Self> {
        let ring = VirtioFeatureFlags::VERSION_1 | VirtioFeatureFlags::RING_EVENT_IDX;
        let features = ring.bits() | VirtioBlkFeatureFlags::all().bits();
        let path = socket.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let mut transport: Box<VirtioBlkTransport> = Box::new(VhostUser::new(path, features)?);
        let entries = u16::try_from((slots * DESCRIPTORS).next_power_of_two()).map_err(io::Error::other)?;
        let queues = VirtioBlkQueue::setup_queues(&mut *transport, queues, entries)?;
        let bytes = slots * slot_bytes;
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC)?);
        file.set_len(u64::try_from(bytes).map_err(io::Error::other)?)?;
        let memory =
            MmapRegion::from_file(FileOffset::new(file.try_clone()?, 0), bytes).map_err(io::Error::other)?;
        transport.map_mem_region(memory.as_ptr().addr(), bytes, file.as_raw_fd(), 0)?;
        let sectors = transport.get_config()?.capacity;
        let capacity = u64::from(sectors) * 512;
        Ok(Self { queues, queue: 0, transport, memory, slot_bytes, slots, capacity })
    }

    /// Uses another queue from now on, once all that was asked of this one is answered.
    pub(crate) fn turn_to(&mut self, queue: usize) {
        assert!(queue < self.queues.len());
        self.queue = queue;
    }

    pub(crate) fn has(&self, feature: VirtioBlkFeatureFlags) -> bool {
        VirtioBlkFeatureFlags::from_bits_truncate(self.transport.get_features()).contains(feature)
    }

    /// Bytes of the disk, as it was when this connected.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether the back end is still there; waits for one that has stopped.
    pub(crate) fn is_connected(&self) -> bool {
        self.transport.get_config().is_ok()
    }

    pub(crate) fn is_writeback(&self) -> bool {
        self.transport.get_config().expect("a configuration").writeback == 1
    }

    pub(crate) fn fill(&self, slot: usize, bytes: &[u8]) {
        self.memory.as_volatile_slice().write_slice(bytes, slot * self.slot_bytes).expect("a slot holds it");
    }

    pub(crate) fn bytes(&self, slot: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory
            .as_volatile_slice()
            .read_slice(&mut bytes, slot * self.slot_bytes)
            .expect("a slot holds it");
        bytes
    }

    /// Puts a request into the ring; [`Driver::kick`] tells the device.
    pub(crate) fn submit(&mut self, slot: usize, ask: Ask) -> io::Result<()> {
        let buffer = self.memory.as_ptr().wrapping_add(slot * self.slot_bytes);
        let queue = &mut self.queues[self.queue];
        match ask {
            Ask::Read { offset, length } | Ask::Write { offset, length } => {
                assert!(slot < self.slots && length <= self.slot_bytes);
                match ask {
                    // SAFETY: the slot's bytes are in the mapping, which lives as long as the queue; nobody has a
                    // reference to them, they are only copied.
                    Ask::Read { .. } => unsafe { queue.read_raw(offset, buffer, length, slot) },
                    // SAFETY: as above.
                    _ => unsafe { queue.write_raw(offset, buffer, length, slot) },
                }
            }
            Ask::Flush => queue.flush(slot),
            Ask::Discard { offset, length } => queue.discard(offset, length, slot),
            Ask::WriteZeroes { offset, length, unmap } => queue.write_zeroes(offset, length, unmap, slot),
        }
    }

    /// Tells the device, if it wants to be told.
    pub(crate) fn kick(&mut self) -> io::Result<()> {
        fence(Ordering::SeqCst);
        if self.queues[self.queue].avail_notif_needed() {
            self.transport.get_submission_notifier(self.queue).notify()?;
        }
        Ok(())
    }

    /// Slots that are answered, with 0 or a negative error number; never waits.
    pub(crate) fn answers(&mut self, answers: &mut Vec<(usize, i32)>) {
        answers.extend(
            self.queues[self.queue].completions().map(|completion| (completion.context, completion.ret)),
        );
    }

    /// Sleeps until the device calls, or the time is over.
    pub(crate) fn wait(&mut self, milliseconds: i64) -> io::Result<()> {
        let queue = &mut self.queues[self.queue];
        queue.set_used_notif_enabled(true);
        fence(Ordering::SeqCst);
        if !queue.completions().has_next() {
            let event = self.transport.get_completion_fd(self.queue);
            // SAFETY: `event` keeps the descriptor open until the end of this block.
            let descriptor = unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) };
            let timeout = Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
            if poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&timeout))? > 0 {
                event.read()?;
            }
        }
        queue.set_used_notif_enabled(false);
        Ok(())
    }

    /// One request from beginning to end; what the device says. Fails after ten seconds without an answer.
    pub(crate) fn run(&mut self, ask: Ask) -> io::Result<i32> {
        self.submit(0, ask)?;
        self.kick()?;
        let mut answers = Vec::new();
        for _ in 0..100 {
            self.answers(&mut answers);
            if let Some((_, answer)) = answers.pop() {
                return Ok(answer);
            }
            self.wait(100)?;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}
