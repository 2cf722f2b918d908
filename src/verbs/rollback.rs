//! `offshoot snap rollback VOLUME@SNAPSHOT`.

use super::consent;
use super::names::{self, Point};
use crate::arguments::RollbackArguments;
use crate::failure::Failure;
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::wire::{Ask, RollbackOrder};
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, mut rollback: RollbackArguments, style: Style) -> Result<(), Failure> {
    let what = "nothing was rolled back";
    let pool = pool.of([&mut rollback.to])?;
    let to = &rollback.to;
    names::expand(std::slice::from_ref(to), what)?;
    names::require_point(std::slice::from_ref(to), Point::Required, what)?;
    let volume = to.split('@').next().unwrap_or_default();
    let order = Ask::Rollback(RollbackOrder { to: to.clone() });
    pool.with(rollback.consent.demand(), |reach| {
        if !consent::ask(reach, &order, rollback.consent, volume, style)? {
            return Ok(());
        }
        reach.ask(order)?;
        let done = json!({ "volume": volume, "to": to });
        tell(style, "RolledBack", &done, &format!("{volume} is back at {to}"))
    })
}
