//! Unsettled histories: steps follow each other while frees and absorbs are half done. Nothing is compared with counts the
//! model cannot know then; bytes are, and the check's own walk, and at the end everything. And each ownership rule,
//! broken on purpose, is noticed by them.

mod engine;
mod model;

use engine::{BLOCK, Engine, MIB, n, tiny_limits};
use model::{Model, Step};
use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use thinpool::{Command, GeometryOptions};

/// Steps of one history.
const STEPS: u32 = 150;
/// Histories in a run without mutants.
const SEEDS: u32 = 200;

fn history(seed: u32) {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let geometry = GeometryOptions { journal_blocks: Some(64), group_blocks: Some(128) };
    let mut engine = Engine::with(32 * MIB, tiny_limits(), geometry);
    let mut model = Model::default();
    for number in 0..STEPS {
        let step = model.choose(&mut random);
        take(&mut engine, &mut model, &step, seed, number);
        for _ in 0..random.random_range(0..6) {
            engine.tick();
        }
        if random.random_range(0..20) == 0 {
            engine.must(Command::Commit);
        }
        if random.random_range(0..40) == 0 {
            engine.must(Command::Thin);
        }
        if random.random_range(0..12) == 0 {
            engine.assert_clean();
            compare(&mut engine, &model, seed, number);
        }
        if random.random_range(0..60) == 0 {
            engine = engine.kill();
        }
    }
    engine.must(Command::Settle);
    engine.assert_clean();
    compare(&mut engine, &model, seed, STEPS);
    for name in model.volumes() {
        engine.must(Command::Remove { name: n(&name), recursive: true });
    }
    engine.must(Command::Settle);
    engine.assert_clean();
    assert_eq!(engine.status().mapped, 0, "seed {seed}: with everything deleted no block is left");
}

fn take(engine: &mut Engine, model: &mut Model, step: &Step, seed: u32, number: u32) {
    let bytes = |blocks: usize| u64::try_from(blocks).expect("few") * BLOCK;
    let done = match step {
        Step::Write { volume, block, byte } => {
            let v = engine.attach(volume);
            engine.write(&v, bytes(*block), &[*byte; 4096]).is_ok()
        }
        Step::Trim { volume, block, count } => {
            let v = engine.attach(volume);
            engine.trim(&v, bytes(*block), bytes(*count)).is_ok()
        }
        Step::Change(command) => engine.run(command.clone()).is_ok(),
    };
    assert_eq!(done, model.take(step), "seed {seed}, step {number}: {step:?}");
}

fn compare(engine: &mut Engine, model: &Model, seed: u32, number: u32) {
    for name in model.names() {
        let attachment = engine.look(&name);
        let bytes = engine.read(&attachment, 0, usize::try_from(attachment.size()).expect("small"));
        for (block, found) in (0..).zip(bytes.chunks(4096)) {
            let expected = model.byte(&name, block);
            assert!(
                found.iter().all(|byte| *byte == expected),
                "seed {seed}, step {number}: block {block} of {name}"
            );
        }
    }
}

#[test]
fn steps_between_half_done_frees_and_absorbs_leave_every_rule_whole() {
    (0..SEEDS).for_each(history);
}

/// Each within a minute, by name.
#[cfg(feature = "mutants")]
#[test]
#[expect(clippy::disallowed_methods, reason = "the time it takes is part of the claim")]
fn every_broken_ownership_rule_is_noticed() {
    use std::time::{Duration, Instant};
    use thinpool::{Mutant, choose_mutant};
    const BOUND: Duration = Duration::from_secs(60);
    let rules = [
        Mutant::TrimFreesNow,
        Mutant::NodesInclusive,
        Mutant::NodesByUpperBound,
        Mutant::UnsealOnRollback,
        Mutant::AbsorbReceiving,
        Mutant::NoBorrowEdge,
        Mutant::SweepFollowsLive,
        Mutant::NoInherit,
        Mutant::PruneNoRewrite,
        Mutant::TransferSealedMid,
        Mutant::AbsorbOneOfTwo,
    ];
    let (mut unnoticed, mut late) = (Vec::new(), Vec::new());
    for rule in rules {
        let begun = Instant::now();
        choose_mutant(Some(rule));
        let noticed = (0..)
            .take_while(|_| begun.elapsed() < BOUND)
            .find(|seed| std::panic::catch_unwind(|| history(*seed)).is_err());
        choose_mutant(None);
        let took = begun.elapsed();
        match noticed {
            Some(seed) => println!("{rule:?}: noticed after {:.1} s, by seed {seed}", took.as_secs_f64()),
            None => unnoticed.push(rule),
        }
        if took > BOUND && noticed.is_some() {
            late.push(rule);
        }
    }
    assert!(unnoticed.is_empty(), "nobody noticed {unnoticed:?}");
    assert!(late.is_empty(), "noticed after more than {} s: {late:?}", BOUND.as_secs());
}
