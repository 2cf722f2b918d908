//! A monitor and driver in one that can write any bytes anywhere in the memory it shares, and comes back with that memory
//! after its back end has died.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{ByteValued, Bytes, FileOffset, MmapRegion, VolatileMemory};
use vmm_sys_util::eventfd::EventFd;

pub(crate) const MEMORY_BYTES: usize = 1 << 20;
pub(crate) const QUEUE_SIZE: u16 = 16;
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;
pub(crate) const DESCRIPTORS: usize = 0x1000;
pub(crate) const AVAILABLE: usize = 0x2000;
pub(crate) const USED: usize = 0x3000;
/// Where a test keeps headers, data and statuses.
pub(crate) const FREE: u64 = 0x8000;

/// Tells a thread beside the test that it is over, also when the test fails.
pub(crate) struct EndsAtDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for EndsAtDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) struct Monitor {
    pub(crate) frontend: Frontend,
    /// The same connection, for what the library does not say.
    pub(crate) stream: UnixStream,
    /// What was negotiated.
    pub(crate) features: u64,
    /// Features its driver does not know.
    without: u64,
    pub(crate) memory: Arc<MmapRegion>,
    file: File,
    pub(crate) kick: EventFd,
    call: EventFd,
    error: EventFd,
    next: u16,
    in_flight: Option<(VhostUserInflight, File)>,
}

/// The feature of event indexes; without it a kick and a call are always given.
pub(crate) const EVENT_INDEX: u64 = 1 << 29;

/// With everything the back end has, except these features.
fn negotiate(socket: &Path, without: u64) -> (Frontend, UnixStream, u64) {
    let stream = UnixStream::connect(socket).expect("connected");
    let mut frontend = Frontend::from_stream(stream.try_clone().expect("cloned"), 2);
    frontend.set_owner().expect("owner");
    let features = frontend.get_features().expect("features") & !without;
    frontend.set_features(features).expect("what was offered");
    let offered = frontend.get_protocol_features().expect("protocol features");
    frontend.set_protocol_features(offered).expect("what was offered");
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    (frontend, stream, features)
}

impl Monitor {
    /// Connected, with memory and a ring that runs.
    pub(crate) fn start(socket: &Path) -> Self {
        let mut monitor = Self::connect(socket);
        monitor.share_memory();
        monitor.set_ring(QUEUE_SIZE, DESCRIPTORS, AVAILABLE, USED).expect("a ring as it should be");
        monitor
    }

    /// Connected and negotiated; nothing is shared.
    pub(crate) fn connect(socket: &Path) -> Self {
        Self::connect_without(socket, EVENT_INDEX)
    }

    /// The same for a driver that does not know some of the features.
    pub(crate) fn connect_without(socket: &Path, without: u64) -> Self {
        let (frontend, stream, features) = negotiate(socket, without);
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).expect("a file"));
        file.set_len(u64::try_from(MEMORY_BYTES).expect("small")).expect("long enough");
        let of_memory = FileOffset::new(file.try_clone().expect("cloned"), 0);
        let memory = Arc::new(MmapRegion::from_file(of_memory, MEMORY_BYTES).expect("mapped"));
        let event = || EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).expect("an event");
        Self {
            frontend,
            stream,
            features,
            without,
            memory,
            file,
            kick: event(),
            call: event(),
            error: event(),
            next: 0,
            in_flight: None,
        }
    }

    /// Gets the region in which a back end notes what it has taken; it comes back with every reconnect.
    pub(crate) fn track(&mut self, queue_size: u16) {
        let wanted = VhostUserInflight { num_queues: 1, queue_size, ..Default::default() };
        let (found, file) = self.frontend.get_inflight_fd(&wanted).expect("a region");
        self.frontend.set_inflight_fd(&found, file.as_raw_fd()).expect("its own region");
        self.in_flight = Some((found, file));
    }

    /// Writes into that region what a back end leaves there that dies after it has taken these heads, in this order, and used none
    /// (the vhost-user specification, "Inflight I/O tracking").
    pub(crate) fn note_taken(&self, heads: &[u16]) {
        let (region, file) = self.in_flight.as_ref().expect("it is tracked");
        let put = |bytes: &[u8], at: u64| {
            file.write_all_at(bytes, region.mmap_offset + at).expect("inside the region");
        };
        put(&1_u16.to_le_bytes(), 8);
        put(&region.queue_size.to_le_bytes(), 10);
        for (counter, head) in (0_u64..).zip(heads) {
            let entry = 16 + u64::from(*head) * 16;
            put(&[1], entry);
            put(&counter.to_le_bytes(), entry + 8);
        }
    }

    /// Shares memory and ring on a connection that has neither.
    pub(crate) fn set_up(&mut self, queue_size: u16) {
        self.share_memory();
        self.set_ring(queue_size, DESCRIPTORS, AVAILABLE, USED).expect("a ring as it should be");
    }

    /// The back end has died; this is its successor.
    pub(crate) fn reconnect(&mut self, socket: &Path, queue_size: u16) {
        (self.frontend, self.stream, self.features) = negotiate(socket, self.without);
        if let Some((found, file)) = &self.in_flight {
            self.frontend.set_inflight_fd(found, file.as_raw_fd()).expect("a region it has made");
        }
        self.set_up(queue_size);
    }

    pub(crate) fn region(&self, guest: u64, bytes: usize) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: guest,
            memory_size: u64::try_from(bytes).expect("small"),
            userspace_addr: self.base(),
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }

    pub(crate) fn share_memory(&self) {
        self.frontend.set_mem_table(&[self.region(0, MEMORY_BYTES)]).expect("memory as it should be");
    }

    fn base(&self) -> u64 {
        u64::try_from(self.memory.as_ptr().addr()).expect("an address")
    }

    pub(crate) fn set_ring(
        &mut self,
        size: u16,
        descriptors: usize,
        available: usize,
        used: usize,
    ) -> Result<(), vhost::Error> {
        self.frontend.set_vring_num(0, size)?;
        self.set_rest_of_ring(descriptors, available, used)
    }

    /// The ring anew after a reset: the error descriptor was given when the monitor connected.
    pub(crate) fn set_ring_again(&mut self) -> Result<(), vhost::Error> {
        self.frontend.set_features(self.features)?;
        self.frontend.set_vring_num(0, QUEUE_SIZE)?;
        self.set_all_but_size_and_error(DESCRIPTORS, AVAILABLE, USED)
    }

    /// All but its size.
    pub(crate) fn set_rest_of_ring(
        &mut self,
        descriptors: usize,
        available: usize,
        used: usize,
    ) -> Result<(), vhost::Error> {
        self.frontend.set_vring_err(0, &self.error)?;
        self.set_all_but_size_and_error(descriptors, available, used)
    }

    fn set_all_but_size_and_error(
        &mut self,
        descriptors: usize,
        available: usize,
        used: usize,
    ) -> Result<(), vhost::Error> {
        let at = |offset: usize| self.base().wrapping_add(u64::try_from(offset).expect("small"));
        let addresses = VringConfigData {
            // The size is another message's.
            queue_max_size: QUEUE_SIZE,
            queue_size: QUEUE_SIZE,
            flags: 0,
            desc_table_addr: at(descriptors),
            used_ring_addr: at(used),
            avail_ring_addr: at(available),
            log_addr: None,
        };
        self.frontend.set_vring_base(0, 0)?;
        self.frontend.set_vring_addr(0, &addresses)?;
        self.frontend.set_vring_call(0, &self.call)?;
        self.frontend.set_vring_kick(0, &self.kick)?;
        self.frontend.set_vring_enable(0, true)
    }

    pub(crate) fn put(&self, at: usize, bytes: &[u8]) {
        self.memory.as_volatile_slice().write_slice(bytes, at).expect("inside the memory");
    }

    pub(crate) fn byte(&self, at: u64) -> u8 {
        let at = usize::try_from(at).expect("small");
        self.memory.as_volatile_slice().load(at, Ordering::Acquire).expect("inside the memory")
    }

    pub(crate) fn describe(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let descriptor = Descriptor::new(address, length, flags, next);
        self.put(DESCRIPTORS + usize::from(index) * 16, descriptor.as_slice());
    }

    /// A header at `at`.
    pub(crate) fn header(&self, at: u64, kind: u32, sector: u64) {
        let mut raw = [0; 16];
        raw[0..4].copy_from_slice(&kind.to_le_bytes());
        raw[8..16].copy_from_slice(&sector.to_le_bytes());
        self.put(usize::try_from(at).expect("small"), &raw);
    }

    /// Puts a head into the available ring and kicks.
    pub(crate) fn offer(&mut self, head: u16) {
        self.offer_in(head, QUEUE_SIZE);
    }

    /// The same in a ring of another size.
    pub(crate) fn offer_in(&mut self, head: u16, queue_size: u16) {
        self.put(AVAILABLE + 4 + usize::from(self.next % queue_size) * 2, &head.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        self.offer_index(self.next);
    }

    pub(crate) fn offer_index(&self, index: u16) {
        let memory = self.memory.as_volatile_slice();
        memory.store(index.to_le(), AVAILABLE + 2, Ordering::SeqCst).expect("inside the memory");
        self.kick();
    }

    pub(crate) fn kick(&self) {
        self.kick.write(1).expect("an event");
    }

    pub(crate) fn used(&self) -> u16 {
        let memory = self.memory.as_volatile_slice();
        u16::from_le(memory.load(USED + 2, Ordering::SeqCst).expect("inside the memory"))
    }

    /// Asks for a call once more than `seen` heads are used. For drivers that know event indexes.
    pub(crate) fn call_after(&self, seen: u16, queue_size: u16) {
        let at = AVAILABLE + 4 + usize::from(queue_size) * 2;
        let memory = self.memory.as_volatile_slice();
        memory.store(seen.to_le(), at, Ordering::SeqCst).expect("inside the memory");
    }

    /// The head in an entry of the used ring.
    pub(crate) fn used_head(&self, index: u16, queue_size: u16) -> u32 {
        let memory = self.memory.as_volatile_slice();
        let at = USED + 4 + usize::from(index % queue_size) * 8;
        u32::from_le(memory.load(at, Ordering::SeqCst).expect("inside the memory"))
    }

    /// How many bytes the device says it has written for the first head it used.
    pub(crate) fn first_used_length(&self) -> u32 {
        let memory = self.memory.as_volatile_slice();
        u32::from_le(memory.load(USED + 8, Ordering::SeqCst).expect("inside the memory"))
    }

    /// Waits for a call; false when the ring was declared broken instead, or nothing came for `milliseconds`.
    pub(crate) fn is_called(&self, milliseconds: i64) -> bool {
        self.calls(milliseconds) > 0
    }

    /// How often the driver was called since the last time; waits for the first call.
    pub(crate) fn calls(&self, milliseconds: i64) -> u64 {
        let timeout = Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 };
        let watched = [&self.call, &self.error].map(|event| {
            // SAFETY: the events are open as long as the monitor, which outlives this call.
            unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
        });
        let mut polled = watched.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
        poll(&mut polled, Some(&timeout)).expect("polled");
        self.call.read().unwrap_or(0)
    }

    /// Whether the back end has said that the ring is broken.
    pub(crate) fn has_error(&self) -> bool {
        self.error.read().is_ok()
    }

    /// Whether the back end has said that the ring is broken, now or within ten seconds.
    pub(crate) fn is_broken(&self) -> bool {
        !self.is_called(10_000) && self.error.read().is_ok()
    }
}
