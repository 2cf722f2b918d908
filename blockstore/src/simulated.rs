//! A device that loses, tears, reorders, corrupts and fails what a seed tells it to, and remembers every moment at
//! which the power could have failed.
//!
//! Its contents are a [`SimulatedDisk`], a value. The device keeps two: what reads see, and what is certain to
//! survive a power cut. What lies between them is *pending*. A [`CrashPoint`] is such a moment as a value too; it makes
//! the disk that a power cut or the death of the process leaves, for any [`Choice`] of the pending changes:
//!
//! ```text
//!   disk --> device --submit, poll--> events 1, 2, 3 ...      (one when an operation is taken, one when it completes)
//!                                       |
//!                                  crash point --choice--> power_cut() or kill() --> disk --> device ...
//! ```
//!
//! Beyond B1 to B9 it promises:
//!
//! * **S1** One seed, one run: with channels used in one order by one thread, everything is the same in every run. No
//!   clock, no thread, no sleep.
//! * **S2** A flush makes durable exactly the changes whose completions were polled before it was submitted; a write
//!   through the cache itself and what its place depends on.
//! * **S3** A power cut keeps any subset of the pending changes, whole or torn in units of the profile's atomicity, and
//!   nothing else. Keeping all of them gives what reads see, plus what is in flight.
//! * **S4** A change that became durable is never hidden by one that took effect before it.
//! * **S5** Equal contents have equal hashes, and a disk costs memory only for pages that are not zeros.

mod chance;
mod channel;
mod crash;
mod disk;
mod effect;
mod medium;
mod page;
mod profile;
mod read_log;
mod rot;
#[cfg(test)]
mod tests;

pub use crash::{Choice, CrashPoint, Event, Moment, OperationLabel};
pub use disk::SimulatedDisk;
pub use effect::Tear;
pub use profile::{AfterFailedFlush, Atomicity, CompletionOrder, Discards, Fault, Profile};
pub use read_log::ReadLog;
pub use rot::Rot;

use crate::device::{Device, IoChannel};
use crate::error::DeviceError;
use channel::SimulatedChannel;
use medium::Medium;
use page::PAGE_BYTES_U64;
use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A device over a [`SimulatedDisk`]. Clones are handles to the same one.
#[derive(Clone)]
pub struct SimulatedDevice {
    shared: Arc<Shared>,
}

type Observer = Box<dyn Fn(CrashPoint) + Send + Sync>;

struct Shared {
    medium: Mutex<Medium>,
    /// Not locked while it runs, so that it may use the device.
    observer: Mutex<Option<Arc<Observer>>>,
    profile: Profile,
    channels: AtomicU64,
}

impl SimulatedDevice {
    /// A device that begins with these contents, all durable.
    #[must_use]
    pub fn new(disk: SimulatedDisk, profile: Profile, seed: u64) -> Self {
        let medium = Medium::new(disk, profile.clone(), seed);
        Self::over(medium, profile)
    }

    /// The device as the next process finds it after one was killed: nothing that had completed is gone, and nothing
    /// has become durable by it either.
    #[must_use]
    pub fn after_kill(point: &CrashPoint, choice: &Choice, profile: Profile, seed: u64) -> Self {
        let mut medium = Medium::new(point.kill(choice), profile.clone(), seed);
        medium.owe(point.durable().clone(), point.pending_after_kill(choice));
        Self::over(medium, profile)
    }

    fn over(medium: Medium, profile: Profile) -> Self {
        let alignment = profile.alignment;
        assert!(
            alignment.is_power_of_two() && (512..=4096).contains(&alignment),
            "sectors of 512 to 4096 bytes"
        );
        let shared = Shared {
            medium: Mutex::new(medium),
            observer: Mutex::new(None),
            profile,
            channels: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What reads see at this moment.
    #[must_use]
    pub fn disk(&self) -> SimulatedDisk {
        self.shared.lock().current().clone()
    }

    /// What a power cut cannot take away at this moment.
    #[must_use]
    pub fn durable(&self) -> SimulatedDisk {
        self.shared.lock().durable().clone()
    }

    /// What a crash at this moment could leave.
    #[must_use]
    pub fn crash_point(&self) -> CrashPoint {
        self.shared.lock().crash_point()
    }

    /// How many events there have been: one when an operation is taken, one when it completes.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.shared.lock().events()
    }

    /// After this many events altogether nothing happens any more: nothing is taken, nothing completes, waiting is an
    /// error.
    pub fn halt_after(&self, events: u64) {
        self.shared.lock().halt_after(events);
    }

    /// Gives the file system below another capacity, in bytes.
    ///
    /// # Panics
    /// When its profile had none: pages that have their place are counted from the beginning.
    pub fn set_capacity(&self, bytes: u64) {
        self.shared.lock().set_capacity(bytes);
    }

    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.shared.is_halted()
    }

    /// Calls `observer` after every event with what a crash at this moment could leave. It is called inside `submit`
    /// and `poll` of whoever caused the event, and must use no channel.
    pub fn observe(&self, observer: impl Fn(CrashPoint) + Send + Sync + 'static) {
        *self.shared.observer.lock() = Some(Arc::new(Box::new(observer)));
    }

    pub fn stop_observing(&self) {
        *self.shared.observer.lock() = None;
    }

    /// From now on the device remembers which pages of its present contents are read.
    pub fn log_reads(&self) {
        *self.shared.lock().reads() = Some(ReadLog::default());
    }

    /// What was read since [`SimulatedDevice::log_reads`].
    #[must_use]
    pub fn reads(&self) -> ReadLog {
        self.shared.lock().reads().clone().unwrap_or_default()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock()
    }

    fn is_halted(&self) -> bool {
        self.lock().is_halted()
    }

    /// Whether a poll completes everything that is in flight.
    fn is_prompt(&self) -> bool {
        let Profile { latency_polls_max, discard_delay_polls, straggler_delay_polls, .. } = self.profile;
        latency_polls_max == 0 && discard_delay_polls == 0 && straggler_delay_polls == 0
    }

    /// Lets the medium make one event; the crash point is for the observer, if there is one.
    fn step<R>(&self, act: impl FnOnce(&mut Medium) -> R) -> (R, Option<CrashPoint>) {
        let mut medium = self.lock();
        let result = act(&mut medium);
        let observed = self.observer.lock().is_some();
        (result, observed.then(|| medium.crash_point()))
    }

    fn tell(&self, point: Option<CrashPoint>) {
        let Some(point) = point else { return };
        let observer = self.observer.lock().clone();
        if let Some(observer) = observer {
            observer(point);
        }
    }
}

impl fmt::Debug for SimulatedDevice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let medium = self.shared.lock();
        write!(out, "SimulatedDevice({:?}, {} events)", medium.current(), medium.events())
    }
}

impl Device for SimulatedDevice {
    fn size(&self) -> u64 {
        self.shared.lock().current().size()
    }

    fn alignment(&self) -> usize {
        self.shared.profile.alignment
    }

    fn discard_granularity(&self) -> Option<u64> {
        (self.shared.profile.discards == Discards::Supported).then_some(PAGE_BYTES_U64)
    }

    fn description(&self) -> String {
        "simulated".to_owned()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn room_for_writes(&self) -> Option<u64> {
        self.shared.profile.writes_find_room.then(|| self.shared.lock().room())
    }

    /// Without latency the channel has no descriptor, and polling it completes everything. With latency its
    /// descriptor is always readable.
    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        let number = self.shared.channels.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(SimulatedChannel::new(self.shared.clone(), number, depth)?))
    }
}
