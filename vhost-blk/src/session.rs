//! One connection of a monitor: the vhost-user protocol. It collects what a ring is made of, hands rings that have
//! everything to the workers, and takes them back before anything about them changes (V4).

use crate::config::{CONFIG_BYTES, Shape, WRITEBACK_AT, encode, window};
use crate::counters::Counters;
use crate::features::{Features, protocol};
use crate::inflight::{Layout, Region};
use crate::limits::{MEMORY_REGIONS_MAX, QUEUE_SIZE_MAX};
use crate::memory::Memory;
use crate::notifier::{Call, Kick};
use crate::ring::{Parts, Ring};
use crate::workers::{Place, Running, Workers};
use rate_limit::RateLimiter;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use thinpool::Attachment;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_queue::{Queue, QueueT};

/// What has been told of a ring.
#[derive(Debug, Default)]
struct Setup {
    size: Option<u32>,
    base: u16,
    addresses: Option<Addresses>,
    kick: Option<File>,
    call: Option<File>,
    error: Option<File>,
    is_enabled: bool,
    /// It has lied; nothing more is taken from it until its monitor takes it back or begins anew.
    is_broken: bool,
    place: Place,
    running: Option<Running>,
}

/// Where the parts of a ring are in the monitor.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    descriptors: u64,
    available: u64,
    used: u64,
}

/// All of a ring is told, and it cannot be.
#[derive(Debug)]
struct Impossible;

#[derive(Debug)]
pub(crate) struct Session {
    attachment: Attachment,
    workers: Workers,
    features: Features,
    protocol: VhostUserProtocolFeatures,
    /// What the driver says of the device: virtio 1.2, section 2.1.
    status: u8,
    memory: Memory,
    rings: Vec<Setup>,
    region: Option<Region>,
    /// The driver has switched the cache off. A monitor does not say it again when it comes back, and a guest that starts
    /// anew reads what the monitor remembers: so it belongs to the export, and goes into every in-flight region (V5).
    write_through: Arc<AtomicBool>,
    counters: Arc<Counters>,
    limiter: Arc<RateLimiter>,
}

impl Session {
    pub(crate) fn new(
        attachment: Attachment,
        workers: Workers,
        queues: u16,
        write_through: Arc<AtomicBool>,
        counters: Arc<Counters>,
        limiter: Arc<RateLimiter>,
    ) -> Self {
        let rings = (0..queues).map(|_| Setup::default()).collect();
        let memory = Memory::new(workers.space());
        Self {
            attachment,
            workers,
            features: Features(0),
            protocol: VhostUserProtocolFeatures::empty(),
            status: 0,
            memory,
            rings,
            region: None,
            write_through,
            counters,
            limiter,
        }
    }

    /// Takes back every ring; returns when nothing of them is in flight.
    pub(crate) fn stop_all(&mut self) {
        self.rings.iter_mut().for_each(Setup::stop);
    }

    /// Hands every ring that is told to its worker, also those behind one that cannot be.
    fn start_all(&mut self) -> Result<()> {
        let refused = (0..self.rings.len()).filter(|index| self.start_or_tell(*index).is_err()).count();
        if refused == 0 { Ok(()) } else { refuse() }
    }

    /// A ring that cannot be does not stay silent: its error descriptor says so, and the answer to the message.
    fn start_or_tell(&mut self, index: usize) -> Result<()> {
        self.start(index).or_else(|Impossible| {
            self.rings[index].give_error();
            refuse()
        })
    }

    /// Hands the ring to its worker if everything is there. What is not there yet will come.
    fn start(&mut self, index: usize) -> std::result::Result<(), Impossible> {
        let setup = &self.rings[index];
        if setup.running.is_some() || setup.is_broken || !self.is_told(setup) {
            return Ok(());
        }
        let ring = self.assemble(index).and_then(Ring::start).ok_or(Impossible)?;
        let setup = &mut self.rings[index];
        let counters = self.counters.of_ring(index);
        setup.running = Some(self.workers.start(ring, counters, &mut setup.place));
        Ok(())
    }

    fn is_told(&self, setup: &Setup) -> bool {
        let is_enabled = setup.is_enabled || !self.features.knows_protocol();
        let is_whole = setup.size.is_some() && setup.addresses.is_some() && setup.kick.is_some();
        is_enabled && is_whole && !self.memory.is_empty()
    }

    /// Nothing when it cannot be.
    fn assemble(&self, index: usize) -> Option<Parts> {
        let setup = &self.rings[index];
        let call = |file: &Option<File>| match file {
            Some(file) => Call::adopt(file.try_clone().ok()?).map(Some),
            None => Some(None),
        };
        let (size, addresses) = (u16::try_from(setup.size?).ok()?, setup.addresses?);
        let mut queue = Queue::new(QUEUE_SIZE_MAX).ok()?;
        queue.try_set_size(size).ok()?;
        queue.try_set_desc_table_address(self.memory.translate(addresses.descriptors)?).ok()?;
        queue.try_set_avail_ring_address(self.memory.translate(addresses.available)?).ok()?;
        queue.try_set_used_ring_address(self.memory.translate(addresses.used)?).ok()?;
        queue.set_event_idx(self.features.event_idx());
        queue.set_next_avail(setup.base);
        let in_flight = match &self.region {
            // Without its part, what it had taken would be lost with this process (V3).
            Some(region) => Some(region.part(u16::try_from(index).ok()?, size)?),
            None => None,
        };
        // What it writes into a full pool waits for space until it is to stop.
        let attachment = self.attachment.for_thread();
        attachment.be_patient();
        Some(Parts {
            queue,
            memory: self.memory.table()?,
            kick: Kick::adopt(setup.kick.as_ref()?.try_clone().ok()?)?,
            call: call(&setup.call)?,
            error: call(&setup.error)?,
            in_flight,
            attachment,
            limiter: self.limiter.clone(),
            write_through: !self.features.can_flush() || self.is_write_through(),
        })
    }

    /// Changes a ring while it is stopped, and lets it go on.
    fn change(&mut self, index: u32, change: impl FnOnce(&mut Setup)) -> Result<()> {
        let index = usize::try_from(index).map_err(|_| Error::InvalidParam)?;
        let setup = self.rings.get_mut(index).ok_or(Error::InvalidParam)?;
        setup.stop();
        change(setup);
        self.start_or_tell(index)
    }

    /// Changes what all rings depend on. An error means that one of them cannot be any more; the change is made.
    fn change_all(&mut self, change: impl FnOnce(&mut Self)) -> Result<()> {
        self.stop_all();
        change(self);
        self.start_all()
    }

    /// Memory that comes and goes piece by piece: a ring that is outside of it now may be inside with the next piece.
    fn change_memory<T>(&mut self, change: impl FnOnce(&mut Memory) -> T) -> T {
        self.stop_all();
        let result = change(&mut self.memory);
        for index in 0..self.rings.len() {
            let _outside_is_fine = self.start(index);
        }
        result
    }

    fn is_write_through(&self) -> bool {
        self.write_through.load(Ordering::SeqCst)
    }

    fn set_write_through(&self, write_through: bool) {
        self.write_through.store(write_through, Ordering::SeqCst);
        if let Some(region) = &self.region {
            region.note_write_through(write_through);
        }
    }

    fn forget(&mut self) {
        self.stop_all();
        self.rings.iter_mut().for_each(Setup::forget);
        self.features = Features(0);
        self.region = None;
        self.status = 0;
    }

    /// The driver's view of the device has changed; 0 is a reset.
    pub(crate) fn set_status(&mut self, status: u8) {
        if status == 0 {
            self.forget();
        }
        self.status = status;
    }

    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// Whether the monitor may set the status and ask for it.
    pub(crate) fn speaks_of_status(&self) -> bool {
        self.protocol.contains(VhostUserProtocolFeatures::STATUS)
    }

    /// Whether the monitor may ask for an answer to messages that have none.
    pub(crate) fn acknowledges(&self) -> bool {
        self.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK)
    }

    fn config(&self) -> [u8; CONFIG_BYTES] {
        let queues = u16::try_from(self.rings.len()).expect("they are bounded");
        encode(&Shape { size: self.attachment.size(), queues, writeback: !self.is_write_through() })
    }
}

impl Setup {
    fn stop(&mut self) {
        if let Some(stopped) = self.running.take().and_then(Running::stop) {
            self.base = stopped.base;
            self.is_broken = stopped.is_broken;
        }
    }

    /// Tells the monitor, if it wants to hear of it.
    fn give_error(&self) {
        let cloned = self.error.as_ref().and_then(|file| file.try_clone().ok());
        if let Some(error) = cloned.and_then(Call::adopt) {
            error.give();
        }
    }

    /// All that was told, but for the error descriptor: a monitor gives it once, when it connects.
    fn forget(&mut self) {
        *self = Self { place: self.place, error: self.error.take(), ..Self::default() };
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop_all();
    }
}

fn layout(told: &VhostUserInflight) -> Result<Layout> {
    Layout::new(told.num_queues, told.queue_size).ok_or(Error::InvalidParam)
}

/// Says at once that a file is no event descriptor of the right kind, and not only by a ring that stays silent.
fn refuse_other_files<T>(file: Option<&File>, adopt: fn(File) -> Option<T>) -> Result<()> {
    match file.map(|file| file.try_clone().ok().and_then(adopt)) {
        Some(None) => Err(Error::InvalidParam),
        Some(Some(_)) | None => Ok(()),
    }
}

/// The answer to a message about a ring that cannot be. The other rings have nothing to do with it: [`goes_on`].
fn refuse<T>() -> Result<T> {
    Err(Error::ReqHandlerError(io::ErrorKind::InvalidInput.into()))
}

/// Whether a connection goes on after a message. After other errors than [`refuse`] the stream may be out of step; the monitor
/// connects again.
pub(crate) fn goes_on(handled: &Result<()>) -> bool {
    matches!(handled, Ok(()) | Err(Error::ReqHandlerError(_)))
}

fn unsupported<T>() -> Result<T> {
    Err(Error::InvalidOperation("this back end has no such thing"))
}

impl VhostUserBackendReqHandlerMut for Session {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.forget();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.forget();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(Features::offered(self.attachment.is_read_only()).0)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let offered = Features::offered(self.attachment.is_read_only());
        if features & !offered.0 != 0 {
            return Err(Error::InvalidParam);
        }
        self.change_all(|session| session.features = Features(features))
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        let mut memory = Memory::new(self.workers.space());
        for (region, file) in regions.iter().zip(files) {
            memory.add(region.into(), file).map_err(|_| Error::InvalidParam)?;
        }
        self.change_all(|session| session.memory = memory).map(|()| None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.change(index, |setup| setup.size = Some(num))?;
        // Said at once, and again by the ring when the rest of it is there.
        let possible = num.is_power_of_two() && num <= u32::from(QUEUE_SIZE_MAX);
        if possible { Ok(()) } else { refuse() }
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let addresses = Addresses { descriptors: descriptor, available, used };
        self.change(index, |setup| setup.addresses = Some(addresses))
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.change(index, |setup| setup.base = base)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let at = usize::try_from(index).map_err(|_| Error::InvalidParam)?;
        let setup = self.rings.get_mut(at).ok_or(Error::InvalidParam)?;
        setup.stop();
        // The ring starts again with its next kick descriptor, whatever it was.
        (setup.kick, setup.is_broken) = (None, false);
        Ok(VhostUserVringState::new(index, u32::from(setup.base)))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        refuse_other_files(fd.as_ref(), Kick::adopt)?;
        self.change(u32::from(index), |setup| setup.kick = fd)
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        refuse_other_files(fd.as_ref(), Call::adopt)?;
        self.change(u32::from(index), |setup| setup.call = fd)
    }

    fn set_vring_err(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        refuse_other_files(fd.as_ref(), Call::adopt)?;
        self.change(u32::from(index), |setup| {
            setup.error = fd;
            if setup.is_broken {
                setup.give_error();
            }
        })
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(protocol())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        if features & !protocol().bits() != 0 {
            return Err(Error::InvalidParam);
        }
        self.protocol = VhostUserProtocolFeatures::from_bits_truncate(features);
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(u64::try_from(self.rings.len()).expect("they are bounded"))
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.change(index, |setup| setup.is_enabled = enable)
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Ok(window(&self.config(), offset, size))
    }

    /// Only the cache can be switched: virtio 1.2, section 5.2.5. A guest may write it before its monitor has told the
    /// features, and an error would cost it the connection.
    fn set_config(&mut self, offset: u32, bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        let (WRITEBACK_AT, [writeback]) = (offset, bytes) else { return Err(Error::InvalidParam) };
        let write_through = *writeback == 0;
        let _is_no_answer_to_this = self.change_all(|session| session.set_write_through(write_through));
        Ok(())
    }

    fn set_gpu_socket(&mut self, _gpu_backend: GpuBackend) -> Result<()> {
        unsupported()
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        unsupported()
    }

    fn get_inflight_fd(&mut self, inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let layout = layout(inflight)?;
        let (region, file) = Region::create(layout).map_err(|_| Error::BackendInternalError)?;
        region.note_write_through(self.is_write_through());
        // An error would be no answer, which has the file; a ring that does not fit says so itself.
        let _told_by_its_descriptor = self.change_all(|session| session.region = Some(region));
        let bytes = u64::try_from(layout.bytes()).expect("it is bounded");
        Ok((VhostUserInflight::new(bytes, 0, layout.queues, layout.entries), file))
    }

    fn set_inflight_fd(&mut self, inflight: &VhostUserInflight, file: File) -> Result<()> {
        let (offset, bytes) = (inflight.mmap_offset, inflight.mmap_size);
        let region =
            Region::adopt(layout(inflight)?, file, offset, bytes).map_err(|_| Error::InvalidParam)?;
        let write_through = self.is_write_through() || region.is_write_through();
        self.change_all(|session| {
            session.region = Some(region);
            session.set_write_through(write_through);
        })
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(u64::try_from(MEMORY_REGIONS_MAX).expect("small"))
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        fd: File,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<u64>> {
        let added = self.change_memory(|memory| memory.add(region.into(), fd));
        added.map(|()| None).map_err(|_| Error::InvalidParam)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        self.change_memory(|memory| memory.remove(region.into())).map_err(|_| Error::InvalidParam)
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _fd: File,
    ) -> Result<Option<File>> {
        unsupported()
    }

    fn check_device_state(&mut self) -> Result<()> {
        unsupported()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported()
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        unsupported()
    }
}
