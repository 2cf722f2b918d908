//! `offshoot pool settle`: removing is quick, freeing happens behind it; this waits for its end.

use super::consent;
use crate::arguments::Consent;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::wire::Ask;
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, dry: Consent, style: Style) -> Result<(), Failure> {
    let interrupt = Interrupt::watch()?;
    let status = pool.with(dry.demand(), |reach| {
        if consent::is_dry(reach, &Ask::Settle, dry, style)? {
            return Ok(None);
        }
        reach.ask_patiently(Ask::Settle, interrupt)?;
        reach.status().map(Some)
    })?;
    let Some(status) = status else { return Ok(()) };
    let sentence = format!("{} mapped, {} free", style.size(status.mapped), style.size(status.free));
    tell(style, "PoolSettled", &json!({ "mapped": status.mapped, "free": status.free }), &sentence)
}
