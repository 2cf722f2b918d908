//! A long random history on the real engine beside a model that knows nothing of trees, tags, cursors or counts: plain maps
//! from blocks to allocations. After every step all figures and, now and then, all bytes must be the model's.
//!
//! `OFFSHOOT_STEPS` and `OFFSHOOT_SEED` replay or lengthen it.

mod engine;
mod model;

use engine::{BLOCK, Engine, MIB, tiny_limits};
use model::{Model, Step};
use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use thinpool::{Command, GeometryOptions};

const STEPS: u32 = 100_000;
/// Steps after which everything is deleted.
const ERA_STEPS: u32 = 1_500;

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn figures_equal_an_independent_walk_after_every_step() {
    let seed = setting("OFFSHOOT_SEED", 1);
    let steps = setting("OFFSHOOT_STEPS", STEPS);
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let geometry = GeometryOptions { journal_blocks: Some(64), group_blocks: Some(128) };
    let mut engine = Engine::with(64 * MIB, tiny_limits(), geometry);
    let mut model = Model::default();
    for number in 0..steps {
        let step = model.choose(&mut random);
        let context = format!("seed {seed}, step {number}: {step:?}");
        engine = take(engine, &mut model, &step, &context);
        settle(&mut engine, &model, &step, &context);
        compare(&engine, &model, &context);
        if number % 499 == 0 {
            engine.assert_clean();
            compare_bytes(&mut engine, &model, &context);
        }
        if number % ERA_STEPS == ERA_STEPS - 1 {
            engine = end_of_era(engine, &mut model, &context);
        }
        if number % 1009 == 1008 {
            engine = if random.random_bool(0.5) { engine.kill() } else { engine.close() };
        }
    }
    end_of_era(engine, &mut model, "the end");
}

fn at(block: usize) -> u64 {
    u64::try_from(block).expect("few") * BLOCK
}

/// Everything goes: layers that wait for several dependents would pile up otherwise, and the pool with them.
fn end_of_era(mut engine: Engine, model: &mut Model, context: &str) -> Engine {
    for name in model.volumes() {
        let gone = Step::Change(Command::Remove { name: engine::n(&name), recursive: true });
        engine = take(engine, model, &gone, context);
        settle(&mut engine, model, &gone, context);
        compare(&engine, model, context);
    }
    engine.must(Command::Settle);
    engine.assert_clean();
    assert_eq!(engine.status().mapped, 0, "{context}: with everything deleted no block is left");
    engine
}

/// Does the step to both, and compares whether it was allowed.
fn take(mut engine: Engine, model: &mut Model, step: &Step, context: &str) -> Engine {
    let done = match step {
        Step::Write { volume, block, byte } => {
            let v = engine.attach(volume);
            engine.write(&v, at(*block), &[*byte; 4096]).expect("there is space");
            Ok(())
        }
        Step::Trim { volume, block, count } => {
            let v = engine.attach(volume);
            engine.trim(&v, at(*block), at(*count)).expect("there is space");
            Ok(())
        }
        Step::Change(command) => engine.run(command.clone()).map(drop),
    };
    let allowed = model.take(step);
    assert_eq!(done.is_ok(), allowed, "{context}: {done:?}");
    engine
}

/// Lets the engine free and absorb what it can; the model has done so at once.
fn settle(engine: &mut Engine, model: &Model, step: &Step, context: &str) {
    let settling = matches!(step, Step::Change(_));
    engine.must(if settling { Command::Settle } else { Command::Commit });
    assert_eq!(engine.status().reclaiming, model.waiting(), "{context}: layers that wait");
}

fn compare(engine: &Engine, model: &Model, context: &str) {
    assert_eq!(engine.status().mapped, model.mapped() * BLOCK, "{context}: mapped");
    let entries = engine.pool.entries();
    assert_eq!(entries.len(), model.names().len(), "{context}: names");
    for entry in entries {
        let name = entry.name.to_string();
        let (owned, gives_back) = model.figures(&name);
        assert_eq!(entry.owned, owned * BLOCK, "{context}: {name} owns");
        assert_eq!(entry.gives_back, Some(gives_back * BLOCK), "{context}: removing {name} gives back");
    }
}

fn compare_bytes(engine: &mut Engine, model: &Model, context: &str) {
    for name in model.names() {
        let attachment = engine.look(&name);
        let bytes = engine.read(&attachment, 0, usize::try_from(attachment.size()).expect("small"));
        for (block, found) in (0..).zip(bytes.chunks(4096)) {
            let expected = model.byte(&name, block);
            assert!(found.iter().all(|byte| *byte == expected), "{context}: block {block} of {name}");
        }
    }
}
