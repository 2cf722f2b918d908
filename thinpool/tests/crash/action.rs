//! What a workload is made of: guest requests, an operator's commands, and the passing of time.

use crate::chance::Chance;
use crate::model::{Kind, PoolModel};
use crate::stamp::SECTORS_PER_BLOCK;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// When a flush says so.
    Later,
    /// When it is answered.
    Through,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Release,
    Allocate,
}

/// A run of sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Span {
    pub(crate) fn blocks(first: usize, count: usize) -> Self {
        Self { first: first * SECTORS_PER_BLOCK, count: count * SECTORS_PER_BLOCK }
    }

    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }
}

/// One step of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Write {
        volume: String,
        span: Span,
        durable: Durable,
    },
    Zeroes {
        volume: String,
        span: Span,
        durable: Durable,
        space: Space,
    },
    Trim {
        volume: String,
        span: Span,
        durable: Durable,
    },
    Flush {
        volume: String,
    },
    Read {
        volume: String,
    },
    Create {
        name: String,
        blocks: usize,
    },
    /// Of all these volumes at one instant.
    Snapshot {
        volumes: Vec<String>,
        point: String,
    },
    Clone {
        source: String,
        names: Vec<String>,
    },
    Rollback {
        volume: String,
        point: String,
    },
    Remove {
        name: String,
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
    Grow {
        blocks: u64,
    },
    Checkpoint,
    Commit,
    Settle,
    Thin,
    /// The pool is closed cleanly and opened again.
    Reopen,
    /// Time passes: background commits fall due.
    Pass,
    /// Everything under way is waited for.
    Drain,
}

impl Action {
    pub(crate) fn snapshot(volumes: &[&str], point: &str) -> Self {
        Self::Snapshot { volumes: owned(volumes), point: point.to_owned() }
    }

    pub(crate) fn clone(source: &str, names: &[&str]) -> Self {
        Self::Clone { source: source.to_owned(), names: owned(names) }
    }

    /// The volume of a guest's request.
    pub(crate) fn volume(&self) -> Option<&str> {
        match self {
            Self::Write { volume, .. }
            | Self::Zeroes { volume, .. }
            | Self::Trim { volume, .. }
            | Self::Flush { volume }
            | Self::Read { volume } => Some(volume),
            _ => None,
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The actions whose sequences of two are all tried, from the state [`crate::world::World::prepared`] makes.
pub(crate) fn alphabet() -> Vec<Action> {
    let volume = |name: &str| name.to_owned();
    let write = |name: &str, span, durable| Action::Write { volume: volume(name), span, durable };
    let trim = |name: &str, span, durable| Action::Trim { volume: volume(name), span, durable };
    let zeroes = |name: &str, span, space| Action::Zeroes {
        volume: volume(name),
        span,
        durable: Durable::Later,
        space,
    };
    vec![
        write("a", Span::blocks(0, 1), Durable::Later),
        write("a", Span::blocks(5, 2), Durable::Later),
        write("a", Span { first: 3, count: 1 }, Durable::Later),
        write("c", Span { first: 9, count: 2 }, Durable::Later),
        write("b", Span::blocks(1, 1), Durable::Later),
        write("b", Span::blocks(2, 3), Durable::Through),
        zeroes("a", Span::blocks(0, 2), Space::Release),
        zeroes("c", Span { first: 4, count: 12 }, Space::Allocate),
        trim("a", Span::blocks(0, 3), Durable::Later),
        trim("b", Span::blocks(0, 8), Durable::Through),
        Action::Flush { volume: volume("a") },
        Action::Flush { volume: volume("b") },
        Action::snapshot(&["a"], "t"),
        Action::snapshot(&["a", "b"], "u"),
        Action::clone("a@s", &["d"]),
        Action::clone("a@s", &["e", "f"]),
        Action::Rollback { volume: volume("a"), point: volume("s") },
        Action::Remove { name: volume("a@s") },
        Action::Remove { name: volume("c") },
        Action::Resize { name: volume("b"), blocks: 4 },
        Action::Resize { name: volume("b"), blocks: 12 },
        Action::Grow { blocks: 64 },
        Action::Checkpoint,
        Action::Commit,
        Action::Settle,
        Action::Reopen,
    ]
}

/// What a random workload is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// A little of everything.
    Mixed,
    /// Many requests of few sectors: races of partial writes, snapshots and reads.
    Hot,
    /// Large scattered trees, snapshots that come and go: sweeps that take many steps.
    Reclaim,
}

/// How a random workload leans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leaning {
    pub(crate) style: Style,
    /// Of a hundred actions, how many are flushes; a guest that never flushes is a guest too.
    flushes: usize,
    /// Of a hundred, how many are commands.
    commands: usize,
}

impl Leaning {
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        let flushes = *chance.pick(&[0, 5, 15]).expect("there are three");
        let commands = *chance.pick(&[10, 25, 40]).expect("there are three");
        Self { style: Style::Mixed, flushes, commands }
    }

    pub(crate) fn styled(self, style: Style) -> Self {
        let commands = match style {
            Style::Mixed => self.commands,
            Style::Hot => 12,
            Style::Reclaim => 35,
        };
        Self { style, commands, ..self }
    }

    /// Blocks of the largest volume.
    fn blocks_max(self) -> usize {
        match self.style {
            Style::Mixed => 12,
            Style::Hot => 3,
            Style::Reclaim => 48,
        }
    }
}

/// With so many names no command makes another one.
const NAMES_MAX: usize = 9;
/// Names that one command makes.
const NAMES_AT_ONCE_MAX: usize = 3;

/// Some action that makes sense in this state, more or less.
pub(crate) fn random(model: &PoolModel, leaning: Leaning, chance: &mut Chance) -> Action {
    let lot = chance.below(100);
    let volumes = names(model, &[Kind::Volume]);
    let Some(volume) = chance.pick(&volumes).cloned() else { return create(leaning, chance) };
    // Races need requests that meet.
    let volume = if leaning.style == Style::Hot && !chance.one_in(4) { volumes[0].clone() } else { volume };
    if lot < leaning.flushes {
        return Action::Flush { volume };
    }
    if lot < leaning.flushes + leaning.commands {
        return command(model, volume, leaning, chance);
    }
    request(model, volume, leaning, chance)
}

fn create(leaning: Leaning, chance: &mut Chance) -> Action {
    let most = leaning.blocks_max();
    let blocks = if leaning.style == Style::Reclaim { most } else { 1 + chance.below(most) };
    Action::Create { name: fresh(chance), blocks }
}

fn request(model: &PoolModel, volume: String, leaning: Leaning, chance: &mut Chance) -> Action {
    let sectors = model.disks[&volume].sectors();
    let span = span(sectors, leaning, chance);
    let durable = if chance.one_in(8) { Durable::Through } else { Durable::Later };
    if leaning.style == Style::Reclaim && chance.one_in(3) {
        return Action::Trim { volume, span, durable };
    }
    match chance.below(13) {
        0..=6 => Action::Write { volume, span, durable },
        7 => Action::Zeroes { volume, span, durable, space: Space::Release },
        8 => Action::Zeroes { volume, span, durable, space: Space::Allocate },
        9 | 10 => Action::Trim { volume, span, durable },
        11 => Action::Read { volume },
        _ => {
            let all: Vec<String> = model.disks.keys().cloned().collect();
            Action::Read { volume: chance.pick(&all).cloned().unwrap_or(volume) }
        }
    }
}

fn span(sectors: usize, leaning: Leaning, chance: &mut Chance) -> Span {
    let blocks = sectors / SECTORS_PER_BLOCK;
    match leaning.style {
        Style::Hot => {
            let near = sectors.min(2 * SECTORS_PER_BLOCK);
            if chance.one_in(3) {
                return Span::blocks(chance.below(near / SECTORS_PER_BLOCK), 1);
            }
            let first = chance.below(near);
            Span { first, count: 1 + chance.below((near - first).min(3)) }
        }
        // Every other block, so that extents do not join.
        Style::Reclaim if !chance.one_in(6) => Span::blocks(chance.below(blocks) / 2 * 2, 1),
        _ if chance.one_in(3) => {
            let first = chance.below(sectors);
            Span { first, count: 1 + chance.below((sectors - first).min(20)) }
        }
        _ => {
            let first = chance.below(blocks);
            Span::blocks(first, 1 + chance.below((blocks - first).min(4)))
        }
    }
}

fn command(model: &PoolModel, volume: String, leaning: Leaning, chance: &mut Chance) -> Action {
    let points = names(model, &[Kind::Snapshot, Kind::Version]);
    let full = model.disks.len() >= NAMES_MAX;
    let own: Vec<String> =
        points.iter().filter(|name| name.starts_with(&format!("{volume}@"))).cloned().collect();
    let lots = if leaning.style == Style::Mixed { 28 } else { 16 };
    match chance.below(lots) {
        0..=4 if !full => Action::Snapshot { volumes: together(model, volume, chance), point: fresh(chance) },
        5..=7 if !full && !points.is_empty() => {
            let source = chance.pick(&points).expect("there is one").clone();
            Action::Clone { source, names: (0..at_once(chance)).map(|_| fresh(chance)).collect() }
        }
        8 | 9 if !own.is_empty() => {
            let point = chance.pick(&own).expect("there is one");
            let point = point.split('@').nth(1).expect("a snapshot has a point").to_owned();
            Action::Rollback { volume, point }
        }
        10..=13 if !points.is_empty() => {
            Action::Remove { name: chance.pick(&points).expect("there is one").clone() }
        }
        14 if own.is_empty() || leaning.style == Style::Reclaim => Action::Remove { name: volume },
        15 => Action::Checkpoint,
        16 | 17 => Action::Resize { name: volume, blocks: 1 + chance.below(leaning.blocks_max()) },
        18 if own.is_empty() && !full => Action::Publish { volume, version: format!("{}@v", fresh(chance)) },
        19 => Action::Grow { blocks: 32 },
        20 => Action::Commit,
        21 => Action::Checkpoint,
        22 => Action::Settle,
        23 => Action::Thin,
        24 => Action::Reopen,
        25 if own.is_empty() => Action::Rename { from: volume, to: fresh(chance) },
        _ if !full => create(leaning, chance),
        _ => Action::Pass,
    }
}

fn at_once(chance: &mut Chance) -> usize {
    if chance.one_in(3) { 2 + chance.below(NAMES_AT_ONCE_MAX - 1) } else { 1 }
}

/// This volume, and sometimes others.
fn together(model: &PoolModel, volume: String, chance: &mut Chance) -> Vec<String> {
    let count = at_once(chance);
    let mut others = names(model, &[Kind::Volume]);
    others.retain(|other| *other != volume);
    let mut volumes = vec![volume];
    while volumes.len() < count && !others.is_empty() {
        volumes.push(others.swap_remove(chance.below(others.len())));
    }
    volumes
}

fn names(model: &PoolModel, kinds: &[Kind]) -> Vec<String> {
    model.disks.iter().filter(|(_, disk)| kinds.contains(&disk.kind)).map(|(name, _)| name.clone()).collect()
}

fn fresh(chance: &mut Chance) -> String {
    format!("n{}", chance.below(1_000_000))
}
