//! Bringing what the allocator asks for: bitmaps that are not loaded, groups the file has no space for yet; the latter
//! ahead of need where there are plenty, since a request that needs one waits.

use super::io::KeeperIo;
use super::{Desk, give_back};
use crate::core::Core;
use crate::error::Error;
use crate::geometry::GroupIndex;
use crate::groups::{GroupKind, SLOT_BLOCKS};
use blockstore::{IoError, Operation};
use cow_tree::units::{self, BlockCount};
use std::mem::take;
use std::sync::atomic::Ordering;

/// Bytes the file is asked for by one operation. A file system keeps everybody else from the file meanwhile: a memory file
/// system clears some 2 to 4 GB a second.
const ALLOCATE_BYTES_MAX: u64 = 512 << 10;

pub(crate) async fn run(desk: Desk) {
    let core = &desk.core;
    loop {
        let asked = || {
            let needs = core.needs.lock();
            !needs.load.is_empty() || !needs.activate.is_empty() || needs.metadata
        };
        // A pool that is being closed needs nothing for later.
        let is_closing = || core.closing.load(Ordering::SeqCst);
        let needed = || asked() || (!is_closing() && core.groups.lock().data_wanted().is_some());
        desk.until(|| core.closed.load(Ordering::SeqCst) || needed()).await;
        if core.closed.load(Ordering::SeqCst) {
            return;
        }
        let (load, activate, metadata) = {
            let mut guard = core.needs.lock();
            let needs = &mut *guard;
            (take(&mut needs.load), take(&mut needs.activate), take(&mut needs.metadata))
        };
        // A bitmap that cannot be read, and a file system that is full, make the pool smaller, not broken.
        for group in load {
            if load_group(core, &desk.io, group).await.is_err() {
                core.groups.lock().refuse(group);
            }
        }
        if metadata {
            secure_metadata(core, &desk.io).await;
        }
        for group in activate {
            provide_data(core, &desk.io, group).await;
        }
        // Whoever waits for these goes on before anything is done ahead.
        core.announce();
        provide_ahead(core, &desk.io, || !asked() && !is_closing()).await;
        core.announce();
        core.stepped();
    }
}

/// Does nothing when data has the group already: many requests may ask for the same. When metadata has taken it meanwhile,
/// whoever asked for it asks for another one.
async fn provide_data(core: &Core, io: &KeeperIo, group: GroupIndex) {
    let before = core.groups.lock().kind_of(group);
    let is_as_before = || core.groups.lock().kind_of(group) == before;
    if before == Some(GroupKind::Data) {
        return;
    }
    let secured = secure_metadata(core, io).await;
    if !is_as_before() {
        return;
    }
    let provided = secured && activate_group(core, io, group, GroupKind::Data).await.is_ok();
    if !provided && is_as_before() {
        core.groups.lock().refuse(group);
    }
}

/// A group that nobody needs yet, as long as `go_on`: while nobody asks for anything. When it is begun again, what the file
/// has got already costs less.
async fn provide_ahead(core: &Core, io: &KeeperIo, go_on: impl Fn() -> bool) {
    if core.groups.lock().data_wanted().is_none() {
        return;
    }
    let secured = secure_metadata(core, io).await;
    let Some(group) = core.groups.lock().data_wanted() else { return };
    if !secured {
        return core.groups.lock().stop_ahead();
    }
    match provide(core, io, group, GroupKind::Data, go_on).await {
        Ok(Extent::Whole) => drop(core.groups.lock().activate(group, GroupKind::Data)),
        Ok(Extent::Part) => {}
        Err(_) => core.groups.lock().stop_ahead(),
    }
}

/// Data gets room in the file only after the metadata it may need has it (A10, F15). Says whether metadata has.
pub(super) async fn secure_metadata(core: &Core, io: &KeeperIo) -> bool {
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

/// Makes sure of the file's room for a group before its first block is handed out. Somebody else may have given it a kind
/// meanwhile; then it keeps that.
pub(crate) async fn activate_group(
    core: &Core,
    io: &KeeperIo,
    group: GroupIndex,
    kind: GroupKind,
) -> Result<(), Error> {
    if let Err(error) = provide(core, io, group, kind, || true).await {
        // The file system may be full of what this pool has freed; of what it has promised, giving back takes nothing.
        let is_promise = kind == GroupKind::Data && core.device.room_for_writes().is_some();
        if is_promise || core.groups.lock().counts().data.kept == BlockCount(0) {
            return Err(error);
        }
        give_back::all(core, io).await;
        provide(core, io, group, kind, || true).await?;
    }
    core.groups.lock().activate(group, kind);
    Ok(())
}

/// How much of a group the file holds.
enum Extent {
    Part,
    Whole,
}

/// Metadata's room is held for real; data's too, unless writes find it as well: then only the group's bitmaps, and there must
/// be enough for all that data groups promise.
async fn provide(
    core: &Core,
    io: &KeeperIo,
    group: GroupIndex,
    kind: GroupKind,
    go_on: impl Fn() -> bool,
) -> Result<Extent, Error> {
    let length = core.geometry.read().group_len(group);
    let Some(room) = core.device.room_for_writes() else {
        return allocate(core, io, group, length, go_on).await;
    };
    let (wanted, held) = match kind {
        // It goes before what data was promised. A group that nobody has had takes nothing when it cannot have all.
        GroupKind::Metadata if core.groups.lock().kind_of(group).is_none() => (length, length),
        GroupKind::Metadata => (BlockCount(0), length),
        GroupKind::Data => {
            let data = core.groups.lock().counts().data;
            let promised = BlockCount(data.free().0 - data.kept.0) + data.reserved;
            (promised + length, BlockCount(units::length_of(SLOT_BLOCKS)))
        }
    };
    if wanted.bytes() > room {
        return Err(Error::io("finding room for a group in the file")(IoError::OutOfSpace));
    }
    allocate(core, io, group, held, || true).await
}

/// Asks the file for a group's first blocks, piece by piece, as long as `go_on`. Where it fails, what the file has got stays
/// its own: somebody else may be about to use the same group.
async fn allocate(
    core: &Core,
    io: &KeeperIo,
    group: GroupIndex,
    blocks: BlockCount,
    go_on: impl Fn() -> bool,
) -> Result<Extent, Error> {
    let first = core.geometry.read().first_block(group);
    let end = first.byte_offset() + blocks.bytes();
    let mut offset = first.byte_offset();
    while offset < end {
        if !go_on() {
            return Ok(Extent::Part);
        }
        let length = ALLOCATE_BYTES_MAX.min(end - offset);
        match io.run(Operation::Allocate { offset, length }).await {
            Ok(_) => offset += length,
            Err(IoError::Unsupported) => break,
            Err(error) => return Err(Error::io("allocating a group in the file")(error)),
        }
    }
    Ok(Extent::Whole)
}
