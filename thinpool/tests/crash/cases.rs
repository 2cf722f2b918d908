//! Which crashes are tried at a moment: what is lost, which pending changes reach the medium, and how they tear.

use crate::chance::Chance;
use crate::model::Loss;
use crate::recorder::Moment;
use blockstore::OperationKind;
use blockstore::simulated::{Choice, Tear};

/// Up to so many changes, every subset of them is tried.
const EXHAUSTIVE_MAX: usize = 5;
/// Random subsets beyond that.
const RANDOM_SUBSETS: u64 = 6;
/// Changes torn at one moment, in three ways each.
const TORN_MAX: usize = 3;

/// One crash at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) loss: Loss,
    pub(crate) choice: Choice,
}

/// All crashes worth a look.
pub(crate) fn cases(moment: &Moment, chance: &mut Chance) -> Vec<Case> {
    let count = moment.point.pending().len();
    let first = moment.point.in_flight_start();
    if moment.torn {
        return vec![Case { loss: Loss::Process, choice: Choice::none() }];
    }
    let mut cases = Vec::new();
    let mut add = |loss, choices: Vec<Choice>| {
        cases.extend(choices.into_iter().map(|choice| Case { loss, choice }));
    };
    add(Loss::Process, choices(moment, first, count, chance));
    add(Loss::Power, choices(moment, 0, count, chance));
    cases
}

/// Subsets, other orders and tears of the pending changes from `first` on.
fn choices(moment: &Moment, first: usize, count: usize, chance: &mut Chance) -> Vec<Choice> {
    let mut choices = subsets(first, count, chance);
    if moment.point.has_races() {
        for _ in 0..2 {
            choices.push(moment.point.reordered(Choice::of(first..count), chance.next()));
        }
    }
    choices.extend(tears(moment, first, count, chance));
    choices
}

fn subsets(first: usize, count: usize, chance: &mut Chance) -> Vec<Choice> {
    let pending = count - first;
    if pending <= EXHAUSTIVE_MAX {
        let chosen = |mask: u32| (0..pending).filter(move |at| mask >> at & 1 == 1).map(move |at| first + at);
        return (0..1 << pending).map(|mask| Choice::of(chosen(mask))).collect();
    }
    let mut choices = vec![Choice::none(), Choice::of(first..count)];
    for at in first..count {
        choices.push(Choice::of([at]));
        choices.push(Choice::of((first..count).filter(|other| *other != at)));
    }
    for _ in 0..RANDOM_SUBSETS {
        let mask = chance.next();
        choices.push(Choice::of((first..count).filter(|at| mask >> (at % 64) & 1 == 1)));
    }
    choices
}

/// The three tears of some of the writes. Only what the keeper writes is torn into garbage: a guest's sectors are as
/// whole as the medium's, and a medium that turns them into garbage is one no guest could use.
fn tears(moment: &Moment, first: usize, count: usize, chance: &mut Chance) -> Vec<Choice> {
    let labels: Vec<_> = moment.point.pending().collect();
    let torn: Vec<usize> = (first..count).filter(|at| labels[*at].kind == OperationKind::Write).collect();
    let mut choices = Vec::new();
    for _ in 0..TORN_MAX.min(torn.len()) {
        let at = *chance.pick(&torn).expect("there is one");
        let sectors = chance.below(moment.point.sectors(at).max(1));
        let base = if chance.one_in(2) { Choice::of(first..count) } else { Choice::of([at]) };
        choices.push(base.clone().tearing(at, Tear::Prefix { sectors }));
        choices.push(base.clone().tearing(at, Tear::Subset { seed: chance.next() }));
        if moment.keeper == Some(labels[at].channel) {
            choices.push(base.tearing(at, Tear::Garbage { seed: chance.next() }));
        }
    }
    choices
}
