//! `offshoot pool set POOL --warn PERCENT`: when alerts are raised, and what a full pool does to writes; kept with the pool.

use super::consent;
use crate::arguments::PoolSetArguments;
use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::reach::unexpected;
use crate::wire::{Answer, Ask, PoolOrder};
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, set: &PoolSetArguments, style: Style) -> Result<(), Failure> {
    let order = PoolOrder::from(set.policy);
    if order == PoolOrder::default() {
        let why = "nothing is given that would be different";
        return Err(Failure::new(Code::Usage, "the pool was not changed", why, "--warn PERCENT"));
    }
    pool.with(set.consent.demand(), |reach| {
        let ask = Ask::SetPool(order);
        if consent::is_dry(reach, &ask, set.consent, style)? {
            return Ok(());
        }
        let status = match reach.ask(ask)? {
            Answer::Status(status) => status,
            other => return Err(unexpected(&other)),
        };
        let sentence = format!("{}: {}", status.pool, order.words(&status.thresholds));
        let body = json!({ "pool": status.pool, "thresholds": status.thresholds, "on_full": status.on_full });
        tell(style, "PoolSet", &body, &sentence)
    })
}
