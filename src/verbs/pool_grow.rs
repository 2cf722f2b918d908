//! `offshoot pool grow PATH --size SIZE`: whoever holds the pool makes its file longer, of several the last, and takes that
//! in.

use super::consent;
use crate::arguments::Consent;
use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::pool_file;
use crate::size::Size;
use crate::wire::{Ask, GrowOrder};
use serde_json::json;
use std::path::{Path, PathBuf};

const WHAT: &str = "the pool was not grown";

pub(super) fn run(
    pool: &PoolChoice,
    size: Option<Size>,
    consent: Consent,
    style: Style,
) -> Result<(), Failure> {
    let first = pool.path()?;
    let grown = pool.with(consent.demand(), |reach| {
        // A further device is known by an absolute path, the first by the one that was typed.
        let last = reach.status()?.devices.pop().filter(|device| device.index > 0);
        let last = last.map_or_else(|| first.clone(), |device| PathBuf::from(device.path));
        let size = new_size(&last, size)?;
        let order = Ask::Grow(GrowOrder { size });
        if consent::is_dry(reach, &order, consent, style)? {
            return Ok(None);
        }
        reach.ask(order)?;
        reach.status().map(|status| Some((size, status.capacity)))
    })?;
    let Some((size, capacity)) = grown else { return Ok(()) };
    let sentence = format!("the pool has {} now", style.size(capacity));
    tell(style, "PoolGrown", &json!({ "size": size, "capacity": capacity }), &sentence)
}

/// Bytes of the device that grows.
fn new_size(path: &Path, size: Option<Size>) -> Result<u64, Failure> {
    match (pool_file::is_block_device(path), size) {
        (true, None) => pool_file::block_device_size(path, WHAT),
        (true, Some(_)) => Err(usage("a block device is used whole", "the same command without --size")),
        (false, None) => Err(usage("--size is missing", "offshoot pool grow --size 800G")),
        (false, Some(size)) => Ok(size.bytes()),
    }
}

fn usage(why: &str, next: &str) -> Failure {
    Failure::new(Code::Usage, WHAT, why, next)
}
