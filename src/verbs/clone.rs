//! `offshoot clone SOURCE NAME...`: all clones in one commit, or none.

use super::names::{self, Point};
use super::space_note;
use crate::arguments::CloneArguments;
use crate::clock;
use crate::failure::Failure;
use crate::output::{Style, tell};
use crate::reach::{CHANGE, PoolChoice};
use crate::size::Size;
use crate::wire::Ask;
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, clone: &CloneArguments, style: Style) -> Result<(), Failure> {
    let what = "nothing was cloned";
    let names = names::expand(&clone.names, what)?;
    names::require_point(&names, Point::Forbidden, what)?;
    names::require_point(std::slice::from_ref(&clone.source), Point::Required, what)?;
    let count = names.len();
    pool.with(CHANGE, |reach| {
        let start = clock::now();
        reach.ask(Ask::Clone {
            source: clone.source.clone(),
            names: names.clone(),
            size: clone.size.map(Size::bytes),
        })?;
        let took = start.elapsed();
        let noun = if count == 1 { "clone" } else { "clones" };
        let sentence = format!("{count} {noun} of {} in {:.3} s", clone.source, took.as_secs_f64());
        space_note::overcommit(reach, style)?;
        tell(style, "Cloned", &json!({ "source": clone.source, "names": names }), &sentence)
    })
}
