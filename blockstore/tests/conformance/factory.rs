//! Where the devices under test come from.

use crate::loop_device::{self, LoopDevice};
use blockstore::simulated::{Profile, SimulatedDevice, SimulatedDisk};
use blockstore::{Device, Engine, OpenOptions, RamDevice};
use std::fs::File;
use std::sync::Arc;
use tempfile::TempDir;

/// Of the simulated devices; each has its own profile.
const SEED: u64 = 1;

/// Makes devices of one kind.
pub(crate) trait Factory {
    /// A new device of `size` zero bytes, readable and writable.
    fn make(&self, size: u64) -> Made;

    /// Whether this machine lets this user have such devices; says so when not.
    fn can_make(&self) -> bool {
        true
    }

    /// Whether a channel can make its devices longer and shorter. A block device has the length that others gave it.
    fn can_resize(&self) -> bool {
        true
    }
}

/// A device, with what has to outlive it.
pub(crate) struct Made {
    pub(crate) device: Arc<dyn Device>,
    _loop_device: Option<LoopDevice>,
    _directory: Option<TempDir>,
}

impl Made {
    pub(crate) fn in_memory(device: Arc<dyn Device>) -> Self {
        Self { device, _loop_device: None, _directory: None }
    }

    /// The same with another device before it.
    pub(crate) fn map(self, wrap: impl FnOnce(Arc<dyn Device>) -> Arc<dyn Device>) -> Self {
        Self { device: wrap(self.device), ..self }
    }
}

pub(crate) struct RamFactory;

impl Factory for RamFactory {
    fn make(&self, size: u64) -> Made {
        Made::in_memory(Arc::new(RamDevice::new(size)))
    }
}

/// An honest simulated device of some nature.
pub(crate) struct SimulatedFactory {
    pub(crate) profile: fn() -> Profile,
}

impl Factory for SimulatedFactory {
    fn make(&self, size: u64) -> Made {
        let disk = SimulatedDisk::new(size);
        Made::in_memory(Arc::new(SimulatedDevice::new(disk, (self.profile)(), SEED)))
    }
}

/// What a file lies on.
pub(crate) enum Place {
    Disk,
    /// tmpfs.
    Memory,
}

pub(crate) struct FileFactory {
    pub(crate) place: Place,
    pub(crate) engine: Engine,
}

impl Factory for FileFactory {
    fn make(&self, size: u64) -> Made {
        let parent = match self.place {
            Place::Disk => env!("CARGO_TARGET_TMPDIR"),
            Place::Memory => "/dev/shm",
        };
        let directory = tempfile::tempdir_in(parent).expect("a directory for the device");
        let options = OpenOptions { engine: self.engine, ..OpenOptions::default() };
        let device =
            blockstore::create(&directory.path().join("disk"), size, &options).expect("a new device");
        Made { device, _loop_device: None, _directory: Some(directory) }
    }
}

/// Real block devices.
pub(crate) struct LoopFactory {
    pub(crate) engine: Engine,
}

impl Factory for LoopFactory {
    fn make(&self, size: u64) -> Made {
        let directory =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the device");
        let path = directory.path().join("disk");
        File::create(&path).and_then(|file| file.set_len(size)).expect("a file");
        let loop_device = LoopDevice::over(&path);
        let options = OpenOptions { engine: self.engine, ..OpenOptions::default() };
        let device = blockstore::open(loop_device.path(), &options).expect("a block device");
        Made { device, _loop_device: Some(loop_device), _directory: Some(directory) }
    }

    fn can_make(&self) -> bool {
        loop_device::can_be_had("the contract on a block device")
    }

    fn can_resize(&self) -> bool {
        false
    }
}
