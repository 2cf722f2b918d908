//! What the guests and the operator were promised: for every name, and in it for every sector, which values it may
//! have after a crash.

use crate::stamp::{SECTORS_PER_BLOCK, Seen, Value};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

/// What a crash takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// The process; device and tail go on. Everything acknowledged must be there.
    Process,
    /// The machine; what was not flushed may be as it was.
    Power,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sector {
    /// Survives power loss.
    durable: Value,
    /// Acknowledged since, in order: each may be there or not after a power cut, the last must after a kill.
    since: Vec<Value>,
    /// Under way, or failed: may be there after any crash.
    maybe: Vec<Value>,
}

impl Sector {
    const NEVER: Self = Self { durable: Value::NEVER, since: Vec::new(), maybe: Vec::new() };

    fn current(&self) -> Value {
        self.since.last().copied().unwrap_or(self.durable)
    }

    fn allows(&self, seen: Seen, at: usize, loss: Loss) -> bool {
        let is = |value: &Value| seen.is(*value, at);
        match loss {
            Loss::Process => is(&self.current()) || self.maybe.iter().any(is),
            Loss::Power => is(&self.durable) || self.since.iter().any(is) || self.maybe.iter().any(is),
        }
    }

    /// Everything up to and including the value is durable, if it is not already.
    fn settle(&mut self, value: Value) {
        if let Some(at) = self.since.iter().position(|since| *since == value) {
            self.durable = value;
            self.since.drain(..=at);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Volume,
    Snapshot,
    Version,
}

/// A volume, snapshot or version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) kind: Kind,
    sectors: Vec<Sector>,
}

impl Disk {
    pub(crate) fn blocks(&self) -> usize {
        self.sectors.len() / SECTORS_PER_BLOCK
    }

    pub(crate) fn sectors(&self) -> usize {
        self.sectors.len()
    }

    /// The first sector that a read of everything shows and no promise allows.
    pub(crate) fn refuted(&self, seen: &[Seen], loss: Loss) -> Option<String> {
        let mut pairs = self.sectors.iter().zip(seen).enumerate();
        let wrong = pairs.find(|(at, (sector, seen))| !sector.allows(**seen, *at, loss))?;
        let (at, (sector, seen)) = wrong;
        Some(format!("sector {at} shows {seen:?}, expected {sector:?}"))
    }

    /// The values of a range at this moment: what a flush that starts now covers.
    fn mark(&self) -> Vec<(usize, Value)> {
        let changed = |(at, sector): (usize, &Sector)| sector.since.last().map(|value| (at, *value));
        self.sectors.iter().enumerate().filter_map(changed).collect()
    }

    fn settle(&mut self, mark: &[(usize, Value)]) {
        for (at, value) in mark {
            if let Some(sector) = self.sectors.get_mut(*at) {
                sector.settle(*value);
            }
        }
    }
}

/// Everything that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct PoolModel {
    pub(crate) disks: BTreeMap<String, Disk>,
}

/// What is durable when the flush, or the command, that starts now has ended.
pub(crate) type Mark = Vec<(String, Vec<(usize, Value)>)>;

impl PoolModel {
    pub(crate) fn begin_write(&mut self, name: &str, range: Range<usize>, value: Value) {
        self.each(name, range, |sector| sector.maybe.push(value));
    }

    pub(crate) fn acknowledge_write(&mut self, name: &str, range: Range<usize>, value: Value, through: bool) {
        self.each(name, range, |sector| {
            // What the sector held before may be any of these, and power loss may bring it back. A flush that began
            // before this write has ended may have made any of them durable, too.
            let others = std::mem::take(&mut sector.maybe).into_iter().filter(|other| *other != value);
            sector.since.extend(others);
            sector.since.push(value);
            if through {
                sector.settle(value);
            }
        });
    }

    /// The same for a write that was under way together with another one of the same sectors: whichever was later counts.
    pub(crate) fn acknowledge_raced(&mut self, name: &str, range: Range<usize>, value: Value) {
        self.each(name, range, |sector| {
            if sector.current() != value {
                sector.since.push(value);
            }
        });
    }

    /// The write may have happened in part, and power loss may still undo it.
    pub(crate) fn fail_write(&mut self, name: &str, range: Range<usize>) {
        self.each(name, range, |sector| {
            let kept = sector.current();
            let failed = std::mem::take(&mut sector.maybe);
            sector.since.splice(0..0, failed.iter().copied());
            if sector.since.last() != Some(&kept) {
                sector.since.push(kept);
            }
            sector.maybe = failed;
        });
    }

    fn each(&mut self, name: &str, range: Range<usize>, mut change: impl FnMut(&mut Sector)) {
        if let Some(disk) = self.disks.get_mut(name) {
            let end = range.end.min(disk.sectors.len());
            disk.sectors[range.start.min(end)..end].iter_mut().for_each(&mut change);
        }
    }

    pub(crate) fn mark(&self, name: &str) -> Mark {
        self.disks.get(name).map(|disk| (name.to_owned(), disk.mark())).into_iter().collect()
    }

    pub(crate) fn mark_all(&self) -> Mark {
        self.disks.iter().map(|(name, disk)| (name.clone(), disk.mark())).collect()
    }

    pub(crate) fn settle(&mut self, mark: &Mark) {
        for (name, values) in mark {
            if let Some(disk) = self.disks.get_mut(name) {
                disk.settle(values);
            }
        }
    }

    /// Somebody has seen what a snapshot holds: that is what it holds for ever.
    pub(crate) fn saw(&mut self, name: &str, seen: &[Seen]) {
        let Some(disk) = self.disks.get_mut(name).filter(|disk| disk.kind != Kind::Volume) else { return };
        for (at, (sector, seen)) in disk.sectors.iter_mut().zip(seen).enumerate() {
            let maybe = sector.maybe.drain(..).find(|value| seen.is(*value, at));
            match maybe.filter(|_| !seen.is(sector.current(), at)) {
                None => {}
                Some(value) if sector.since.is_empty() => sector.durable = value,
                Some(value) => sector.since.push(value),
            }
        }
    }

    /// Whether a read of a volume that nobody writes shows what was acknowledged last.
    pub(crate) fn refuted_read(&self, name: &str, first: usize, seen: &[Seen]) -> Option<String> {
        let disk = self.disks.get(name)?;
        let mut pairs = (first..).zip(seen);
        let wrong = pairs.find(|(at, seen)| {
            disk.sectors.get(*at).is_some_and(|sector| !sector.allows(**seen, *at, Loss::Process))
        });
        wrong.map(|(at, seen)| {
            format!("a read of {name}: sector {at} shows {seen:?}, expected {:?}", disk.sectors[at])
        })
    }
}

/// What a command does to the names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Change {
    Nothing,
    Create {
        name: String,
        blocks: usize,
    },
    Clone {
        source: String,
        names: Vec<String>,
    },
    /// The snapshots by name, and what each may show, from the submission of the command on.
    Snapshot {
        points: Vec<(String, Disk)>,
    },
    Rollback {
        volume: String,
        to: String,
    },
    Remove {
        names: Vec<String>,
    },
    Resize {
        name: String,
        blocks: usize,
    },
    Publish {
        volume: String,
        version: String,
    },
    Rename {
        from: String,
        to: String,
    },
}

/// Whether a command has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    UnderWay,
    Answered,
}

impl Change {
    /// `None` when a volume is not there, or a snapshot is there already.
    pub(crate) fn snapshot(model: &PoolModel, volumes: &[String], point: &str) -> Option<Self> {
        let sealed = |volume: &String| {
            let (name, disk) = (format!("{volume}@{point}"), model.disks.get(volume)?);
            let is_new = !model.disks.contains_key(&name);
            is_new.then(|| (name, Disk { kind: Kind::Snapshot, ..disk.clone() }))
        };
        let points: Option<Vec<_>> = volumes.iter().map(sealed).collect();
        points.map(|points| Self::Snapshot { points })
    }

    /// The names that a snapshot or a clone makes.
    pub(crate) fn made(&self) -> Vec<String> {
        match self {
            Self::Snapshot { points } => points.iter().map(|(name, _)| name.clone()).collect(),
            Self::Clone { names, .. } => names.clone(),
            _ => Vec::new(),
        }
    }

    /// A write that begins while the command is under way may or may not be in what it seals.
    pub(crate) fn meanwhile(&mut self, volume: &str, range: Range<usize>, value: Value) {
        let Self::Snapshot { points } = self else { return };
        let mut sealed = points.iter_mut().filter(|(name, _)| name.split('@').next() == Some(volume));
        if let Some((_, seen)) = sealed.next() {
            let end = range.end.min(seen.sectors.len());
            seen.sectors[range.start.min(end)..end].iter_mut().for_each(|sector| sector.maybe.push(value));
        }
    }

    /// Its name, for messages.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Snapshot { .. } => format!("Snapshot {{ {} }}", self.made().join(", ")),
            other => format!("{other:?}"),
        }
    }

    /// Whether requests of this volume must wait until the command has answered.
    pub(crate) fn takes(&self, volume: &str) -> bool {
        match self {
            Self::Nothing | Self::Create { .. } | Self::Clone { .. } | Self::Snapshot { .. } => false,
            Self::Rollback { volume: taken, .. } | Self::Publish { volume: taken, .. } => taken == volume,
            Self::Remove { names } => names.iter().any(|name| name == volume),
            Self::Resize { name, .. } => name == volume,
            Self::Rename { from, .. } => from == volume,
        }
    }

    pub(crate) fn apply(&self, model: &mut PoolModel, progress: Progress) {
        let disks = &mut model.disks;
        match self {
            Self::Nothing => {}
            Self::Create { name, blocks } => {
                let sectors = vec![Sector::NEVER; blocks * SECTORS_PER_BLOCK];
                disks.insert(name.clone(), Disk { kind: Kind::Volume, sectors });
            }
            Self::Clone { source, names } => {
                let from = disks.get(source).map(|from| Disk { kind: Kind::Volume, ..from.clone() });
                disks.extend(
                    from.iter().flat_map(|from| names.iter().map(|name| (name.clone(), from.clone()))),
                );
            }
            Self::Snapshot { points } => {
                for (name, seen) in points {
                    let mut seen = seen.clone();
                    if progress == Progress::Answered {
                        let mark = seen.mark();
                        seen.settle(&mark);
                    }
                    disks.insert(name.clone(), seen);
                }
            }
            Self::Rollback { volume, to } => {
                if let Some(from) = disks.get(to).cloned() {
                    disks.insert(volume.clone(), Disk { kind: Kind::Volume, ..from });
                }
            }
            Self::Remove { names } => names.iter().for_each(|name| drop(disks.remove(name))),
            Self::Resize { name, blocks } => {
                if let Some(disk) = disks.get_mut(name) {
                    disk.sectors.resize(blocks * SECTORS_PER_BLOCK, Sector::NEVER);
                }
            }
            Self::Publish { volume, version } => {
                if let Some(disk) = disks.remove(volume) {
                    disks.insert(version.clone(), Disk { kind: Kind::Version, ..disk });
                }
            }
            Self::Rename { from, to } => {
                if let Some(disk) = disks.remove(from) {
                    disks.insert(to.clone(), disk);
                }
            }
        }
    }
}

/// What may be found after a crash: one of these, whole.
#[derive(Debug, Clone)]
pub(crate) struct Expectation {
    pub(crate) alternatives: Vec<PoolModel>,
    /// A flush may fail, and make the tail void: then a kill is as a power cut.
    pub(crate) faulty: bool,
    pub(crate) hash: u64,
}

impl Expectation {
    pub(crate) fn of(model: &PoolModel, under_way: Option<&Change>, faulty: bool) -> Self {
        let mut alternatives = vec![model.clone()];
        if let Some(change) = under_way.filter(|change| **change != Change::Nothing) {
            let mut after = model.clone();
            change.apply(&mut after, Progress::UnderWay);
            alternatives.push(after);
        }
        let mut hasher = DefaultHasher::new();
        alternatives.hash(&mut hasher);
        Self { alternatives, faulty, hash: hasher.finish() }
    }
}

fn one_block() -> (String, PoolModel) {
    let (name, mut model) = ("v".to_owned(), PoolModel::default());
    Change::Create { name: name.clone(), blocks: 1 }.apply(&mut model, Progress::Answered);
    (name, model)
}

#[test]
fn a_flush_from_before_a_write_leaves_open_what_a_failed_write_has_done() {
    let (failed, later) = (Value::written(1), Value::zeroed(2));
    let (name, mut model) = one_block();
    model.begin_write(&name, 0..1, failed);
    model.fail_write(&name, 0..1);
    let mark = model.mark(&name);
    model.begin_write(&name, 0..1, later);
    model.acknowledge_write(&name, 0..1, later, false);
    model.settle(&mark);
    let sector = &model.disks[&name].sectors[0];
    assert!(sector.allows(Seen::Stamp { value: failed, lba: 0 }, 0, Loss::Power));
    assert!(!sector.allows(Seen::Stamp { value: failed, lba: 0 }, 0, Loss::Process));
}

#[test]
fn what_a_version_was_seen_to_hold_of_a_failed_write_it_holds() {
    let (kept, failed) = (Value::written(1), Value::written(2));
    let (name, mut model) = one_block();
    model.begin_write(&name, 0..1, kept);
    model.acknowledge_write(&name, 0..1, kept, true);
    model.begin_write(&name, 0..1, failed);
    model.fail_write(&name, 0..1);
    let version = "i@v".to_owned();
    Change::Publish { volume: name, version: version.clone() }.apply(&mut model, Progress::Answered);
    let seen = Seen::Stamp { value: failed, lba: 0 };
    model.saw(&version, &[seen]);
    let sector = &model.disks[&version].sectors[0];
    assert!(sector.allows(seen, 0, Loss::Process));
    assert!(!sector.allows(Seen::Stamp { value: kept, lba: 0 }, 0, Loss::Process));
}
