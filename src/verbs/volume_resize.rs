//! `offshoot volume resize NAME --size SIZE`.

use super::names::{self, Point};
use super::space_note;
use crate::arguments::VolumeResizeArguments;
use crate::confirm::confirm;
use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::reach::{CHANGE, PoolChoice};
use crate::wire::Ask;
use serde_json::json;

pub(super) fn run(pool: &PoolChoice, resize: &VolumeResizeArguments, style: Style) -> Result<(), Failure> {
    let what = "nothing was resized";
    let name = &resize.name;
    let one = std::slice::from_ref(name);
    names::expand(one, what)?;
    names::require_point(one, Point::Forbidden, what)?;
    let size = resize.size.bytes();
    pool.with(CHANGE, |reach| {
        let entries = reach.entries()?;
        let found = entries.iter().find(|entry| entry.name == *name).ok_or_else(|| {
            Failure::new(Code::NotFound, what, format!("{name} does not exist"), "offshoot ls")
        })?;
        if size < found.size {
            let damage = format!("{name} loses its last {}", style.size(found.size - size));
            confirm(resize.consent.yes, &damage, name)?;
        }
        reach.ask(Ask::Resize { name: name.clone(), size })?;
        space_note::overcommit(reach, style)?;
        let done = json!({ "name": name, "size": size });
        tell(style, "VolumeResized", &done, &format!("{name} is {} now", style.size(size)))
    })
}
