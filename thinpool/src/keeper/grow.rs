//! Using the last device of the pool when it has become longer. Extend and sync come first, then the record that says so:
//! whatever is allocated in the new part has a later one.

use super::Desk;
use crate::error::Error;
use crate::geometry::{Geometry, at};
use crate::record::Record;
use crate::recovery::metadata_required;
use blockstore::{Device, IoError, Operation};
use cow_tree::units::BLOCK_BYTES_U64;
use std::sync::Arc;

/// What a crash leaves behind is a file longer than its pool, which does no harm.
pub(crate) async fn extend(desk: &Desk, bytes: u64) -> Result<(), Error> {
    plan(desk, bytes)?;
    if last(desk).size() < bytes {
        let start = at(desk.core.members.len() - 1, 0).byte_offset();
        let length = start.saturating_add(bytes);
        desk.io.run(Operation::Resize { length }).await.map_err(|error| match error {
            IoError::Unsupported => Error::Invalid("the device cannot be made longer from here".to_owned()),
            other => Error::io("making the device longer")(other),
        })?;
    }
    grow(desk).await
}

pub(crate) async fn grow(desk: &Desk) -> Result<(), Error> {
    let core = &desk.core;
    let grown = plan(desk, last(desk).size())?;
    // The file's new length must survive power loss before a superblock counts on it.
    desk.io.flush("flushing the grown device").await?;
    loop {
        let staged = {
            let _gate = core.gate.write().expect("no thread panics inside the gate");
            let staged = core.stage_control(&Record::Grow { blocks: grown.last_blocks() });
            if staged.is_ok() {
                let mut groups = core.groups.lock();
                groups.grow(&grown);
                groups.set_metadata_required(metadata_required(&grown, &core.limits));
                drop(groups);
                *core.geometry.write() = grown;
            }
            staged
        };
        match staged {
            Ok(_) => break,
            Err(Error::TailFull) => super::command::commit(desk).await?,
            Err(error) => return Err(error),
        }
    }
    core.announce();
    super::command::checkpoint(desk).await
}

/// The pool on a device of this length. Changes nothing.
fn plan(desk: &Desk, bytes: u64) -> Result<Geometry, Error> {
    let geometry = desk.core.geometry.read();
    let used = geometry.last_blocks() * BLOCK_BYTES_U64;
    if bytes < used + BLOCK_BYTES_U64 {
        let what = if geometry.devices().len() == 1 { "the pool" } else { "the last device of the pool" };
        return Err(Error::Invalid(format!("{what} has {used} bytes already, and a pool does not shrink")));
    }
    geometry.grown(bytes).map_err(|error| Error::Invalid(error.to_string()))
}

fn last(desk: &Desk) -> &Arc<dyn Device> {
    desk.core.members.last().expect("a pool has a device")
}
