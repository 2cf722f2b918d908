//! Workloads: sequences of actions, each explored to its end.

use crate::action::{Action, Durable, Leaning, Span, Style, alphabet, random};
use crate::chance::Chance;
use crate::explorer::{Explorer, Ledger, words};
use crate::world::{Races, Setting, Start, Trouble, World};
use blockstore::simulated::{CompletionOrder, Fault, Profile};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// A workload by number; the same number is the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    /// A sequence of one or two actions of the alphabet.
    Pair(u64),
    /// A random one.
    Random(u64),
    /// A random one on a device on which something fails once.
    Faulty(u64),
    /// Many small requests at once, crashed at every step.
    Hot(u64),
    /// The same, longer, looked at while it runs and rarely crashed.
    Races(u64),
    /// A snapshot is removed, and its volume written at once; crashed at every step.
    Absorb(u64),
    /// Large scattered trees that are freed and absorbed; looked at while it runs and rarely crashed.
    Sweeps(u64),
}

/// How a failure prints a kind of workload, and how one is made of a number.
type Kind = (&'static str, fn(u64) -> Workload);

const KINDS: [Kind; 7] = [
    ("pair", Workload::Pair),
    ("random", Workload::Random),
    ("faulty", Workload::Faulty),
    ("hot", Workload::Hot),
    ("races", Workload::Races),
    ("absorb", Workload::Absorb),
    ("sweeps", Workload::Sweeps),
];

impl Workload {
    /// `pair:7` or `random:1234`, as a failure prints it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, number) = text.split_once(':')?;
        let (_, workload) = KINDS.into_iter().find(|(name, _)| *name == kind)?;
        number.parse().ok().map(workload)
    }

    /// Some of each kind.
    pub(crate) fn of_seed(seed: u64) -> Self {
        match seed % 8 {
            0 | 4 => Self::Faulty(seed),
            2 => Self::Hot(seed),
            3 => Self::Absorb(seed),
            5 => Self::Races(seed),
            6 => Self::Sweeps(seed),
            _ => Self::Random(seed),
        }
    }

    fn name(self) -> String {
        let (kind, number) = match self {
            Self::Pair(number) => ("pair", number),
            Self::Random(seed) => ("random", seed),
            Self::Faulty(seed) => ("faulty", seed),
            Self::Hot(seed) => ("hot", seed),
            Self::Races(seed) => ("races", seed),
            Self::Absorb(seed) => ("absorb", seed),
            Self::Sweeps(seed) => ("sweeps", seed),
        };
        format!("{kind}:{number}")
    }

    /// Runs and explores it. The error tells what went wrong, after which actions, and how to see it again.
    pub(crate) fn run(self, start: &Start, ledger: &Arc<Ledger>) -> Result<(), String> {
        let mut trace = Vec::new();
        let run = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Pair(number) => pair(number, start, ledger, &mut trace),
            Self::Random(seed) => Random::new(seed).run(start, ledger, &mut trace),
            Self::Faulty(seed) => Random::new(seed).faulty().run(start, ledger, &mut trace),
            Self::Hot(seed) => Random::new(seed).styled(Style::Hot).run(start, ledger, &mut trace),
            Self::Absorb(seed) => absorb(seed, start, ledger, &mut trace),
            Self::Races(seed) => Random::new(seed).styled(Style::Hot).light().run(start, ledger, &mut trace),
            Self::Sweeps(seed) => {
                Random::new(seed).styled(Style::Reclaim).light().run(start, ledger, &mut trace)
            }
        }));
        let run = run.unwrap_or_else(|panic| Err(format!("panic: {}", words(panic.as_ref()))));
        run.map_err(|why| {
            let actions: Vec<String> = trace.iter().map(|action| format!("    {action:?}")).collect();
            format!("OFFSHOOT_CRASH={}: {why}\n  after\n{}", self.name(), actions.join("\n"))
        })
    }
}

/// How many pairs there are, single actions included.
pub(crate) fn pairs() -> u64 {
    let letters = alphabet().len();
    u64::try_from(letters + letters * letters).expect("a small number")
}

fn pair(seed: u64, start: &Start, ledger: &Arc<Ledger>, trace: &mut Vec<Action>) -> Result<(), String> {
    let letters = alphabet();
    let number = usize::try_from(seed).expect("a small number");
    let actions: Vec<Action> = match number.checked_sub(letters.len()) {
        None => vec![letters[number].clone()],
        Some(two) => vec![letters[two / letters.len()].clone(), letters[two % letters.len()].clone()],
    };
    let profile = Profile { latency_polls_max: seed % 2, ..Profile::default() };
    let mut world = begin(start, profile, seed)?;
    let mut explorer = Explorer::new(ledger.clone(), world.boot_id(), seed);
    explorer.explore(&world.recorder.take())?;
    for action in actions {
        trace.push(action.clone());
        let performed = world.perform(&action).and_then(|()| world.drain());
        performed.map_err(wrong)?;
        explorer.explore(&world.recorder.take())?;
    }
    world.inspect().map_err(wrong)
}

/// Writes every other block, so that no two are one extent: a small volume with a large tree.
fn scatter(world: &mut World, volume: &str, blocks: usize) -> Result<(), Trouble> {
    (0..blocks).step_by(2).try_for_each(|block| {
        let span = Span::blocks(block, 1);
        world.perform(&Action::Write { volume: volume.to_owned(), span, durable: Durable::Later })
    })
}

const ABSORBS: usize = 3;

fn absorb(seed: u64, start: &Start, ledger: &Arc<Ledger>, trace: &mut Vec<Action>) -> Result<(), String> {
    let mut chance = Chance::new(seed);
    let mut world = begin(start, Profile::drawn(chance.next()), chance.next())?;
    let mut explorer = Explorer::new(ledger.clone(), world.boot_id(), chance.next());
    for turn in 0..ABSORBS {
        let write = |span| Action::Write { volume: "b".to_owned(), span, durable: Durable::Later };
        let blocks = Span::blocks(chance.below(3), 1 + chance.below(4));
        let point = format!("x{turn}");
        let actions = [
            write(blocks),
            Action::snapshot(&["b"], &point),
            Action::Drain,
            Action::Remove { name: format!("b@{point}") },
            write(Span { first: blocks.first, count: 8 }),
            write(Span { first: blocks.first + 8 + chance.below(8), count: 1 + chance.below(3) }),
            Action::Trim { volume: "b".to_owned(), span: Span::blocks(4, 2), durable: Durable::Later },
        ];
        for action in actions {
            trace.push(action.clone());
            let rounds = chance.below(4);
            let performed =
                world.perform(&action).and_then(|()| (0..rounds).try_for_each(|_| world.round().map(drop)));
            performed.map_err(wrong)?;
            explorer.explore(&world.recorder.take())?;
        }
        world.drain().map_err(wrong)?;
        explorer.explore(&world.recorder.take())?;
    }
    world.inspect().map_err(wrong)
}

fn begin(start: &Start, profile: Profile, seed: u64) -> Result<World, String> {
    World::begin(start, profile, seed).map_err(wrong)
}

fn wrong(trouble: Trouble) -> String {
    match trouble {
        Trouble::Poisoned => "the pool gave up although nothing had failed".to_owned(),
        Trouble::Wrong(why) => why,
    }
}

const LENGTH_MIN: usize = 10;
const LENGTH_MAX: usize = 60;
const LIGHT_LENGTH: usize = 400;
/// Every moment is crashed at, or one in so many.
const EVERY: usize = 1;
const RARELY: usize = 200;

struct Random {
    chance: Chance,
    setting: Setting,
    leaning: Leaning,
    /// One action in so many is waited for.
    patience: usize,
    /// One moment in so many is crashed at.
    explored_in: usize,
    actions: usize,
}

impl Random {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let leaning = Leaning::drawn(&mut chance);
        let patience = 1 + chance.below(5);
        let profile = Profile::drawn(chance.next());
        let actions = LENGTH_MIN + chance.below(LENGTH_MAX - LENGTH_MIN);
        Self { setting: profile.into(), leaning, patience, explored_in: EVERY, actions, chance }
    }

    fn styled(mut self, style: Style) -> Self {
        self.leaning = self.leaning.styled(style);
        match style {
            Style::Mixed => {}
            Style::Hot => self.setting.races = Races::Allowed,
            Style::Reclaim => self.setting.sweep_nodes = 1,
        }
        self
    }

    /// The same with a device on which something fails once.
    fn faulty(self) -> Self {
        let mut random = self;
        let nth = u64::try_from(random.chance.below(24)).expect("small");
        let fault = match random.chance.below(6) {
            0 => Fault::WriteError { nth },
            1 => Fault::WriteTorn { nth },
            2 => Fault::ReadError { nth },
            _ => Fault::FlushError { nth },
        };
        random.setting.profile.faults = vec![fault];
        random
    }

    fn light(self) -> Self {
        let mut random = self;
        random.setting.profile.order = CompletionOrder::Any;
        random.setting.profile.straggler_delay_polls = 40;
        random.actions = LIGHT_LENGTH;
        random.explored_in = RARELY;
        random
    }

    fn run(mut self, start: &Start, ledger: &Arc<Ledger>, trace: &mut Vec<Action>) -> Result<(), String> {
        let mut world = match World::begin(start, self.setting.clone(), self.chance.next()) {
            Ok(world) => world,
            Err(Trouble::Poisoned) => return Ok(()),
            Err(Trouble::Wrong(why)) => return Err(why),
        };
        world.recorder.keep_one_in(self.explored_in);
        let mut explorer = Explorer::new(ledger.clone(), world.boot_id(), self.chance.next());
        explorer.explore(&world.recorder.take())?;
        for _ in 0..self.actions {
            let stepped = self.step(&mut world, trace);
            explorer.explore(&world.recorder.take())?;
            match stepped {
                Ok(()) => {}
                Err(Trouble::Poisoned) => return Ok(()),
                Err(Trouble::Wrong(why)) => return Err(why),
            }
        }
        let ended = world.drain().and_then(|()| world.inspect());
        explorer.explore(&world.recorder.take())?;
        match ended {
            Err(Trouble::Wrong(why)) => Err(why),
            Ok(()) | Err(Trouble::Poisoned) => Ok(()),
        }
    }

    fn step(&mut self, world: &mut World, trace: &mut Vec<Action>) -> Result<(), Trouble> {
        let action = random(&world.model, self.leaning, &mut self.chance);
        trace.push(action.clone());
        world.perform(&action)?;
        if let (Style::Reclaim, Action::Create { name, blocks }) = (self.leaning.style, &action) {
            world.drain()?;
            scatter(world, name, *blocks)?;
        }
        for _ in 0..self.chance.below(4) {
            world.round()?;
        }
        if self.chance.one_in(self.patience) {
            trace.push(Action::Drain);
            world.drain()?;
            if self.chance.one_in(4) {
                world.inspect()?;
            }
        }
        Ok(())
    }
}
