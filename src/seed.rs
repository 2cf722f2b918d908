//! Seeds: a small disk beside a clone that tells cloud-init which machine it is, so that clones of one image do not share one
//! name and one identity. The seed of `desk-01` is the volume `desk-01-seed`, in cloud-init's NoCloud form, with the clone's name
//! as a property.
//!
//! A seed has all its bytes before it has its name, and its name before its clone is there: the commit that makes the clones
//! decides. What a crash leaves behind before it is a seed without a clone, which whoever opens the pool next removes.

mod contents;
mod image;
mod making;

pub(crate) use contents::{NETWORK_CONFIG_BYTES_MAX, USER_DATA_BYTES_MAX};
pub(crate) use image::BYTES;
pub(crate) use making::Seeds;
use std::collections::{BTreeMap, BTreeSet};
use thinpool::{Command, Entry, EntryKind, Error, Name, Pool};

/// The property of a seed that has the name of its clone.
const PROPERTY: &str = "offshoot.seed_of";

/// What the seed of a clone is called.
pub(crate) fn name_of(clone: &str) -> String {
    format!("{clone}-seed")
}

/// The clone that what has these properties is a seed of.
pub(crate) fn clone_of(properties: &BTreeMap<String, String>) -> Option<&str> {
    properties.get(PROPERTY).map(String::as_str)
}

/// The seed of a clone, if it has one.
pub(crate) fn of(pool: &Pool, clone: &Name) -> Option<Entry> {
    let clone = clone.to_string();
    let entry = pool.entry(&name_of(&clone).parse().ok()?)?;
    (clone_of(&entry.properties) == Some(&clone)).then_some(entry)
}

/// Removes seeds whose clones were not made, or went without them; returns how many there were. Call before anything is cloned.
/// Seeds know their clones by name: who renames a clone has to rename its seed, and what it says there.
pub(crate) fn remove_leftovers(pool: &Pool) -> Result<usize, Error> {
    let entries = pool.entries();
    let names: BTreeSet<String> = entries.iter().map(|entry| entry.name.to_string()).collect();
    let is_leftover = |entry: &&Entry| {
        entry.kind == EntryKind::Volume
            && clone_of(&entry.properties)
                .is_some_and(|clone| !names.contains(clone) || entry.name.to_string() != name_of(clone))
    };
    let leftovers: Vec<&Entry> = entries.iter().filter(is_leftover).collect();
    leftovers.iter().try_for_each(|entry| remove(pool, &entry.name))?;
    Ok(leftovers.len())
}

/// The names without seeds whose clones are among them: those go with their clones, and stay with them.
pub(crate) fn without_those_of<'a>(names: &'a [String], pool: &Pool) -> Vec<&'a String> {
    let named: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let goes_alone = |name: &&String| {
        let entry = name.parse().ok().and_then(|name| pool.entry(&name));
        entry.is_none_or(|entry| clone_of(&entry.properties).is_none_or(|clone| !named.contains(clone)))
    };
    names.iter().filter(goes_alone).collect()
}

/// With its snapshots: nobody needs them without it.
pub(crate) fn remove(pool: &Pool, seed: &Name) -> Result<(), Error> {
    pool.run(Command::Remove { name: seed.clone(), recursive: true }).map(drop)
}
