//! Opening a pool: who opens it, and how much of it comes back.

use crate::core::Core;
use crate::error::Error;
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
    let io = Arc::new(KeeperIo::new(device.open_channel(opening.limits.device_depth)?)?);
    let core: Arc<Core> = block_on(&io, recovery::recover(&io, device, tail, &opening))?;
    let keeper = Keeper::new(core.clone(), io);
    Ok((Pool::new(core), keeper))
}
