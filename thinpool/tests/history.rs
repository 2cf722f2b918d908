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
use thinpool::{Command, GeometryOptions, Status};

const DEVICE_BYTES: u64 = 64 * MIB;
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
    let mut engine = Engine::with(DEVICE_BYTES, tiny_limits(), geometry);
    let mut model = Model::default();
    for number in 0..steps {
        let step = model.choose(&mut random);
        let context = format!("seed {seed}, step {number}: {step:?}");
        engine = take(engine, &mut model, &step, &context);
        compare_at_once(&engine, &model, &step, &context);
        settle(&mut engine, &step, &context);
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
        compare_at_once(&engine, model, &gone, context);
        settle(&mut engine, &gone, context);
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
fn settle(engine: &mut Engine, step: &Step, context: &str) {
    let settling = matches!(step, Step::Change(_));
    engine.must(if settling { Command::Settle } else { Command::Commit });
    if settling {
        assert_eq!(engine.status().quarantined, 0, "{context}: quarantined after everything has settled");
    }
}

/// What holds as soon as the step has been answered, with nothing freed or absorbed yet.
fn compare_at_once(engine: &Engine, model: &Model, step: &Step, context: &str) {
    compare_names(&engine.status(), model, context);
    let status = engine.status();
    if matches!(step, Step::Change(_)) {
        // What the model has freed already.
        assert!(status.mapped >= model.mapped() * BLOCK, "{context}: {} mapped at once", status.mapped);
        assert!(status.layers >= model.layers(), "{context}: {} layers at once", status.layers);
        return;
    }
    compare_space(&status, model, context);
    for entry in engine.pool.entries() {
        let name = entry.name.to_string();
        assert_eq!(entry.owned, model.owned(&name) * BLOCK, "{context}: {name} owns at once");
    }
}

/// What does not wait for anything.
fn compare_names(status: &Status, model: &Model, context: &str) {
    let (names, volumes) = (length(&model.names()), length(&model.volumes()));
    assert_eq!(
        (status.volumes, status.snapshots),
        (volumes, names - volumes),
        "{context}: volumes, snapshots"
    );
    assert_eq!(status.versions, 0, "{context}: nobody publishes");
    assert_eq!(status.provisioned, model.provisioned() * BLOCK, "{context}: provisioned");
    let parts = status.mapped + status.reserved + status.quarantined + status.free;
    assert_eq!(status.capacity, parts, "{context}: every block of the capacity is one of these: {status:?}");
    let all = status.capacity + status.metadata_used + status.metadata_free + status.journal_size;
    assert!(all <= DEVICE_BYTES, "{context}: more than the device has: {status:?}");
    assert!(status.journal_used <= status.journal_size, "{context}: {status:?}");
    assert!(!status.poisoned && !status.read_only, "{context}: {status:?}");
}

fn length(names: &[String]) -> u64 {
    u64::try_from(names.len()).expect("few")
}

fn compare_space(status: &Status, model: &Model, context: &str) {
    assert_eq!(status.mapped, model.mapped() * BLOCK, "{context}: mapped");
    assert_eq!(status.layers, model.layers(), "{context}: layers");
    assert_eq!(status.reclaiming, model.waiting(), "{context}: layers that wait");
}

fn compare(engine: &Engine, model: &Model, context: &str) {
    let status = engine.status();
    compare_names(&status, model, context);
    compare_space(&status, model, context);
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
