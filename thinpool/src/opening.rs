//! Opening a pool: who opens it, and how much of it comes back.

use crate::core::Core;
use crate::devices::Devices;
use crate::error::Error;
use crate::join::NewDevice;
use crate::keeper::Keeper;
use crate::keeper::io::{KeeperIo, block_on};
use crate::limits::Limits;
use crate::pool::Pool;
use crate::recovery;
use crate::tail::{Incarnation, Tail};
use blockstore::Device;
use std::sync::Arc;

/// Who opens a pool, and how. The core knows neither clock nor chance: the opener brings both.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Random; names this opening.
    pub incarnation: Incarnation,
    /// Another after every boot of the machine.
    pub boot_id: [u8; 16],
    pub process_id: u32,
    pub host: String,
    /// Seconds since 1970; only for the dates of names.
    pub now_unix: u64,
    /// Look only: nothing on the device or in the tail changes.
    pub read_only: bool,
    /// Open even when the crash tail that this boot's writes were acknowledged into is gone.
    pub accept_lost_writes: bool,
    pub limits: Limits,
}

/// Opens and recovers a pool. The device is locked by the caller; `tail` is the one the last opener used, if it can
/// still be found, else a new one.
///
/// Nothing of the pool is served before its state is durable under this opening's incarnation.
///
/// # Errors
/// When the device holds no pool, a newer or damaged one, or when acknowledged writes would be lost.
pub fn open(device: Arc<dyn Device>, tail: Tail, opening: Opening) -> Result<(Pool, Keeper), Error> {
    open_all(vec![device], None, tail, opening)
}

/// Opens and recovers a pool of several devices, given in their order. A device that joins it is one of the pool from this
/// opening on, or not at all: whoever tries again after a crash may give the same one.
///
/// # Errors
/// As [`open`], and when the devices are not those of the pool, or the one that joins is not empty.
///
/// # Panics
/// Without a device.
pub fn open_all(
    devices: Vec<Arc<dyn Device>>,
    joining: Option<NewDevice>,
    tail: Tail,
    opening: Opening,
) -> Result<(Pool, Keeper), Error> {
    let devices = Devices::new(devices, joining)?;
    let io = Arc::new(KeeperIo::new(devices.together.open_channel(opening.limits.device_depth)?)?);
    let core: Arc<Core> = block_on(&io, recovery::recover(&io, devices, tail, &opening))?;
    let keeper = Keeper::new(core.clone(), io);
    Ok((Pool::new(core), keeper))
}
