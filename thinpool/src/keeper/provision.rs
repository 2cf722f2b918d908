//! Bringing what the allocator asks for: bitmaps that are not loaded, groups the file has no space for yet.

use super::Desk;
use super::io::KeeperIo;
use crate::core::Core;
use crate::error::Error;
use crate::geometry::GroupIndex;
use crate::groups::GroupKind;
use blockstore::{IoError, Operation};
use std::sync::atomic::Ordering;

pub(crate) async fn run(desk: Desk) {
    let core = &desk.core;
    loop {
        let needed = || {
            let needs = core.needs.lock();
            !needs.load.is_empty() || !needs.activate.is_empty()
        };
        desk.until(|| core.closed.load(Ordering::SeqCst) || needed()).await;
        if core.closed.load(Ordering::SeqCst) {
            return;
        }
        let (load, activate) = {
            let mut needs = core.needs.lock();
            (std::mem::take(&mut needs.load), std::mem::take(&mut needs.activate))
        };
        // A bitmap that cannot be read, and a file system that is full, make the pool smaller, not broken.
        for group in load {
            if load_group(core, &desk.io, group).await.is_err() {
                core.groups.lock().refuse(group);
            }
        }
        for group in activate {
            let secured = secure_metadata(core, &desk.io).await;
            if !secured || activate_group(core, &desk.io, group, GroupKind::Data).await.is_err() {
                core.groups.lock().refuse(group);
            }
        }
        core.announce();
        core.stepped();
    }
}

/// Data gets room in the file only after the metadata it may need has it (A10, F15). Says whether metadata has.
async fn secure_metadata(core: &Core, io: &KeeperIo) -> bool {
    loop {
        let Some(group) = core.groups.lock().metadata_wanted() else { return true };
        if activate_group(core, io, group, GroupKind::Metadata).await.is_err() {
            core.groups.lock().refuse(group);
            return false;
        }
    }
}

/// Reads a group's bitmap. Harmless when it is loaded already.
pub(crate) async fn load_group(core: &Core, io: &KeeperIo, group: GroupIndex) -> Result<(), Error> {
    let Some(slot) = core.groups.lock().slot_to_load(group) else { return Ok(()) };
    let address = core.geometry.read().bitmap_slot(group, slot);
    let page = io.read(address, 1, "reading a bitmap").await?;
    let mut groups = core.groups.lock();
    if groups.slot_to_load(group).is_none() {
        return Ok(());
    }
    Ok(groups.load(group, &page)?)
}

/// Makes the file hold a group for real before its first block is handed out.
pub(crate) async fn activate_group(
    core: &Core,
    io: &KeeperIo,
    group: GroupIndex,
    kind: GroupKind,
) -> Result<(), Error> {
    let (first, blocks) = {
        let geometry = core.geometry.read();
        (geometry.first_block(group), geometry.group_len(group))
    };
    let operation = Operation::Allocate { offset: first.byte_offset(), length: blocks.bytes() };
    match io.run(operation).await {
        Ok(_) | Err(IoError::Unsupported) => {}
        Err(error) => return Err(Error::io("allocating a group in the file")(error)),
    }
    core.groups.lock().activate(group, kind);
    Ok(())
}
