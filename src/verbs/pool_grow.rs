//! `offshoot pool grow PATH --size SIZE`: whoever holds the pool makes its file longer and takes that in.

use super::consent;
use crate::arguments::Consent;
use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::pool_file;
use crate::reach::CHANGE;
use crate::size::Size;
use crate::wire::{Ask, GrowOrder};
use serde_json::json;

const WHAT: &str = "the pool was not grown";

pub(super) fn run(pool: &PoolChoice, size: Option<Size>, dry: Consent, style: Style) -> Result<(), Failure> {
    let path = pool.path()?;
    let size = match (pool_file::is_block_device(&path), size) {
        (true, None) => pool_file::block_device_size(&path, WHAT)?,
        (true, Some(_)) => {
            return Err(usage("a block device is used whole", "the same command without --size"));
        }
        (false, None) => return Err(usage("--size is missing", "offshoot pool grow --size 800G")),
        (false, Some(size)) => size.bytes(),
    };
    let order = Ask::Grow(GrowOrder { size });
    let capacity = pool.with(CHANGE, |reach| {
        if consent::is_dry(reach, &order, dry, style)? {
            return Ok(None);
        }
        reach.ask(order)?;
        reach.status().map(|status| Some(status.capacity))
    })?;
    let Some(capacity) = capacity else { return Ok(()) };
    let sentence = format!("the pool has {} now", style.size(capacity));
    tell(style, "PoolGrown", &json!({ "size": size, "capacity": capacity }), &sentence)
}

fn usage(why: &str, next: &str) -> Failure {
    Failure::new(Code::Usage, WHAT, why, next)
}
