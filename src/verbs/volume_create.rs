//! `offshoot volume create NAME... --size SIZE`.

use super::names::{self, Point};
use super::space_note;
use crate::arguments::VolumeCreateArguments;
use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::reach::{CHANGE, PoolChoice};
use crate::wire::Ask;
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, create: &VolumeCreateArguments, style: Style) -> Result<(), Failure> {
    let what = "no volume was created";
    let names = names::expand(&create.names, what)?;
    names::require_point(&names, Point::Forbidden, what)?;
    let total = names.len();
    pool.with(CHANGE, |reach| {
        for (created, name) in names.iter().cloned().enumerate() {
            reach.ask(Ask::CreateVolume { name, size: create.size.bytes() }).map_err(|mut failure| {
                if created > 0 {
                    failure.code = Code::Partly;
                    failure.what = format!("{}, after {created} of {total}", failure.what);
                }
                failure
            })?;
        }
        space_note::overcommit(reach, style)?;
        let size = create.size.bytes();
        let sentence = format!("created {total} of {}", style.size(size));
        tell(style, "VolumesCreated", &json!({ "names": names, "size": size }), &sentence)
    })
}
