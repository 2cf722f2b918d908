//! `offshoot pool settle`: removing is quick, freeing happens behind it; this waits for its end.

use crate::failure::Failure;
use crate::output::{Style, tell};
use crate::reach::{CHANGE, PoolChoice};
use crate::wire::Ask;
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, style: Style) -> Result<(), Failure> {
    let status = pool.with(CHANGE, |reach| {
        reach.ask(Ask::Settle)?;
        reach.status()
    })?;
    let sentence = format!("{} mapped, {} free", style.size(status.mapped), style.size(status.free));
    tell(style, "PoolSettled", &json!({ "mapped": status.mapped, "free": status.free }), &sentence)
}
