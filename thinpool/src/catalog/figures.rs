//! What the pool tells of itself: figures of every name, and of the whole. Sums, never estimates.
//!
//! What removing a name gives back follows from the ownership rules. A layer nobody depends on gives back what it owns. A
//! layer with one dependent is absorbed, and gives back what that dependent has let go of. A layer with several gives
//! back nothing: it waits. And a layer without a name that waited for the removed one moves on the same way.

use super::{Catalog, CatalogEntry};
use crate::command::{DeviceStatus, Entry, EntryKind, Status};
use crate::core::Core;
use crate::groups::Counts;
use crate::ids::{EntryId, LayerId};
use cow_tree::units::BlockCount;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

/// All names, in order of creation.
pub(crate) fn entries(catalog: &Catalog) -> Vec<Entry> {
    catalog.entries().map(|(id, entry)| figure(catalog, id, entry)).collect()
}

pub(crate) fn entry(catalog: &Catalog, name: &str) -> Option<Entry> {
    catalog.find(name).map(|(id, entry)| figure(catalog, id, entry))
}

fn figure(catalog: &Catalog, id: EntryId, entry: &CatalogEntry) -> Entry {
    let layer = catalog.layer(entry.layer);
    Entry {
        name: entry.name.clone(),
        kind: entry.kind,
        size: entry.size,
        origin: entry.origin.clone(),
        created_unix: entry.created_unix,
        owned: BlockCount(layer.read(|body| body.owned)).bytes(),
        gives_back: gives_back(catalog, id).map(|blocks| BlockCount(blocks).bytes()),
        attached: layer.pins > 0 || layer.live().is_some_and(|live| live.is_attached()),
        properties: entry.properties.clone(),
    }
}

/// Blocks that come back when the name is removed, alone: a volume's snapshots keep theirs.
fn gives_back(catalog: &Catalog, id: EntryId) -> Option<u64> {
    let mut gone = BTreeSet::new();
    leave(catalog, catalog.entry(id).layer, &mut gone)
}

/// What comes back when a layer loses its name; `gone` holds the layers that have left on the way.
fn leave(catalog: &Catalog, id: LayerId, gone: &mut BTreeSet<LayerId>) -> Option<u64> {
    let layer = catalog.layer(id);
    let mut dependents = catalog.dependents(id).filter(|dependent| !gone.contains(dependent));
    let (first, second) = (dependents.next(), dependents.next());
    match (first, second) {
        (Some(_), Some(_)) => Some(0),
        (Some(only), None) => {
            let intervals: Vec<_> = layer.read(|body| body.ownership.all_intervals().collect());
            catalog.layer(only).read(|body| body.dropped_of(&intervals))
        }
        (None, _) => {
            gone.insert(id);
            let mut sum = layer.read(|body| body.owned);
            for dep in &layer.deps {
                let waits = catalog.layer(*dep);
                if waits.entry.is_none() && waits.pins == 0 {
                    sum += leave(catalog, *dep, gone)?;
                }
            }
            Some(sum)
        }
    }
}

/// Figures of the whole pool, of one moment.
pub(crate) fn status(core: &Core) -> Status {
    let catalog = core.catalog.lock();
    let groups = core.groups.lock();
    let counts = groups.counts();
    let room = groups.data_room();
    let by_device = groups.counts_by_device();
    drop(groups);
    let ring = core.ring.lock().clone();
    let count = |kind| u64::try_from(catalog.entries().filter(|(_, entry)| entry.kind == kind).count());
    let count = |kind| count(kind).expect("a length");
    let volumes = catalog.entries().filter(|(_, entry)| entry.kind == EntryKind::Volume);
    let generation = core.generation.load(Ordering::SeqCst);
    Status {
        pool: core.name.clone(),
        pool_id: core.id.to_string(),
        generation,
        capacity: (BlockCount(counts.data.taken().0) + room).bytes(),
        provisioned: volumes.map(|(_, entry)| entry.size).fold(0, u64::saturating_add),
        mapped: counts.data.allocated.bytes(),
        free: room.bytes(),
        quarantined: counts.data.quarantined.bytes(),
        kept: counts.data.kept.bytes(),
        reserved: counts.data.reserved.bytes(),
        waiting_writes: core.space_waits.waiting(),
        metadata_used: counts.metadata.taken().bytes(),
        metadata_free: counts.metadata.free().bytes(),
        journal_size: BlockCount(ring.total_blocks()).bytes(),
        journal_used: BlockCount(ring.total_blocks() - ring.free_blocks()).bytes(),
        volumes: count(EntryKind::Volume),
        snapshots: count(EntryKind::Snapshot),
        versions: count(EntryKind::Version),
        layers: u64::try_from(catalog.layers().count()).expect("a length"),
        reclaiming: u64::try_from(catalog.unnamed().chain(catalog.sweeping()).collect::<BTreeSet<_>>().len())
            .expect("a length"),
        discard_failures: core.discard_failures.load(Ordering::Relaxed),
        poisoned: core.is_poisoned(),
        read_only: core.read_only,
        properties: catalog.properties().clone(),
        devices: devices(core, &by_device),
    }
}

fn devices(core: &Core, counts: &[Counts]) -> Vec<DeviceStatus> {
    let lengths = core.geometry.read().devices().to_vec();
    let further = core.superblock.lock().further.clone();
    let ids = std::iter::once(String::new()).chain(further.iter().map(|device| device.id.to_string()));
    let devices = core.members.iter().zip(ids).zip(lengths).zip(counts);
    let figures = devices.map(|(((device, id), blocks), counts)| DeviceStatus {
        path: device.description(),
        id,
        size: BlockCount(blocks).bytes(),
        free: (counts.data.free() + counts.unused).bytes(),
        mapped: counts.data.allocated.bytes(),
        metadata: counts.metadata.capacity.bytes(),
    });
    figures.collect()
}
