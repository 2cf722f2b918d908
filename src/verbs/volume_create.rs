//! `offshoot volume create NAME... --size SIZE`.

use super::names::{self, Point};
use super::{consent, space_note};
use crate::arguments::VolumeCreateArguments;
use crate::failure::Failure;
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::wire::{Ask, VolumeOrder};
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, mut create: VolumeCreateArguments, style: Style) -> Result<(), Failure> {
    let what = "no volume was created";
    let pool = pool.of(&mut create.names)?;
    let names = names::expand(&create.names, what)?;
    names::require_point(&names, Point::Forbidden, what)?;
    let total = names.len();
    let size = create.size.bytes();
    let labels = create.labels.into_iter().collect();
    let order = Ask::CreateVolumes(VolumeOrder { names: names.clone(), size, labels });
    pool.with(create.consent.demand(), |reach| {
        if consent::is_dry(reach, &order, create.consent, style)? {
            return Ok(());
        }
        reach.ask(order)?;
        space_note::overcommit(reach, style)?;
        let first = names.first().map_or("NAME", String::as_str);
        let sentence =
            format!("created {total} of {}; next: offshoot export start {first}", style.size(size));
        tell(style, "VolumesCreated", &json!({ "names": names, "size": size }), &sentence)
    })
}
