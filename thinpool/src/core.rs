//! What all channels and the keeper share.
//!
//! Invariants:
//! * P1 Stage, then raise the volume's mark, then publish, then acknowledge; all but the last under the publish gate
//!   and the volume's lock, so that a cut or a freeze sees a change whole or not at all.
//! * P2 A freed block is reused only when the record that freed it is durable and every request that might have looked
//!   it up has completed, and never while a discard of it is in flight.
//! * P3 After a failed flush nothing more is acknowledged as durable, and nothing is staged.
//! * P4 Lock order: gate, meta, catalog, body, groups, then the small ones (ranges, quarantine, needs, waits for
//!   space); none over I/O.

use crate::body::{Freed, LayerBody};
use crate::catalog::Catalog;
use crate::channel::ChannelShared;
use crate::command::Command;
use crate::epoch::EpochClock;
use crate::error::Error;
use crate::geometry::{Geometry, GroupIndex};
use crate::grace::Grace;
use crate::groups::Groups;
use crate::ids::{CommitNumber, LayerId, Sequence};
use crate::journal::Ring;
use crate::limits::Limits;
use crate::live::Live;
use crate::meta::MetaTrees;
use crate::mutants::{self, Mutant};
use crate::node_cache::{CachedNodes, NodeCache};
use crate::poison::Doubtful;
use crate::record::{Change, Record};
use crate::space_waits::SpaceWaits;
use crate::staging::{Staged, Staging};
use crate::superblock::Superblock;
use crate::tail::Tail;
use crate::ticket::Ticket;
use crate::{codec, groups::Run};
use blockstore::Device;
use cow_tree::units::{BlockAddress, BlockCount, PoolId};
use cow_tree::{ExtentLeaf, Missing, Nodes, Pinned};
use crossbeam_utils::sync::ShardedLock;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The lane of records the keeper stages.
pub(crate) const KEEPER_LANE: usize = 0;

/// Catalog nodes that a layer's first change since a checkpoint makes that checkpoint write.
const LAYER_CREDITS: i64 = 3;

/// A freed block on its way back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quarantined {
    pub(crate) run: Run,
    /// The record that freed it.
    pub(crate) sequence: Sequence,
}

/// What requests wait for and the keeper provides.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) load: BTreeSet<GroupIndex>,
    pub(crate) activate: BTreeSet<GroupIndex>,
    pub(crate) checkpoint: bool,
    /// Room for metadata, before somebody who is about to write has to wait for it.
    pub(crate) metadata: bool,
}

/// Numbers of commits asked for, begun, and ended.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    pub(crate) wanted: AtomicU64,
    pub(crate) started: AtomicU64,
    pub(crate) done: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) device: Arc<dyn Device>,
    /// The devices one by one, in order.
    pub(crate) members: Vec<Arc<dyn Device>>,
    pub(crate) id: PoolId,
    pub(crate) name: String,
    /// What recovery has to tell the operator.
    pub(crate) notes: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) read_only: bool,
    pub(crate) geometry: RwLock<Geometry>,
    pub(crate) catalog: Mutex<Catalog>,
    pub(crate) groups: Mutex<Groups>,
    pub(crate) tail: Tail,
    pub(crate) staging: Staging,
    pub(crate) gate: ShardedLock<()>,
    pub(crate) durable: AtomicU64,
    pub(crate) commits: Commits,
    pub(crate) poisoned: AtomicBool,
    pub(crate) closing: AtomicBool,
    pub(crate) cache: Arc<NodeCache>,
    pub(crate) epochs: EpochClock,
    pub(crate) grace: Grace,
    /// Layers whose bodies differ from the last frozen checkpoint.
    pub(crate) dirty_layers: Mutex<BTreeSet<LayerId>>,
    pub(crate) meta: Mutex<MetaTrees>,
    pub(crate) ring: Mutex<Ring>,
    pub(crate) checkpoints: Commits,
    pub(crate) commands: Mutex<VecDeque<(Command, Arc<Ticket>)>>,
    /// Bumped whenever a task of the keeper gets on.
    pub(crate) steps: AtomicU64,
    pub(crate) superblock: Mutex<Superblock>,
    pub(crate) discard_failures: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// Seconds since 1970, as the opener last told: only for names' dates.
    pub(crate) unix_time: AtomicU64,

    pub(crate) channels: Mutex<Vec<Arc<ChannelShared>>>,
    pub(crate) quarantine: Mutex<VecDeque<Quarantined>>,
    /// Walks under way that look at blocks which may be freed meanwhile: nothing leaves the quarantine.
    pub(crate) release_holds: AtomicU64,
    /// Node blocks freed since the last freeze: reusable after the next superblock.
    pub(crate) freed_nodes: Mutex<Vec<BlockAddress>>,
    pub(crate) needs: Mutex<Needs>,
    pub(crate) space_waits: Arc<SpaceWaits>,
    /// Monotonic time, as the owner of the keeper last told it.
    pub(crate) clock: Mutex<Duration>,
    /// Nodes that may be dirtied between two checkpoints.
    pub(crate) credits_max: i64,
    /// Nodes that may still be dirtied before a checkpoint must come.
    pub(crate) node_credits: AtomicI64,
    /// Bumped whenever something a parked request may wait for has happened.
    pub(crate) events: AtomicU64,
    pub(crate) keeper: crate::wake::Bell,
    /// Records of the commit under way.
    pub(crate) in_commit: Mutex<Vec<Staged>>,
    /// What may not be read after a failed flush.
    pub(crate) doubtful: Mutex<Doubtful>,
    /// Generation of the last durable superblock.
    pub(crate) generation: AtomicU64,
}

/// Why a change could not be published yet; nothing has happened.
#[derive(Debug)]
pub(crate) enum Stalled {
    Missing(Missing),
    TailFull,
    Credits,
    Poisoned,
    Closing,
}

impl Core {
    pub(crate) fn durable(&self) -> Sequence {
        Sequence(self.durable.load(Ordering::SeqCst))
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst)
    }

    /// Publishes changes of one open volume. `fresh` are the reserved runs the changes map.
    pub(crate) fn publish(
        &self,
        lane: usize,
        live: &Live,
        nodes: &CachedNodes,
        changes: &[Change],
        fresh: &[Run],
    ) -> Result<Sequence, Stalled> {
        let _gate = self.gate.read().expect("no thread panics inside the gate");
        let mut body = live.write();
        if self.is_poisoned() {
            return Err(Stalled::Poisoned);
        }
        if self.closing.load(Ordering::SeqCst) {
            return Err(Stalled::Closing);
        }
        let nodes = &Pinned::new(nodes);
        let dirtied = body.prepare(nodes, changes).map_err(Stalled::Missing)?;
        // The bound is generous: right after a checkpoint, any one change is admitted.
        let bound = i64::try_from(dirtied).expect("a handful of nodes").min(self.credits_max);
        if self.node_credits.fetch_sub(bound, Ordering::SeqCst) < bound {
            self.node_credits.fetch_add(bound, Ordering::SeqCst);
            return Err(Stalled::Credits);
        }
        let before = body.tree.created();
        if mutants::active(Mutant::PublishBeforeStage) {
            return self.publish_before_stage(lane, live, &mut body, nodes, changes, fresh);
        }
        let record = Record::Update { layer: body.id.0, changes: changes.to_vec() };
        let sequence = self.staging.stage(lane, &self.tail, codec::encode_record(&record)).map_err(|_| {
            self.node_credits.fetch_add(bound, Ordering::SeqCst);
            Stalled::TailFull
        })?;
        live.raise_uncommitted(sequence);
        self.mark_dirty(&body);
        let freed = body.change(nodes, changes).expect("prepare found every node resident");
        let created = i64::try_from(body.tree.created() - before).expect("a handful of nodes");
        self.node_credits.fetch_add(bound - created, Ordering::SeqCst);
        self.account(fresh, freed, sequence);
        Ok(sequence)
    }

    /// Mutant: acknowledges a mapping whose record is staged by nobody.
    fn publish_before_stage(
        &self,
        _lane: usize,
        _live: &Live,
        body: &mut LayerBody,
        nodes: &impl Nodes<ExtentLeaf>,
        changes: &[Change],
        fresh: &[Run],
    ) -> Result<Sequence, Stalled> {
        let freed = body.change(nodes, changes).expect("prepare found every node resident");
        let sequence = self.staging.last();
        self.account(fresh, freed, sequence);
        Ok(sequence)
    }

    /// Books blocks taken and blocks freed by the record `sequence`. The caller holds the gate.
    pub(crate) fn account(&self, fresh: &[Run], freed: Freed, sequence: Sequence) {
        let mut groups = self.groups.lock();
        fresh.iter().for_each(|run| groups.commit(*run));
        if freed.is_empty() {
            return;
        }
        let mut quarantine = self.quarantine.lock();
        for (address, length) in freed.data {
            let run = Run { address, length: BlockCount(u64::from(length)) };
            groups.free(run);
            if mutants::active(Mutant::ReuseEarly) {
                groups.release(run);
            } else {
                quarantine.push_back(Quarantined { run, sequence });
            }
        }
        let mut nodes = self.freed_nodes.lock();
        for address in freed.nodes {
            let run = Run { address, length: BlockCount(1) };
            groups.free(run);
            if mutants::active(Mutant::ReuseNodesEarly) {
                groups.release(run);
            } else {
                nodes.push(address);
            }
        }
        drop((groups, quarantine, nodes));
        // Who waits for space need not wait for the next commit that comes by itself.
        if self.space_waits.waiting() > 0 {
            self.want_commit();
        }
    }

    /// The next freeze looks at this layer.
    pub(crate) fn mark_dirty(&self, body: &LayerBody) {
        if !body.dirty {
            self.dirty_layers.lock().insert(body.id);
            self.node_credits.fetch_sub(LAYER_CREDITS, Ordering::SeqCst);
        }
    }

    /// A task of the keeper got on.
    pub(crate) fn stepped(&self) {
        self.steps.fetch_add(1, Ordering::SeqCst);
    }

    /// Asks for a checkpoint that is frozen after this call; returns its number.
    pub(crate) fn want_checkpoint(&self) -> CommitNumber {
        let next = self.checkpoints.started.load(Ordering::SeqCst) + 1;
        self.checkpoints.wanted.fetch_max(next, Ordering::SeqCst);
        self.keeper.ring();
        CommitNumber(next)
    }

    /// Asks for a commit that is cut after this call; returns its number.
    pub(crate) fn want_commit(&self) -> CommitNumber {
        let late = mutants::active(Mutant::FlushJoinsLate);
        let next = self.commits.started.load(Ordering::SeqCst) + u64::from(!late);
        self.commits.wanted.fetch_max(next, Ordering::SeqCst);
        self.keeper.ring();
        CommitNumber(next)
    }

    pub(crate) fn is_committed(&self, number: CommitNumber) -> bool {
        self.commits.done.load(Ordering::SeqCst) >= number.0
    }

    /// Whether tree nodes are in quarantine that nothing but requests in flight keeps there.
    pub(crate) fn is_node_coming_back(&self) -> bool {
        let durable = self.durable();
        let groups = self.groups.lock();
        let quarantine = self.quarantine.lock();
        quarantine.iter().any(|freed| freed.sequence <= durable && !groups.is_data(freed.run.address))
    }

    /// Until it is dropped, no block that is freed from now on is used again: for walks outside any epoch.
    pub(crate) fn hold_releases(&self) -> ReleaseHold<'_> {
        self.release_holds.fetch_add(1, Ordering::SeqCst);
        ReleaseHold { core: self }
    }

    /// Tells everybody who is parked to look again.
    pub(crate) fn announce(&self) {
        self.events.fetch_add(1, Ordering::SeqCst);
        self.channels.lock().iter().for_each(|channel| channel.bell.ring());
    }

    /// Stages a record of the keeper and applies its effect, inside the gate.
    pub(crate) fn stage_control(&self, record: &Record) -> Result<Sequence, Error> {
        if self.is_poisoned() {
            return Err(Error::Poisoned);
        }
        if self.closing.load(Ordering::SeqCst) {
            return Err(Error::Closing);
        }
        let bytes = codec::encode_record(record);
        if bytes.len() > self.tail.record_bytes_max() {
            return Err(Error::Invalid("so many at once do not fit one record; name fewer".to_owned()));
        }
        self.staging.stage(KEEPER_LANE, &self.tail, bytes).map_err(|_| Error::TailFull)
    }

    /// P3. The tail is void before anybody hears of the failure, and nothing is staged behind that.
    pub(crate) fn poison(&self) {
        let gate = self.gate.write().expect("no thread panics inside the gate");
        self.tail.void();
        self.poisoned.store(true, Ordering::SeqCst);
        crate::poison::mark_doubtful(self);
        drop(gate);
        self.announce();
    }

    pub(crate) fn need(&self, change: impl FnOnce(&mut Needs)) {
        change(&mut self.needs.lock());
        self.keeper.ring();
    }
}

/// See [`Core::hold_releases`].
#[derive(Debug)]
pub(crate) struct ReleaseHold<'a> {
    core: &'a Core,
}

impl Drop for ReleaseHold<'_> {
    fn drop(&mut self) {
        self.core.release_holds.fetch_sub(1, Ordering::SeqCst);
    }
}
