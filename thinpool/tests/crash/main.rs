//! The crash explorer: the real engine on a simulated device, crashed at every step the device takes.
//!
//! A workload runs on a tiny pool. Before and after everything the device does the explorer takes the moment as a value:
//! what the device could be left with, what the crash tail holds, what guests and operator have been promised. For
//! each moment it then opens the pool again from what a power cut, or a kill, would have left: every subset of the
//! pending changes when they are few, many of them when they are not, torn in three ways, in other orders. Every such
//! opening must succeed, check clean, show for every sector a value it may show, and work. Some are crashed again.
//!
//! `OFFSHOOT_STATES` sets how many distinct states are wanted, `OFFSHOOT_SECONDS` how long the search may take,
//! `OFFSHOOT_SEED` where random workloads begin, with no pairs before them, and `OFFSHOOT_CRASH`, as a failure prints it, runs
//! one workload alone.

mod action;
mod cases;
mod chance;
mod create;
#[path = "../engine/mod.rs"]
mod engine;
mod explorer;
mod instant;
mod judge;
mod looks;
mod model;
#[cfg(feature = "mutants")]
mod mutants;
mod pool;
mod recorder;
mod regressions;
mod reuse;
mod rot;
mod stamp;
mod workload;
mod world;

use explorer::Ledger;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use workload::{Workload, pairs};
use world::Start;

/// Distinct states in a run of the test suite.
const STATES: u64 = 300_000;
/// Crash points inside each phase that a run of at least [`STATES`] has.
const PHASE_MOMENTS_MIN: u64 = 1_000;
const WORKERS: usize = 2;

#[test]
fn every_crash_leaves_what_was_promised() {
    let start = Start::prepared().expect("the pool can be made and used without a crash");
    let ledger = Arc::new(Ledger::default());
    if let Some(workload) = text("OFFSHOOT_CRASH") {
        let workload = Workload::parse(&workload).expect("OFFSHOOT_CRASH is `pair:N` or `random:SEED`");
        if let Err(failure) = workload.run(&start, &ledger) {
            panic!("{failure}");
        }
        return;
    }
    let wanted = number("OFFSHOOT_STATES").unwrap_or(STATES);
    let failure = explore(&start, &ledger, wanted, number("OFFSHOOT_SEED"));
    report(&ledger);
    if let Some(failure) = failure {
        panic!("{failure}");
    }
    if ledger.distinct() >= STATES {
        for (phase, moments) in ledger.phases() {
            assert!(moments >= PHASE_MOMENTS_MIN, "only {moments} crash points inside {phase:?}");
        }
    }
}

/// All pairs, then random workloads until there are enough states or the time is over. The first failure ends it.
/// From a seed on there are random workloads only: a campaign adds to what other runs have seen, and all have seen the
/// pairs.
fn explore(start: &Start, ledger: &Arc<Ledger>, wanted: u64, seed: Option<u64>) -> Option<String> {
    let pair = AtomicU64::new(if seed.is_some() { pairs() } else { 0 });
    let seed = seed.unwrap_or(1);
    let random = AtomicU64::new(seed);
    let failed = AtomicBool::new(false);
    let failure = parking_lot::Mutex::new(None);
    let (clock, minutes) = (Clock::start(), AtomicU64::new(0));
    let seconds = number("OFFSHOOT_SECONDS").unwrap_or(u64::MAX);
    let work = || {
        while !failed.load(Ordering::Relaxed) && clock.seconds() < seconds {
            let next = pair.fetch_add(1, Ordering::Relaxed);
            let workload = if next < pairs() {
                Workload::Pair(next)
            } else if ledger.distinct() < wanted {
                Workload::of_seed(random.fetch_add(1, Ordering::Relaxed))
            } else {
                return;
            };
            if let Err(why) = workload.run(start, ledger) {
                failed.store(true, Ordering::Relaxed);
                failure.lock().get_or_insert(why);
            }
            let now = clock.seconds() / 60;
            if minutes.fetch_max(now, Ordering::Relaxed) < now {
                println!("after {now} min: {} distinct states", ledger.distinct());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    println!("random workloads {seed} to {}, {} s", random.into_inner().saturating_sub(1), clock.seconds());
    failure.into_inner()
}

/// Time on the wall, for bounds of whole runs only.
struct Clock(std::time::Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a run is bounded by time on the wall")]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> std::time::Duration {
        self.0.elapsed()
    }

    fn seconds(&self) -> u64 {
        self.elapsed().as_secs()
    }
}

fn report(ledger: &Ledger) {
    let crashed = ledger.recoveries_crashed.load(Ordering::Relaxed);
    let states = ledger.states.load(Ordering::Relaxed);
    println!(
        "{states} crash states, {} of them distinct to recovery, {} with the contents of volumes",
        ledger.distinct(),
        ledger.distinct_data()
    );
    println!("{crashed} recoveries crashed");
    for (phase, moments) in ledger.phases() {
        println!("{moments:>10} crash points inside {phase:?}");
    }
}

fn text(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

fn number(variable: &str) -> Option<u64> {
    text(variable).map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}")))
}
