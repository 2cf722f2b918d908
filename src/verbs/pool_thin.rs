//! `offshoot pool thin`: a removed name whose clones live on keeps its blocks; those that no clone uses any more are freed.

use super::consent;
use crate::arguments::Consent;
use crate::failure::Failure;
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::wire::Ask;
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, dry: Consent, style: Style) -> Result<(), Failure> {
    let mapped = pool.with(dry.demand(), |reach| {
        if consent::is_dry(reach, &Ask::Thin, dry, style)? {
            return Ok(None);
        }
        reach.ask(Ask::Settle)?;
        let before = reach.status()?.mapped;
        reach.ask(Ask::Thin)?;
        reach.ask(Ask::Settle)?;
        Ok(Some((before, reach.status()?.mapped)))
    })?;
    let Some((before, after)) = mapped else { return Ok(()) };
    let given_back = before.saturating_sub(after);
    let sentence = format!("{} given back, {} mapped", style.size(given_back), style.size(after));
    tell(style, "PoolThinned", &json!({ "given_back": given_back, "mapped": after }), &sentence)
}
