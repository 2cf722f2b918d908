//! Makes an image version from a file: all of it, or nothing.
//!
//! The bytes go into a scratch volume that is published under the version's name at the end. A crash leaves the
//! scratch volume behind, marked by a property; whoever opens the pool next removes it.

mod blocks;
mod chain;
mod compare;
mod header;
mod image;
mod map;
mod raw;
mod scratch;
mod server;
mod source;
mod source_file;
mod stream;
mod transfer;

use crate::explain;
use crate::failure::{Code, Failure};
use crate::handler::{Watcher, parse_name};
use crate::wire::{Base, ImportOrder, ImportView};
pub(crate) use compare::{Fate, compare};
pub(crate) use scratch::{Scratch, remove_leftovers};
use source::Source;
use thinpool::{Entry, EntryKind, Name, Pool};

/// What a volume begins with whose size is not known yet.
const FIRST_SIZE_BYTES: u64 = 64 << 20;

pub(crate) fn run(
    pool: &Pool,
    order: &ImportOrder,
    watcher: &mut dyn Watcher,
) -> Result<ImportView, Failure> {
    let what = format!("{} was not imported", order.version);
    let version = parse_version(&order.version, &what)?;
    if pool.entry(&version).is_some() {
        let why = format!("{version} exists already, and versions do not change");
        return Err(Failure::new(Code::Conflict, what, why, "offshoot image ls, then another version"));
    }
    let source = Source::open(order, &what)?;
    let base = choose_base(pool, order, &version, source.size(), &what)?;
    let first_size = source.size().unwrap_or(base.as_ref().map_or(FIRST_SIZE_BYTES, |base| base.size));
    let base = base.map(|base| base.name);
    let scratch = Scratch::create(pool, base.as_ref(), first_size, &what)?;
    let copied = transfer::copy(pool, scratch.name(), &source, base.is_some(), watcher, &what)
        .and_then(|copied| source.verify_unchanged(&what).map(|()| copied))
        .and_then(|copied| scratch.resize(copied.size, &what).map(|()| copied));
    match copied {
        Ok(copied) => {
            scratch.publish(&version, &what)?;
            Ok(ImportView {
                version: version.to_string(),
                base: base.map(|base| base.to_string()),
                size: copied.size,
                stored: copied.stored,
                unchanged: copied.unchanged,
                zero: copied.zero,
            })
        }
        Err(failure) => Err(scratch.abandon(failure)),
    }
}

fn parse_version(text: &str, what: &str) -> Result<Name, Failure> {
    let name = parse_name(text, what)?;
    if name.point().is_none() {
        let why = format!("{name} names no version");
        return Err(Failure::new(Code::Usage, what, why, format!("offshoot image import {name}@v1 FILE")));
    }
    Ok(name)
}

/// The version to store a difference from. One that is larger than the file is no base: images do not shrink. Where only its
/// end tells how large a disk is, the volume is cut to it afterwards.
fn choose_base(
    pool: &Pool,
    order: &ImportOrder,
    version: &Name,
    size: Option<u64>,
    what: &str,
) -> Result<Option<Entry>, Failure> {
    let fits = |entry: &Entry| size.is_none_or(|size| entry.size <= size);
    let entry = match &order.base {
        Base::Nothing => return Ok(None),
        Base::Latest => return Ok(latest_version(pool, version).filter(fits)),
        Base::Version(text) => {
            let name = parse_version(text, what)?;
            pool.entry(&name)
                .ok_or_else(|| explain::engine(what, &thinpool::Error::NotFound(name.to_string())))?
        }
    };
    if !fits(&entry) {
        let why = format!("{} is larger than the file, and an image does not shrink", entry.name);
        return Err(Failure::new(Code::Usage, what, why, "--no-base, which stores the whole file"));
    }
    Ok(Some(entry))
}

fn latest_version(pool: &Pool, version: &Name) -> Option<Entry> {
    let entries = pool.entries().into_iter();
    entries
        .filter(|entry| entry.kind == EntryKind::Version && entry.name.base() == version.base())
        .max_by_key(|entry| (entry.created_unix, entry.name.clone()))
}
