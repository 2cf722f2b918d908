//! `offshoot rollback VOLUME@SNAPSHOT`.

use super::names::{self, Point};
use crate::arguments::RollbackArguments;
use crate::confirm::confirm;
use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::reach::{CHANGE, PoolChoice};
use crate::wire::Ask;
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, rollback: &RollbackArguments, style: Style) -> Result<(), Failure> {
    let what = "nothing was rolled back";
    let to = &rollback.to;
    names::expand(std::slice::from_ref(to), what)?;
    names::require_point(std::slice::from_ref(to), Point::Required, what)?;
    let volume = to.split('@').next().unwrap_or_default();
    pool.with(CHANGE, |reach| {
        let entries = reach.entries()?;
        let find = |name: &str| {
            entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
                Failure::new(Code::NotFound, what, format!("{name} does not exist"), "offshoot ls")
            })
        };
        find(to)?;
        let live = find(volume)?;
        let damage = format!("{volume} drops the {} it wrote since {to}", style.size(live.owned));
        confirm(rollback.consent.yes, &damage, volume)?;
        reach.ask(Ask::Rollback { to: to.clone() })?;
        let done = json!({ "volume": volume, "to": to });
        tell(style, "RolledBack", &done, &format!("{volume} is back at {to}"))
    })
}
