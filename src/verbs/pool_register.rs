//! `offshoot pool register PATH` and `offshoot pool forget NAME`: which pool a name stands for.

use crate::failure::{Code, Failure};
use crate::output::{Style, tell};
use crate::pool_choice::PoolChoice;
use crate::reach::{LOOK, Reach};
use crate::registry::{Entered, Registry};
use serde_json::json;
use std::path::PathBuf;

pub(super) fn register(pool: &PoolChoice, path: PathBuf, style: Style) -> Result<(), Failure> {
    let name = PoolChoice::new(Some(path.clone()), None, pool.engine).with(LOOK, Reach::status)?.pool;
    match Registry::open()?.enter(&name, &path)? {
        Entered::Yes => {
            let sentence = format!("{name} stands for {}; next: offshoot ls {name}/", path.display());
            tell(
                style,
                "PoolRegistered",
                &json!({ "pool": name, "path": path.display().to_string() }),
                &sentence,
            )
        }
        Entered::Taken(other) => {
            let why = format!("{name} stands for {}", other.display());
            let what = format!("{name} does not stand for {}", path.display());
            Err(Failure::new(Code::Conflict, what, why, format!("offshoot pool forget {name}")))
        }
    }
}

pub(super) fn forget(name: &str, style: Style) -> Result<(), Failure> {
    if !Registry::open()?.forget(name)? {
        let shown: String = name.chars().take(60).collect();
        let why = format!("no pool is known as {shown:?}");
        return Err(Failure::new(Code::NotFound, "nothing was forgotten", why, "offshoot pool ls"));
    }
    let sentence = format!("{name} stands for no pool any more; the pool is as it was");
    tell(style, "PoolForgotten", &json!({ "pool": name }), &sentence)
}
