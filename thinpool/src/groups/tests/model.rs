//! The allocator against a map of block states, through checkpoints, crashes with replay, lazy loading and growth.

use super::{Disk, GROUPS_START, geometry, tiny};
use crate::geometry::GROUP_BLOCKS_MIN;
use crate::groups::books::State;
use crate::groups::{GroupKind, GroupSettings, Groups, NoRun, Placement, Run};
use cow_tree::units::{BlockAddress, BlockCount};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use std::collections::{HashMap, HashSet};

const GROUP_BLOCKS: u32 = 24;
const BLOCKS_AT_FIRST: u64 = 6 * 24 + 9;
const BLOCKS_MAX: u64 = 12 * 24;

#[derive(Debug, Clone)]
enum Action {
    Reserve { kind: GroupKind, wanted: u64, hint: Option<u64>, offset: u32 },
    ReserveNodes { count: usize },
    Commit(usize),
    Unreserve(usize),
    Free { pick: usize, from: u64, length: u64 },
    Release { pick: usize, keep: bool },
    Recall { pick: usize, runs_max: usize, longest: u64 },
    Checkpoint,
    Crash,
    Grow { blocks: u64 },
    Require { blocks: u64 },
}

/// What the journal would hold since the last checkpoint.
#[derive(Debug, Clone, Copy)]
enum Record {
    Map(GroupKind, Run),
    Free(Run),
}

struct World {
    groups: Groups,
    disk: Disk,
    settings: GroupSettings,
    blocks: u64,
    /// Every block that is not free.
    states: HashMap<BlockAddress, (GroupKind, State)>,
    reserved: Vec<Run>,
    allocated: Vec<Run>,
    quarantined: Vec<Run>,
    journal: Vec<Record>,
    /// Free blocks for which the device holds space.
    kept: HashSet<BlockAddress>,
}

fn action() -> impl Strategy<Value = Action> {
    let kind = prop_oneof![3 => Just(GroupKind::Data), 1 => Just(GroupKind::Metadata)];
    let hint = proptest::option::of(0..BLOCKS_MAX + 50);
    prop_oneof![
        12 => (kind, 1..20u64, hint, 0..16u32)
            .prop_map(|(kind, wanted, hint, offset)| Action::Reserve { kind, wanted, hint, offset }),
        2 => (0..40usize).prop_map(|count| Action::ReserveNodes { count }),
        10 => any::<usize>().prop_map(Action::Commit),
        3 => any::<usize>().prop_map(Action::Unreserve),
        8 => (any::<usize>(), 0..20u64, 1..20u64)
            .prop_map(|(pick, from, length)| Action::Free { pick, from, length }),
        6 => (any::<usize>(), any::<bool>()).prop_map(|(pick, keep)| Action::Release { pick, keep }),
        2 => (any::<usize>(), 1..4usize, 1..9u64)
            .prop_map(|(pick, runs_max, longest)| Action::Recall { pick, runs_max, longest }),
        2 => Just(Action::Checkpoint),
        1 => Just(Action::Crash),
        1 => (1..40u64).prop_map(|blocks| Action::Grow { blocks }),
        1 => (0..60u64).prop_map(|blocks| Action::Require { blocks }),
    ]
}

fn pick(runs: &mut Vec<Run>, which: usize) -> Option<Run> {
    (!runs.is_empty()).then(|| runs.swap_remove(which % runs.len()))
}

impl World {
    fn new() -> Self {
        let settings = GroupSettings { geometry: geometry(BLOCKS_AT_FIRST, GROUP_BLOCKS), ..tiny() };
        Self {
            groups: Groups::open(&settings, []).expect("an empty table"),
            disk: Disk::default(),
            settings,
            blocks: BLOCKS_AT_FIRST,
            states: HashMap::new(),
            reserved: Vec::new(),
            allocated: Vec::new(),
            quarantined: Vec::new(),
            journal: Vec::new(),
            kept: HashSet::new(),
        }
    }

    fn set(&mut self, run: Run, kind: GroupKind, from: State, to: State) {
        for block in run.blocks() {
            self.kept.remove(&block);
            let was = match to {
                State::Free => self.states.remove(&block),
                _ => self.states.insert(block, (kind, to)),
            };
            assert_eq!(was.map_or(State::Free, |(_, state)| state), from, "G1, G2: block {block}");
        }
    }

    fn kind_of(&self, run: Run) -> GroupKind {
        self.states[&run.address].0
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Reserve { kind, wanted, hint, offset } => self.reserve(kind, wanted, hint, offset),
            Action::ReserveNodes { count } => self.reserve_nodes(count),
            Action::Commit(which) => {
                let Some(run) = pick(&mut self.reserved, which) else { return };
                self.groups.commit(run);
                let kind = self.kind_of(run);
                self.set(run, kind, State::Reserved, State::Allocated);
                self.journal.push(Record::Map(kind, run));
                self.allocated.push(run);
            }
            Action::Unreserve(which) => {
                let Some(run) = pick(&mut self.reserved, which) else { return };
                self.groups.unreserve(run);
                self.set(run, self.kind_of(run), State::Reserved, State::Free);
            }
            Action::Free { pick: which, from, length } => self.free(which, from, length),
            Action::Release { pick: which, keep } => {
                let Some(run) = pick(&mut self.quarantined, which) else { return };
                self.set(run, self.kind_of(run), State::Quarantined, State::Free);
                if keep {
                    self.groups.release_kept(run);
                    self.kept.extend(run.blocks());
                } else {
                    self.groups.release(run);
                }
            }
            Action::Recall { pick, runs_max, longest } => self.recall(pick, runs_max, BlockCount(longest)),
            Action::Checkpoint => {
                self.disk.checkpoint(&mut self.groups);
                self.journal.clear();
            }
            Action::Crash => self.crash(),
            Action::Grow { blocks } => {
                self.blocks = BLOCKS_MAX.min(self.blocks + blocks);
                self.settings.geometry = geometry(self.blocks, GROUP_BLOCKS);
                self.groups.grow(&self.settings.geometry);
            }
            Action::Require { blocks } => {
                self.settings.metadata_required = BlockCount(blocks);
                self.groups.set_metadata_required(BlockCount(blocks));
            }
        }
    }

    fn reserve(&mut self, kind: GroupKind, wanted: u64, hint: Option<u64>, offset: u32) {
        let hint = hint.map(|block| BlockAddress(GROUPS_START + block));
        let placement = Placement { hint, offset_in_window: offset };
        loop {
            match self.groups.reserve(kind, BlockCount(wanted), placement) {
                Ok(run) => {
                    assert!((1..=wanted).contains(&run.length.0));
                    self.took(run, kind);
                    return;
                }
                Err(stop) => {
                    if !self.bring(kind, stop) {
                        return;
                    }
                }
            }
        }
    }

    fn reserve_nodes(&mut self, count: usize) {
        let kind = GroupKind::Metadata;
        loop {
            match self.groups.reserve_nodes(count) {
                Ok(runs) => {
                    let blocks: u64 = runs.iter().map(|run| run.length.0).sum();
                    assert_eq!(blocks, cow_tree::units::length_of(count));
                    runs.into_iter().for_each(|run| self.took(run, kind));
                    return;
                }
                Err(NoRun::Full { .. }) => return,
                Err(stop) => assert!(self.bring(kind, stop)),
            }
        }
    }

    /// Does the I/O asked for; says whether asking again makes sense.
    fn bring(&mut self, kind: GroupKind, stop: NoRun) -> bool {
        match stop {
            NoRun::NeedsLoad(group) => self.disk.load(&mut self.groups, group),
            NoRun::NeedsAllocation(group) => {
                assert!(self.groups.activate(group, kind));
                let required = self.settings.metadata_required.0.max(1);
                assert!(kind == GroupKind::Metadata || self.groups.metadata_room().0 >= required, "G7");
            }
            NoRun::Full { quarantined } => {
                assert_eq!(quarantined, self.count(kind, State::Quarantined));
                let counts = self.groups.counts();
                assert_eq!(counts.of(kind).free(), BlockCount(0), "full is full");
                return false;
            }
        }
        true
    }

    fn took(&mut self, run: Run, kind: GroupKind) {
        self.set(run, kind, State::Free, State::Reserved);
        self.reserved.push(run);
    }

    /// Frees a part of an allocated run; the rest stays.
    fn free(&mut self, which: usize, from: u64, length: u64) {
        let Some(run) = pick(&mut self.allocated, which) else { return };
        let from = from % run.length.0;
        let length = length.min(run.length.0 - from);
        let part =
            |from: u64, length: u64| Run { address: run.address.offset_by(from), length: BlockCount(length) };
        let rest = [part(0, from), part(from + length, run.length.0 - from - length)];
        self.allocated.extend(rest.into_iter().filter(|run| run.length.0 > 0));
        let freed = part(from, length);
        self.groups.free(freed);
        self.set(freed, self.kind_of(freed), State::Allocated, State::Quarantined);
        self.journal.push(Record::Free(freed));
        self.quarantined.push(freed);
    }

    /// Only blocks that are kept, and all of a group's in the end.
    fn recall(&mut self, which: usize, runs_max: usize, longest: BlockCount) {
        let groups = self.groups.all_kept();
        let Some(group) = groups.get(which % groups.len().max(1)) else { return };
        let runs = self.groups.recall(*group, runs_max, longest);
        assert!(runs.len() == runs_max || !self.groups.all_kept().contains(group));
        for run in runs {
            assert!(run.length <= longest && run.blocks().all(|block| self.kept.contains(&block)));
            self.set(run, GroupKind::Data, State::Free, State::Quarantined);
            self.quarantined.push(run);
        }
    }

    /// Everything in memory is lost; the journal is replayed over the last checkpoint.
    fn crash(&mut self) {
        self.groups = self.disk.open(&self.settings);
        for record in &self.journal {
            match *record {
                Record::Map(kind, run) => self.groups.mark(kind, run).expect("the record was true"),
                Record::Free(run) => {
                    self.groups.try_free(run).expect("the record was true");
                    self.groups.release(run);
                }
            }
        }
        self.states.retain(|_, (_, state)| *state == State::Allocated);
        self.reserved.clear();
        self.quarantined.clear();
        self.kept.clear();
    }

    fn count(&self, kind: GroupKind, state: State) -> BlockCount {
        let matching = self.states.values().filter(|found| **found == (kind, state)).count();
        BlockCount(cow_tree::units::length_of(matching))
    }

    fn check(&self) {
        let counts = self.groups.counts();
        for kind in [GroupKind::Data, GroupKind::Metadata] {
            let of = counts.of(kind);
            assert_eq!(of.allocated, self.count(kind, State::Allocated), "G4");
            assert_eq!(of.reserved, self.count(kind, State::Reserved), "G4");
            assert_eq!(of.quarantined, self.count(kind, State::Quarantined), "G4");
        }
        let kept = counts.data.kept.0 + counts.metadata.kept.0;
        assert_eq!(kept, cow_tree::units::length_of(self.kept.len()), "G4");
        let group = u64::from(GROUP_BLOCKS);
        let (whole, rest) = (self.blocks / group, self.blocks % group);
        let last = if rest < u64::from(GROUP_BLOCKS_MIN) { 0 } else { rest - 2 };
        assert_eq!(counts.total().0, whole * (group - 2) + last);
    }

    /// Loads everything and compares block by block.
    fn check_every_block(mut self) {
        for group in self.groups.indices() {
            if self.groups.slot_to_load(group).is_some() {
                self.disk.load(&mut self.groups, group);
            }
        }
        self.check();
        let found: usize = self
            .groups
            .indices()
            .flat_map(|group| self.groups.allocated_runs(group).expect("everything is loaded"))
            .flat_map(|run| run.blocks().collect::<Vec<_>>())
            .inspect(|block| {
                assert_eq!(self.states.get(block).map(|(_, state)| *state), Some(State::Allocated))
            })
            .count();
        assert_eq!(found, self.states.values().filter(|(_, state)| *state == State::Allocated).count(), "G3");
        self.reserved.iter().for_each(|run| self.groups.unreserve(*run));
        self.allocated.iter().for_each(|run| self.groups.free(*run));
        self.allocated.iter().chain(&self.quarantined).for_each(|run| self.groups.release(*run));
        assert_eq!(self.groups.counts().free(), self.groups.counts().total(), "back at the baseline");
    }
}

proptest! {
    #[test]
    fn the_books_agree_with_a_map_of_block_states(actions in proptest::collection::vec(action(), 1..250)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
            world.check();
        }
        world.check_every_block();
    }
}
