//! `offshoot clone create SOURCE NAME...`: all or none.

use super::names::{self, Point};
use super::{consent, space_note};
use crate::arguments::CloneArguments;
use crate::clock;
use crate::failure::Failure;
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::size::Size;
use crate::wire::{Ask, CloneOrder};
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, mut clone: CloneArguments, style: Style) -> Result<(), Failure> {
    let what = format!("no clone of {} was made", clone.source);
    let pool = pool.of(clone.names.iter_mut().chain([&mut clone.source]))?;
    let names = names::expand(&clone.names, &what)?;
    names::require_point(&names, Point::Forbidden, &what)?;
    names::require_point(std::slice::from_ref(&clone.source), Point::Required, &what)?;
    let count = names.len();
    let order = Ask::Clone(CloneOrder {
        source: clone.source.clone(),
        names: names.clone(),
        size: clone.size.map(Size::bytes),
        labels: clone.labels.into_iter().collect(),
    });
    pool.with(clone.consent.demand(), |reach| {
        if consent::is_dry(reach, &order, clone.consent, style)? {
            return Ok(());
        }
        let start = clock::now();
        reach.ask(order)?;
        let took = start.elapsed();
        let noun = if count == 1 { "clone" } else { "clones" };
        let first = names.first().map_or("NAME", String::as_str);
        let sentence = format!(
            "{count} {noun} of {} in {:.3} s; next: offshoot export start {first}",
            clone.source,
            took.as_secs_f64()
        );
        space_note::overcommit(reach, style)?;
        tell(style, "Cloned", &json!({ "source": clone.source, "names": names }), &sentence)
    })
}
