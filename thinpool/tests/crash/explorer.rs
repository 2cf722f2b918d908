//! Tries every crash at every moment of a workload, once each, and crashes of the recoveries too.

use crate::cases::{Case, cases};
use crate::chance::Chance;
use crate::judge::{Remains, Verdict, Watch, judge};
use crate::looks::Looks;
use crate::model::Loss;
use crate::recorder::{Moment, Phase, Phases};
use blockstore::simulated::ReadLog;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One recovery in so many is crashed itself.
const NESTED_IN: usize = 16;
/// How deep recoveries of recoveries go.
const DEPTH_MAX: usize = 3;
/// Moments of a recovery that are tried, and crashes at each.
const NESTED_MOMENTS: usize = 4;
const NESTED_CASES: usize = 3;

/// What all explorers of one test have seen.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Hashes of what recovery read and of what was expected of it.
    distinct: Mutex<HashSet<u128>>,
    /// The same with the tail: of each of them the pool was used again.
    used: Mutex<HashSet<u128>>,
    /// The same, with what the readers of all volumes read.
    distinct_data: Mutex<HashSet<u128>>,
    pub(crate) states: AtomicU64,
    pub(crate) recoveries_crashed: AtomicU64,
    moments: [AtomicU64; Phase::ALL.len()],
}

impl Ledger {
    pub(crate) fn distinct(&self) -> u64 {
        u64::try_from(self.distinct.lock().len()).expect("a length")
    }

    pub(crate) fn distinct_data(&self) -> u64 {
        u64::try_from(self.distinct_data.lock().len()).expect("a length")
    }

    /// Crash points inside each phase.
    pub(crate) fn phases(&self) -> Vec<(Phase, u64)> {
        Phase::ALL.into_iter().zip(self.moments.iter().map(|count| count.load(Ordering::Relaxed))).collect()
    }
}

/// Explores one workload.
pub(crate) struct Explorer {
    ledger: Arc<Ledger>,
    chance: Chance,
    /// States of this workload that were tried already.
    tried: HashSet<(u128, u64)>,
    /// What was looked at in states that are held to the same promise.
    looks: HashMap<u64, Looks>,
    boot_id: [u8; 16],
}

impl Explorer {
    pub(crate) fn new(ledger: Arc<Ledger>, boot_id: [u8; 16], seed: u64) -> Self {
        Self { ledger, chance: Chance::new(seed), tried: HashSet::new(), looks: HashMap::new(), boot_id }
    }

    /// Every crash at every one of these moments.
    pub(crate) fn explore(&mut self, moments: &[Moment]) -> Result<(), String> {
        for moment in moments {
            let mut tried = false;
            for case in cases(moment, &mut self.chance) {
                tried |= self.state(moment, &case, Loss::Process, self.boot_id, 0)?;
            }
            if tried {
                self.count(moment.phases);
            }
        }
        Ok(())
    }

    fn count(&self, phases: Phases) {
        for (at, _) in phases.iter() {
            self.ledger.moments[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One crash; false when the same state was tried before.
    fn state(
        &mut self,
        moment: &Moment,
        case: &Case,
        loss_before: Loss,
        boot_id: [u8; 16],
        depth: usize,
    ) -> Result<bool, String> {
        let remains = Remains::of(moment, case, boot_id, loss_before);
        let (disk, promise) = (remains.disk(), remains.promise());
        let looks = self.looks.entry(promise).or_default();
        if !self.tried.insert((disk.hash(), promise)) || looks.knows(&disk) {
            return Ok(false);
        }
        let nested = depth < DEPTH_MAX && self.chance.one_in(NESTED_IN);
        let watch = if nested { Watch::Recovery } else { Watch::Nothing };
        let mut chance = Chance::new(self.chance.next());
        let expected = u128::from(remains.expectation.hash) << 1 | u128::from(remains.loss == Loss::Power);
        let expected = expected.wrapping_mul(SPREAD);
        let ledger = self.ledger.clone();
        let promised = u128::from(promise).wrapping_mul(SPREAD);
        let is_new = |recovery: &ReadLog| {
            ledger.distinct.lock().insert(recovery.hash() ^ expected);
            ledger.used.lock().insert(recovery.hash() ^ promised)
        };
        let judged = catch_unwind(AssertUnwindSafe(|| judge(&remains, watch, is_new, &mut chance)));
        let verdict = judged.unwrap_or_else(|panic| Err(format!("panic: {}", words(panic.as_ref()))));
        let verdict = verdict.map_err(|why| format!("{why}\n  {}", describe(moment, case, depth)))?;
        self.ledger.states.fetch_add(1, Ordering::Relaxed);
        if let Some(looks) = self.looks.get_mut(&promise) {
            looks.learn(verdict.reads.pages());
        }
        self.ledger.distinct_data.lock().insert(verdict.reads.hash() ^ expected);
        self.crash_recovery(verdict, remains.loss, depth)?;
        Ok(true)
    }

    /// Crashes a recovery at some of its moments.
    fn crash_recovery(&mut self, verdict: Verdict, loss: Loss, depth: usize) -> Result<(), String> {
        if verdict.moments.is_empty() {
            return Ok(());
        }
        self.ledger.recoveries_crashed.fetch_add(1, Ordering::Relaxed);
        for _ in 0..NESTED_MOMENTS {
            let at = self.chance.below(verdict.moments.len());
            let moment = &verdict.moments[at];
            let cases = cases(moment, &mut self.chance);
            let mut tried = Phases::default();
            for _ in 0..NESTED_CASES {
                let Some(case) = self.chance.pick(&cases).cloned() else { break };
                if self.state(moment, &case, loss, verdict.boot_id, depth + 1)? {
                    tried.add(phases_of(moment, &case));
                }
            }
            self.count(tried);
        }
        Ok(())
    }
}

/// What a crash of a recovery interrupts.
fn phases_of(moment: &Moment, case: &Case) -> Phases {
    let mut phases = moment.phases;
    if phases.has(Phase::TailReplay) && case.loss == Loss::Power {
        phases.set(Phase::TailPowerLoss, true);
    }
    phases
}

const SPREAD: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;

fn describe(moment: &Moment, case: &Case, depth: usize) -> String {
    let pending: Vec<String> = moment
        .point
        .pending()
        .map(|operation| format!("{:?}@{}+{}", operation.kind, operation.offset, operation.length))
        .collect();
    let at = moment.point.event();
    format!(
        "{:?} at {at:?}, depth {depth}, torn tail {}, kept {:?} of [{}]",
        case.loss,
        moment.torn,
        case.choice,
        pending.join(", ")
    )
}

pub(crate) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
