//! Breaks one rule of the engine at a time and sees that the explorer notices: what makes its silence worth something.

use crate::Clock;
use crate::explorer::Ledger;
use crate::reuse::read_beside_reuse;
use crate::rot::rot_everything;
use crate::workload::Workload;
use crate::world::Start;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thinpool::{Mutant, choose_mutant};

/// A broken rule must be noticed within this time.
const BOUND: Duration = Duration::from_secs(60);
const WORKERS: usize = 2;
/// The seed of each hunt's first workload. Any will do that leads to all of them well within the bound.
const FIRST_SEED: u64 = 1000;

const ALL: [Mutant; 28] = [
    Mutant::TrimFreesNow,
    Mutant::InPlaceBeforeDurable,
    Mutant::NodesInclusive,
    Mutant::NodesByUpperBound,
    Mutant::UnsealOnRollback,
    Mutant::ReuseEarly,
    Mutant::AbsorbReceiving,
    Mutant::NoBorrowEdge,
    Mutant::SweepFollowsLive,
    Mutant::NoInherit,
    Mutant::PruneNoRewrite,
    Mutant::TransferSealedMid,
    Mutant::AbsorbOneOfTwo,
    Mutant::CutAfterFlush,
    Mutant::PublishBeforeStage,
    Mutant::ReuseBeforeDrained,
    Mutant::StaleCache,
    Mutant::BelieveSecondFlush,
    Mutant::NoRangeLock,
    Mutant::NoFlushBeforeSuperblock,
    Mutant::NoFlushBeforeJournal,
    Mutant::ReuseNodesEarly,
    Mutant::JournalHoleIgnored,
    Mutant::TailUnbound,
    Mutant::FlushJoinsLate,
    Mutant::FuaIgnored,
    Mutant::PartialNotFilled,
    Mutant::SnapshotWithoutDrain,
];

/// What became of a mutant.
struct Fate {
    mutant: Mutant,
    took: Duration,
    /// The workload and what it saw; `None` when nothing was noticed.
    caught: Option<String>,
}

impl fmt::Display for Fate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}", self.mutant);
        let how = self.caught.as_deref().unwrap_or("SURVIVED");
        write!(out, "{name:<24} {:>5.1} s  {how}", self.took.as_secs_f64())
    }
}

#[test]
fn every_broken_rule_is_noticed() {
    let start = Start::prepared().expect("the pool can be made and used without a crash");
    let only = std::env::var("OFFSHOOT_MUTANT").ok();
    let chosen = |mutant: &Mutant| only.as_ref().is_none_or(|name| *name == format!("{mutant:?}"));
    let mutants: Vec<Mutant> = ALL.into_iter().filter(chosen).collect();
    let next = AtomicUsize::new(0);
    let fates = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let fate = hunt(*mutant, &start);
                    fates.lock().push(fate);
                }
            });
        }
    });
    let fates = fates.into_inner();
    let survivors: Vec<Mutant> =
        fates.iter().filter(|fate| fate.caught.is_none()).map(|fate| fate.mutant).collect();
    assert!(survivors.is_empty(), "nobody noticed {survivors:?}");
    // The bound is looked at between workloads, and the last of them may have taken long.
    let late: Vec<String> = fates.iter().filter(|fate| fate.took > BOUND).map(Fate::to_string).collect();
    assert!(late.is_empty(), "noticed after more than {} s: {late:#?}", BOUND.as_secs());
}

/// Where a mutant is most likely to show.
fn ground(mutant: Mutant) -> &'static [fn(u64) -> Workload] {
    match mutant {
        Mutant::TrimFreesNow
        | Mutant::NodesInclusive
        | Mutant::NodesByUpperBound
        | Mutant::UnsealOnRollback
        | Mutant::ReuseEarly
        | Mutant::AbsorbReceiving
        | Mutant::NoBorrowEdge
        | Mutant::SweepFollowsLive
        | Mutant::NoInherit
        | Mutant::PruneNoRewrite
        | Mutant::TransferSealedMid
        | Mutant::AbsorbOneOfTwo
        | Mutant::StaleCache => &[Workload::Sweeps, Workload::Sweeps, Workload::Races, Workload::Random],
        Mutant::NoRangeLock | Mutant::SnapshotWithoutDrain | Mutant::ReuseBeforeDrained => {
            &[Workload::Races, Workload::Races, Workload::Sweeps, Workload::Random]
        }
        Mutant::InPlaceBeforeDurable => &[Workload::Absorb],
        Mutant::BelieveSecondFlush => &[Workload::Faulty],
        _ => &[Workload::Random, Workload::Hot],
    }
}

/// Runs workloads under the mutant until one of them fails.
fn hunt(mutant: Mutant, start: &Start) -> Fate {
    let clock = Clock::start();
    let ledger = Arc::new(Ledger::default());
    choose_mutant(Some(mutant));
    let mut caught = match mutant {
        Mutant::JournalHoleIgnored => rot_everything().err(),
        Mutant::ReuseBeforeDrained => read_beside_reuse().err(),
        _ => None,
    };
    let grounds = ground(mutant).iter().cycle();
    for (seed, workload) in (FIRST_SEED..).zip(grounds) {
        if caught.is_some() || clock.elapsed() >= BOUND {
            break;
        }
        caught = workload(seed).run(start, &ledger).err();
    }
    choose_mutant(None);
    let first_line = |text: String| text.lines().next().unwrap_or_default().chars().take(160).collect();
    let fate = Fate { mutant, took: clock.elapsed(), caught: caught.map(first_line) };
    println!("{fate}");
    fate
}
