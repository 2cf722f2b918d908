//! What an opener does before anything is served (R4): believe a superblock, load its trees, replay what came after,
//! and make that durable under the opener's own name.
//!
//! ```text
//!  label -> superblock -> devices -> journal -> tail? -> catalog, groups -> replay -> checkpoint "clean" -> bind tail, marks
//!                                               |                                                            -> "serving"
//!                           counts if the superblock says "serving" and names the tail's incarnation
//! ```
//! Until the clean checkpoint's superblock is durable a second crash finds the old one, the same journal and the same
//! tail, and everything written so far lies in blocks that were free in all of them.

use crate::catalog::{Catalog, stored};
use crate::core::{Commits, Core, Needs};
use crate::devices::Devices;
use crate::error::Error;
use crate::geometry::{Geometry, GroupIndex, superblock_homes};
use crate::groups::{GroupEntry, GroupSettings, Groups};
use crate::ids::{COUNT_END, Sequence};
use crate::join::Joining;
use crate::journal::{self, Ring, Scanned};
use crate::keeper::checkpoint::{checkpoint, write_superblock};
use crate::keeper::io::KeeperIo;
use crate::label::Label;
use crate::limits::Limits;
use crate::members;
use crate::meta::{MetaTrees, RecordNodes, RecordTree};
use crate::mutants::{self, Mutant};
use crate::node_cache::NodeCache;
use crate::opening::Opening;
use crate::replay::Replay;
use crate::root;
use crate::staging::Staging;
use crate::superblock::{self, CopyDamage, Opener, State, Superblock};
use crate::tail::Tail;
use crate::wake::Bell;
use crate::windows::WINDOW_BLOCKS;
use blockstore::{Buffer, Device, Operation};
use cow_tree::Walk;
use cow_tree::units::{BLOCK_BYTES, BLOCK_BYTES_U64, BlockAddress, BlockCount};
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

/// Blocks of the journal read by one operation.
const JOURNAL_PIECE_BLOCKS: u64 = 256;
/// Nodes of the catalog read at the same time.
const NODES_AHEAD: usize = 64;
/// One group in so many is what dirty nodes may take: data gets the rest.
const DIRTY_PART: u64 = 32;
/// Fewest nodes that may be dirty: a few requests' worth.
const DIRTY_MIN: u64 = 24;
/// Blocks of metadata that only deletes may use.
const DELETE_FLOOR: u64 = 16;

/// Opens and recovers a pool, and makes it this opener's.
pub(crate) async fn recover(
    io: &KeeperIo,
    devices: Devices,
    tail: Tail,
    opening: &Opening,
) -> Result<Arc<Core>, Error> {
    let found = find(io, &devices.members, opening).await?;
    let records = records(&found, &tail, opening)?;
    let mut meta =
        MetaTrees::new(found.superblock.catalog_root, found.superblock.group_table_root, opening.limits.tree);
    let catalog = load_catalog(io, &mut meta, &found, opening).await?;
    let groups = load_groups(io, &mut meta, &found, opening).await?;
    let cache = Arc::new(NodeCache::new(opening.limits.nodes_max));
    let mut replay = Replay {
        io,
        id: found.label.pool,
        cache,
        limits: opening.limits.tree,
        catalog,
        groups,
        geometry: found.geometry,
        device_bytes: devices.last_bytes(),
        freed_nodes: Vec::new(),
        quarantine: VecDeque::new(),
    };
    for record in &records.list {
        replay.record(record).await?;
    }
    // A record may have made the pool larger.
    replay.groups.set_metadata_required(metadata_required(&replay.geometry, &opening.limits));
    let (torn, spare) = (found.torn.clone(), found.spare);
    let (label, joining) = (found.label.clone(), devices.joining.clone());
    let core = Arc::new(assemble(devices, tail, opening, found, records, replay, meta)?);
    let joining = match joining {
        Some(new) => Some(Joining::plan(&core, io, new, label, opening).await?),
        None => None,
    };
    if !core.read_only {
        take_over(&core, io, opening, &torn, spare, joining).await?;
    }
    Ok(core)
}

/// What a device says about itself.
struct Found {
    label: Label,
    superblock: Superblock,
    geometry: Geometry,
    scanned: Scanned,
    notes: Vec<String>,
    /// Copies of the next generation that somebody began to write.
    torn: Vec<BlockAddress>,
    /// A copy of the superblock that may be written again: the other one is whole.
    spare: BlockAddress,
}

async fn find(io: &KeeperIo, devices: &[Arc<dyn Device>], opening: &Opening) -> Result<Found, Error> {
    let size = devices.first().map_or(0, |device| device.size());
    let root::Root { label, choice } = root::believe(io, size).await?;
    let superblock = choice.superblock;
    let geometry = superblock.geometry().map_err(|error| Error::Damage(error.to_string()))?;
    let uses = geometry.devices()[0] * BLOCK_BYTES_U64;
    if size < uses {
        return Err(root::cut_off(size, uses));
    }
    members::admit(io, devices, label.pool, &superblock).await?;
    let unknown = superblock.features.unknown_read_only_compatible();
    if unknown != 0 && !opening.read_only {
        let bits = superblock::Bits(unknown);
        return Err(Error::Invalid(format!(
            "the pool has features this build can read but not write (bits {bits}); it can be opened read-only"
        )));
    }
    let damaged = choice.damaged.iter().map(|(home, damage)| {
        format!(
            "a copy of the superblock, block {}, is not whole ({damage}); the other one counts",
            home.in_device()
        )
    });
    let notes = damaged.collect();
    let next = superblock_homes(superblock.generation.next());
    let begun =
        |(home, damage): &&(BlockAddress, CopyDamage)| *damage != CopyDamage::Empty && next.contains(home);
    let torn = choice.damaged.iter().filter(begun).map(|(home, _)| *home).collect();
    let is_damaged = |home: &BlockAddress| choice.damaged.iter().any(|(damaged, _)| damaged == home);
    let [first, second] = superblock_homes(superblock.generation);
    let spare = if is_damaged(&first) { first } else { second };
    let ring = read_journal(io, &geometry).await?;
    let scanned = journal::scan(&ring, superblock.journal, label.pool, superblock.generation)?;
    Ok(Found { label, superblock, geometry, scanned, notes, torn, spare })
}

async fn read_journal(io: &KeeperIo, geometry: &Geometry) -> Result<Vec<u8>, Error> {
    let (start, blocks) = (geometry.journal_start(), geometry.journal_blocks());
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < blocks {
        let count = JOURNAL_PIECE_BLOCKS.min(blocks - at);
        let length = usize::try_from(count * BLOCK_BYTES_U64).expect("a piece fits memory");
        let offset = (start + at) * BLOCK_BYTES_U64;
        tokens.push(io.start(Operation::Read { offset, buffer: Buffer::zeroed(length) }));
        at += count;
    }
    let mut ring = Vec::with_capacity(usize::try_from(blocks).expect("a ring fits memory") * BLOCK_BYTES);
    for token in tokens {
        let buffer = io.finish(token).await.map_err(Error::io("reading the journal"))?;
        ring.extend_from_slice(&buffer.expect("a read gives its buffer back"));
    }
    Ok(ring)
}

/// One record to replay.
#[derive(Debug, Clone)]
pub(crate) struct Replayed {
    pub(crate) sequence: Sequence,
    pub(crate) bytes: Vec<u8>,
    /// From the journal; else from the tail only.
    pub(crate) durable: bool,
}

struct Records {
    list: Vec<Replayed>,
    last: Sequence,
    durable: Sequence,
    notes: Vec<String>,
}

/// Everything the superblock's trees do not hold, in order.
fn records(found: &Found, tail: &Tail, opening: &Opening) -> Result<Records, Error> {
    let floor = found.superblock.last_sequence;
    let mut records =
        Records { list: Vec::new(), last: Sequence(floor), durable: Sequence(floor), notes: Vec::new() };
    for batch in &found.scanned.batches {
        for frame in journal::frames(&batch.payload) {
            let (sequence, bytes) = frame?;
            if sequence >= COUNT_END {
                return Err(Error::Damage(format!("the journal holds a record numbered {sequence}")));
            }
            records.add(sequence, bytes.to_vec(), true);
        }
    }
    records.durable = records.last;
    if found.superblock.state == State::Clean {
        if !records.list.is_empty() {
            return Err(Error::Damage(
                "the superblock says that the pool was closed, but its journal goes on".to_owned(),
            ));
        }
        return Ok(records);
    }
    let contents = tail.read();
    let ours = contents.incarnation == Some(found.superblock.incarnation)
        || (mutants::active(Mutant::TailUnbound) && contents.incarnation.is_some());
    if ours {
        for (sequence, bytes) in contents.records {
            records.add(sequence, bytes, false);
        }
        if contents.voided {
            records
                .notes
                .push("a flush failed while the pool was open; it goes on from what was durable".to_owned());
        }
        return Ok(records);
    }
    let opener = &found.superblock.opener;
    let who = format!("process {} on host {:?}", opener.process_id(), opener.host());
    if found.superblock.boot_id != opening.boot_id {
        records.notes.push(format!(
            "the pool was open by {who} when its machine stopped; all that was flushed is there"
        ));
    } else if opening.accept_lost_writes || opening.read_only {
        records.notes.push(format!(
            "the pool was open by {who}, and the crash tail of that opening is gone: writes it had acknowledged since the last flush are lost"
        ));
    } else {
        return Err(Error::TailGone);
    }
    Ok(records)
}

impl Records {
    /// What a checkpoint or an earlier batch holds already is left out.
    fn add(&mut self, sequence: u64, bytes: Vec<u8>, durable: bool) {
        if Sequence(sequence) > self.last {
            self.last = Sequence(sequence);
            self.list.push(Replayed { sequence: Sequence(sequence), bytes, durable });
        }
    }
}

/// Reads every node of a record tree, many at a time.
async fn read_tree(
    io: &KeeperIo,
    tree: &RecordTree,
    nodes: &mut RecordNodes,
    found: &Found,
) -> Result<(), Error> {
    let mut walk = Walk::new(tree);
    loop {
        match walk.enter(nodes) {
            Ok(None) => return Ok(()),
            Ok(Some(visited)) if visited.faults.is_empty() => {}
            Ok(Some(visited)) => {
                return Err(Error::Damage(format!("a tree of the pool is damaged: {}", visited.faults[0])));
            }
            Err(_) => {
                let ahead: Vec<_> =
                    walk.ahead().filter_map(|place| place.pointer).take(NODES_AHEAD).collect();
                nodes.read_all(io, found.label.pool, &ahead).await?;
            }
        }
    }
}

async fn load_catalog(
    io: &KeeperIo,
    meta: &mut MetaTrees,
    found: &Found,
    opening: &Opening,
) -> Result<Catalog, Error> {
    read_tree(io, &meta.catalog, &mut meta.nodes, found).await?;
    let mut catalog = Catalog::new();
    let mut loader = stored::Loader::new(opening.limits.tree);
    let mut next = 0;
    while let Some((key, bytes)) = meta.catalog.next(&meta.nodes, next).map_err(never_missing)? {
        loader.piece(&mut catalog, key, &bytes)?;
        next = key + 1;
    }
    loader.end(&mut catalog)?;
    catalog.changed = Default::default();
    catalog.next_layer = catalog.next_layer.max(found.superblock.next_layer);
    catalog.next_line = catalog.next_line.max(found.superblock.next_line);
    catalog.check_loaded().map_err(|why| Error::Damage(format!("the catalog contradicts itself: {why}")))?;
    Ok(catalog)
}

async fn load_groups(
    io: &KeeperIo,
    meta: &mut MetaTrees,
    found: &Found,
    opening: &Opening,
) -> Result<Groups, Error> {
    read_tree(io, &meta.groups, &mut meta.nodes, found).await?;
    let mut entries = Vec::new();
    let mut next = 0;
    while let Some((key, bytes)) = meta.groups.next(&meta.nodes, next).map_err(never_missing)? {
        let index =
            u32::try_from(key).map_err(|_| Error::Damage(format!("the group table names group {key}")))?;
        let entry = GroupEntry::decode(&bytes).map_err(|error| Error::Damage(error.to_string()))?;
        entries.push((GroupIndex(index), entry));
        next = key + 1;
    }
    let settings = GroupSettings {
        pool: found.label.pool,
        geometry: found.geometry,
        window_blocks: window_blocks(&found.geometry),
        metadata_required: metadata_required(&found.geometry, &opening.limits),
    };
    Ok(Groups::open(&settings, entries)?)
}

/// A tree that was just read whole misses nothing.
fn never_missing(missing: cow_tree::Missing) -> Error {
    Error::Damage(format!("{missing} although its tree was read"))
}

/// Placement windows are 1 MiB, and smaller where a group holds only few of them.
fn window_blocks(geometry: &Geometry) -> u32 {
    let most = u32::try_from(WINDOW_BLOCKS).expect("a small constant");
    let fits = (geometry.group_blocks() / 4).max(1);
    most.min(1 << fits.ilog2())
}

/// Nodes that may be dirty in a pool of this size.
fn dirty_max(geometry: &Geometry, limits: &Limits) -> u64 {
    let most = u64::try_from(limits.dirty_nodes_max).unwrap_or(u64::MAX);
    (geometry.blocks() / DIRTY_PART).max(DIRTY_MIN).min(most)
}

/// G7: a checkpoint's nodes while those of the one before are still in quarantine, and what deletes need.
pub(crate) fn metadata_required_of(dirty: u64) -> BlockCount {
    BlockCount(2 * dirty + DELETE_FLOOR)
}

pub(crate) fn metadata_required(geometry: &Geometry, limits: &Limits) -> BlockCount {
    metadata_required_of(dirty_max(geometry, limits))
}

fn assemble(
    devices: Devices,
    tail: Tail,
    opening: &Opening,
    found: Found,
    records: Records,
    replay: Replay<'_>,
    meta: MetaTrees,
) -> Result<Core, Error> {
    let Replay { catalog, groups, geometry, cache, freed_nodes, quarantine, .. } = replay;
    let credits_max = i64::try_from(dirty_max(&geometry, &opening.limits)).unwrap_or(i64::MAX);
    let ring_blocks = u32::try_from(geometry.journal_blocks()).expect("the geometry bounds the ring");
    let mut notes = found.notes;
    notes.extend(records.notes);
    Ok(Core {
        id: found.label.pool,
        name: found.label.name,
        notes,
        limits: opening.limits,
        read_only: opening.read_only || devices.is_read_only(),
        geometry: RwLock::new(geometry),
        catalog: Mutex::new(catalog),
        groups: Mutex::new(groups),
        staging: Staging::new(tail.lanes(), records.last),
        tail,
        gate: Default::default(),
        durable: AtomicU64::new(records.durable.0),
        commits: Commits::default(),
        poisoned: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        cache,
        epochs: Default::default(),
        grace: Default::default(),
        dirty_layers: Mutex::default(),
        meta: Mutex::new(meta),
        ring: Mutex::new(Ring::new(ring_blocks, found.superblock.journal, found.scanned.next)),
        checkpoints: Commits::default(),
        commands: Mutex::default(),
        steps: AtomicU64::new(0),
        generation: AtomicU64::new(found.superblock.generation.0),
        superblock: Mutex::new(found.superblock),
        discard_failures: AtomicU64::new(0),
        closed: AtomicBool::new(false),
        unix_time: AtomicU64::new(opening.now_unix),
        channels: Mutex::default(),
        quarantine: Mutex::new(quarantine),
        release_holds: AtomicU64::new(0),
        freed_nodes: Mutex::new(freed_nodes),
        needs: Mutex::new(Needs::default()),
        space_waits: Arc::default(),
        clock: Mutex::default(),
        credits_max,
        node_credits: AtomicI64::new(credits_max),
        events: AtomicU64::new(0),
        keeper: if opening.limits.polled { Bell::silent() } else { Bell::new()? },
        in_commit: Mutex::default(),
        doubtful: Mutex::default(),
        device: devices.together,
        members: devices.members.into_iter().chain(devices.joining.map(|new| new.device)).collect(),
    })
}

/// Erases copies of a superblock that a crash has cut short. Nothing else may be written before: a copy that is torn
/// once more, while the same generation is written again, could come out whole and be the first writer's, whose nodes
/// are overwritten by then.
async fn wipe(io: &KeeperIo, torn: &[BlockAddress]) -> Result<(), Error> {
    if torn.is_empty() {
        return Ok(());
    }
    let zeros = torn.iter().map(|home| (*home, Buffer::zeroed(BLOCK_BYTES))).collect();
    io.write_all(zeros, "erasing a torn superblock").await?;
    io.flush("flushing the superblock").await
}

/// Makes the superblock that was believed durable. A dead process may have left it in a cache, and when a flush has failed the
/// kernel may have forgotten that it is only there: no later flush would move it. So a copy is written again.
async fn pin_down(io: &KeeperIo, superblock: &Superblock, spare: BlockAddress) -> Result<(), Error> {
    let copies = superblock.copies().into_iter().filter(|(home, _)| *home == spare);
    let again = copies.map(|(home, page)| (home, Buffer::from_slice(&page))).collect();
    io.write_all(again, "writing the superblock again").await?;
    io.flush("flushing what was recovered").await
}

/// Makes what was replayed durable, then this opener the one whose tail counts, and its devices those of the pool.
async fn take_over(
    core: &Core,
    io: &KeeperIo,
    opening: &Opening,
    torn: &[BlockAddress],
    spare: BlockAddress,
    joining: Option<Joining>,
) -> Result<(), Error> {
    wipe(io, torn).await?;
    // Nothing that only an older superblock points to may be written over before.
    let believed = core.superblock.lock().clone();
    pin_down(io, &believed, spare).await?;
    if core.superblock.lock().state == State::Serving {
        checkpoint(core, io, State::Clean).await?;
    }
    core.tail.bind(opening.incarnation);
    let mut superblock = core.superblock.lock().clone();
    members::mark(io, &superblock, opening.incarnation, superblock.generation.next()).await?;
    if let Some(joining) = &joining {
        joining.prepare(io, &mut superblock).await?;
    }
    superblock.generation = superblock.generation.next();
    superblock.state = State::Serving;
    superblock.incarnation = opening.incarnation;
    superblock.boot_id = opening.boot_id;
    superblock.opener = Opener::new(opening.process_id, &opening.host);
    write_superblock(io, &superblock).await?;
    members::mark(io, &superblock, opening.incarnation, superblock.generation).await?;
    core.generation.store(superblock.generation.0, std::sync::atomic::Ordering::SeqCst);
    *core.superblock.lock() = superblock;
    if let Some(joining) = joining {
        joining.take_in(core);
    }
    Ok(())
}
