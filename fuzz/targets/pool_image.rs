//! Whatever was changed in the image of a pool, opening it gives an error or a pool that answers, and never a panic or a
//! hang. Changes may be sealed again, with every checksum on the way up to the superblock, as whoever writes images on
//! purpose would do.
#![no_main]

#[path = "../../thinpool/tests/engine/mod.rs"]
mod engine;
#[path = "image/mod.rs"]
mod image;

use arbitrary::Arbitrary;
use blockstore::{Buffer, Device};
use engine::{BLOCK, Engine, n, small_tail, tiny_limits};
use image::Image;
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, OnceLock};
use thinpool::{Access, Action, Command, GeometryOptions, Tail, TailImage};

const DEVICE_BLOCKS: u64 = 400;
const GEOMETRY: GeometryOptions = GeometryOptions { journal_blocks: Some(16), group_blocks: Some(48) };
const CHANGES_MAX: usize = 24;
/// Opening of a process that comes after the others.
const LATER: u8 = 9;
const READ_BYTES: usize = 64 << 10;

#[derive(Debug, Arbitrary)]
struct Damage {
    /// The pool was closed; else its process was killed.
    closed: bool,
    /// The crash tail is where it was left.
    has_tail: bool,
    changes: Vec<Change>,
}

#[derive(Debug, Arbitrary)]
struct Change {
    /// Among the blocks that are not empty.
    block: u8,
    at: u16,
    byte: u8,
    sealed: bool,
}

#[derive(Debug)]
struct Original {
    image: Image,
    tail: TailImage,
}

#[derive(Debug)]
struct Originals {
    killed: Original,
    closed: Original,
}

impl Originals {
    fn get() -> &'static Self {
        static ORIGINALS: OnceLock<Originals> = OnceLock::new();
        ORIGINALS.get_or_init(|| Originals { killed: original(false), closed: original(true) })
    }
}

/// A pool with everything in it: volumes, a snapshot, a version, clones, a layer half absorbed, a journal, a tail.
fn original(closed: bool) -> Original {
    let mut engine = Engine::with(DEVICE_BLOCKS * BLOCK, tiny_limits(), GEOMETRY);
    engine.must(engine::volume("a", 24 * BLOCK));
    engine.must(engine::volume("template", 8 * BLOCK));
    fill(&mut engine, "template", 4, 1);
    engine.must(Command::Publish { volume: n("template"), version: n("image@v1") });
    fill(&mut engine, "a", 20, 2);
    engine.must(engine::snapshot("a@s"));
    fill(&mut engine, "a", 6, 3);
    engine.must(engine::snapshot("a@t"));
    engine.must(engine::clone("image@v1", "b"));
    let (key, value) = ("colour".to_owned(), Some("blue".to_owned()));
    engine.must(Command::SetProperty { names: vec![n("b")], key, value });
    engine.must(Command::Checkpoint);
    engine.must(engine::remove("a@s"));
    fill(&mut engine, "b", 3, 4);
    engine.must(Command::Commit);
    fill(&mut engine, "a", 2, 5);
    if closed {
        engine.must(Command::Close);
    }
    Original { image: Image::of(engine.device.as_ref()), tail: engine.tail.image() }
}

fn fill(engine: &mut Engine, name: &str, blocks: u64, byte: u8) {
    let attachment = engine.attach(name);
    for block in 0..blocks {
        engine.write(&attachment, block * BLOCK, &[byte; 4096]).expect("there is space");
    }
}

impl Damage {
    fn device(&self, original: &Original) -> Arc<dyn Device> {
        let mut image = original.image.clone();
        for change in self.changes.iter().take(CHANGES_MAX) {
            let block = image.nonempty()[usize::from(change.block) % image.nonempty().len()];
            image.change(block, usize::from(change.at) % image::BLOCK_BYTES, change.byte, change.sealed);
        }
        Arc::new(image.device())
    }

    fn tail(&self, original: &Original) -> Tail {
        if self.has_tail {
            Tail::from_image(&original.tail).expect("an image of a tail")
        } else {
            small_tail()
        }
    }
}

/// Whether it is an error or an answer does not matter; that there is one does.
fn use_it(mut engine: Engine) {
    for entry in engine.pool.entries() {
        if let Ok(attachment) = engine.pool.attach(&entry.name, Access::ReadOnly) {
            let length = usize::try_from(attachment.size()).unwrap_or(READ_BYTES).min(READ_BYTES);
            let action = Action::Read { offset: 0, buffer: Buffer::zeroed(length) };
            drop((length > 0).then(|| engine.ask(&attachment, action)));
        }
        if let Ok(attachment) = engine.pool.attach(&entry.name, Access::ReadWrite)
            && attachment.size() >= BLOCK
            && engine.write(&attachment, 0, &[9; 4096]).is_ok()
        {
            drop(engine.ask(&attachment, Action::Flush));
        }
    }
    for command in
        [Command::Check, Command::Checkpoint, engine::remove("a@t"), Command::Settle, Command::Close]
    {
        drop(engine.run(command));
    }
}

fuzz_target!(|damage: Damage| {
    let originals = Originals::get();
    let original = if damage.closed { &originals.closed } else { &originals.killed };
    let opened = Engine::open(damage.device(original), damage.tail(original), LATER, tiny_limits());
    if let Ok(engine) = opened {
        use_it(engine);
    } else {
        assert!(!damage.changes.is_empty() || !damage.has_tail, "nothing was changed: {:?}", opened.err());
    }
});
