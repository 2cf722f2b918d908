//! `offshoot volume resize NAME --size SIZE`.

use super::names::{self, Point};
use super::{consent, space_note};
use crate::arguments::VolumeResizeArguments;
use crate::failure::Failure;
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::wire::{Ask, ResizeOrder};
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, mut resize: VolumeResizeArguments, style: Style) -> Result<(), Failure> {
    let what = "nothing was resized";
    let pool = pool.of([&mut resize.name])?;
    let name = &resize.name;
    let one = std::slice::from_ref(name);
    names::expand(one, what)?;
    names::require_point(one, Point::Forbidden, what)?;
    let size = resize.size.bytes();
    let order = Ask::Resize(ResizeOrder { name: name.clone(), size });
    pool.with(resize.consent.demand(), |reach| {
        if !consent::ask(reach, &order, resize.consent, name, style)? {
            return Ok(());
        }
        reach.ask(order)?;
        space_note::overcommit(reach, style)?;
        let done = json!({ "name": name, "size": size });
        tell(style, "VolumeResized", &done, &format!("{name} is {} now", style.size(size)))
    })
}
