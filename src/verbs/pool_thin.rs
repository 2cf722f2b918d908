//! `offshoot pool thin`: a removed name whose clones live on keeps its blocks; those that no clone uses any more are freed.

use crate::failure::Failure;
use crate::output::{Style, tell};
use crate::reach::{CHANGE, PoolChoice};
use crate::wire::Ask;
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, style: Style) -> Result<(), Failure> {
    let (before, after) = pool.with(CHANGE, |reach| {
        reach.ask(Ask::Settle)?;
        let before = reach.status()?.mapped;
        reach.ask(Ask::Thin)?;
        reach.ask(Ask::Settle)?;
        Ok((before, reach.status()?.mapped))
    })?;
    let given_back = before.saturating_sub(after);
    let sentence = format!("{} given back, {} mapped", style.size(given_back), style.size(after));
    tell(style, "PoolThinned", &json!({ "given_back": given_back, "mapped": after }), &sentence)
}
