//! Any commands and requests, kills and clean restarts in between: names and bytes are what a plain map says, and the
//! pool is clean.
//!
//! What the engine refuses has changed nothing; what it does, the model must be able to do.
#![no_main]

#[path = "../../thinpool/tests/engine/mod.rs"]
mod engine;

use arbitrary::Arbitrary;
use engine::{BLOCK, Engine, n, tiny_limits};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use thinpool::{Attachment, Command, GeometryOptions, ZeroSpace};

const STEPS_MAX: usize = 48;
const BLOCKS: u8 = 40;
const VOLUMES: u8 = 4;
const POINTS: u8 = 4;
const BLOCK_BYTES: usize = 4096;
/// Small enough to run full.
const DEVICE_BLOCKS: u64 = 640;
const GEOMETRY: GeometryOptions = GeometryOptions { journal_blocks: Some(64), group_blocks: Some(64) };

#[derive(Debug, Arbitrary)]
enum Step {
    Create {
        volume: u8,
        blocks: u8,
    },
    Write {
        volume: u8,
        block: u8,
        byte: u8,
    },
    /// Less than a block.
    WriteSector {
        volume: u8,
        sector: u16,
        byte: u8,
    },
    Trim {
        volume: u8,
        block: u8,
        blocks: u8,
    },
    Zero {
        volume: u8,
        block: u8,
        blocks: u8,
        allocate: bool,
    },
    Flush {
        volume: u8,
    },
    Read {
        name: Reference,
    },
    Snapshot {
        volume: u8,
        point: u8,
    },
    Clone {
        source: Reference,
        volume: u8,
        blocks: Option<u8>,
    },
    Rollback {
        volume: u8,
        point: u8,
    },
    Remove {
        name: Reference,
        recursive: bool,
    },
    Resize {
        volume: u8,
        blocks: u8,
    },
    Rename {
        from: Reference,
        to: Reference,
    },
    Publish {
        volume: u8,
        version: u8,
    },
    Property {
        name: Reference,
        value: Option<u8>,
    },
    Commit,
    Checkpoint,
    Settle,
    Thin,
    Check,
    Tick {
        times: u8,
    },
    Kill,
    Close,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Reference {
    Volume(u8),
    Point(u8, u8),
    Version(u8),
}

impl Reference {
    fn text(self) -> String {
        match self {
            Reference::Volume(volume) => format!("v{}", volume % VOLUMES),
            Reference::Point(volume, point) => format!("v{}@p{}", volume % VOLUMES, point % POINTS),
            Reference::Version(version) => format!("image@p{}", version % POINTS),
        }
    }
}

fn volume(number: u8) -> String {
    Reference::Volume(number).text()
}

fn size(blocks: u8) -> u64 {
    u64::from(blocks % BLOCKS + 1) * BLOCK
}

type Bytes = Vec<u8>;

/// What every name holds.
#[derive(Debug, Default)]
struct Model {
    names: BTreeMap<String, Bytes>,
}

impl Model {
    fn of(&self, name: &str) -> &Bytes {
        self.names.get(name).unwrap_or_else(|| panic!("{name} is not there, and the engine used it"))
    }

    fn of_mut(&mut self, name: &str) -> &mut Bytes {
        self.names.get_mut(name).unwrap_or_else(|| panic!("{name} is not there, and the engine used it"))
    }

    fn add(&mut self, name: &str, bytes: Bytes) {
        let old = self.names.insert(name.to_owned(), bytes);
        assert!(old.is_none(), "{name} is there already, and the engine made it");
    }

    fn points(&self, volume: &str) -> Vec<String> {
        let prefix = format!("{volume}@");
        self.names.keys().filter(|name| name.starts_with(&prefix)).cloned().collect()
    }

    /// Makes the change that the engine has made.
    fn follow(&mut self, command: &Command) {
        match command {
            Command::CreateVolume { name, size } => self.add(&name.to_string(), vec![0; length(*size)]),
            Command::Clone { source, names, size } => {
                let mut bytes = self.of(&source.to_string()).clone();
                if let Some(size) = size {
                    bytes.resize(length(*size), 0);
                }
                self.add(&names[0].to_string(), bytes);
            }
            Command::Snapshot { names } => {
                let bytes = self.of(names[0].base()).clone();
                self.add(&names[0].to_string(), bytes);
            }
            Command::Rollback { to } => {
                let bytes = self.of(&to.to_string()).clone();
                *self.of_mut(to.base()) = bytes;
            }
            Command::Remove { name, recursive } => self.remove(&name.to_string(), *recursive),
            Command::Resize { name, size } => self.of_mut(&name.to_string()).resize(length(*size), 0),
            Command::Rename { from, to } => self.rename(&from.to_string(), &to.to_string()),
            Command::Publish { volume, version } => self.rename(&volume.to_string(), &version.to_string()),
            _ => {}
        }
    }

    fn remove(&mut self, name: &str, recursive: bool) {
        let points = self.points(name);
        assert!(recursive || points.is_empty(), "{name} went and left its snapshots behind");
        for doomed in points.iter().map(String::as_str).chain([name]) {
            assert!(self.names.remove(doomed).is_some(), "{doomed} was there");
        }
    }

    /// A volume's snapshots go with it.
    fn rename(&mut self, from: &str, to: &str) {
        for point in self.points(from) {
            let bytes = self.names.remove(&point).expect("just listed");
            self.add(&point.replacen(from, to, 1), bytes);
        }
        let bytes = self.names.remove(from).unwrap_or_else(|| panic!("{from} is not there"));
        self.add(to, bytes);
    }
}

fn length(size: u64) -> usize {
    usize::try_from(size).expect("small")
}

struct World {
    engine: Engine,
    model: Model,
}

impl World {
    fn new() -> Self {
        Self { engine: Engine::with(DEVICE_BLOCKS * BLOCK, tiny_limits(), GEOMETRY), model: Model::default() }
    }

    fn take(self, step: &Step) -> Self {
        let Self { engine, model } = self;
        match step {
            Step::Kill => Self { engine: engine.kill(), model },
            Step::Close => Self { engine: engine.close(), model },
            _ => {
                let mut world = Self { engine, model };
                world.act(step);
                world
            }
        }
    }

    fn act(&mut self, step: &Step) {
        match *step {
            Step::Write { volume: v, block, byte } => {
                self.write(&volume(v), u64::from(block % BLOCKS) * BLOCK, &[byte; BLOCK_BYTES]);
            }
            Step::WriteSector { volume: v, sector, byte } => {
                let sectors = u16::from(BLOCKS) * 8;
                self.write(&volume(v), u64::from(sector % sectors) * 512, &[byte; 512]);
            }
            Step::Trim { volume: v, block, blocks } => self.clear(&volume(v), block, blocks, None),
            Step::Zero { volume: v, block, blocks, allocate } => {
                let space = if allocate { ZeroSpace::Allocate } else { ZeroSpace::Release };
                self.clear(&volume(v), block, blocks, Some(space));
            }
            Step::Flush { volume: v } => {
                if let Some(attachment) = self.attach(&volume(v)) {
                    self.engine.flush(&attachment);
                }
            }
            Step::Read { name } => self.compare_bytes(&name.text()),
            Step::Check => self.engine.assert_clean(),
            Step::Tick { times } => drop((0..times).filter(|_| self.engine.tick()).count()),
            _ => self.command(step),
        }
    }

    fn command(&mut self, step: &Step) {
        let Some(command) = command_of(step) else { return };
        if self.engine.run(command.clone()).is_ok() {
            self.model.follow(&command);
        }
    }

    fn attach(&self, name: &str) -> Option<Attachment> {
        self.model.names.contains_key(name).then(|| self.engine.attach(name))
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        let Some(attachment) = self.attach(name) else { return };
        let end = offset + u64::try_from(bytes.len()).expect("short");
        if end <= attachment.size() && self.engine.write(&attachment, offset, bytes).is_ok() {
            self.model.of_mut(name)[length(offset)..length(end)].copy_from_slice(bytes);
        }
    }

    /// Trims, or writes zeros. Without space for it, each block is zeros or what it was.
    fn clear(&mut self, name: &str, block: u8, blocks: u8, space: Option<ZeroSpace>) {
        let Some(attachment) = self.attach(name) else { return };
        let offset = u64::from(block % BLOCKS) * BLOCK;
        let Some(room) = attachment.size().checked_sub(offset).filter(|room| *room > 0) else { return };
        let count = (u64::from(blocks) % 8 + 1) * BLOCK;
        let count = count.min(room);
        let done = match space {
            None => self.engine.trim(&attachment, offset, count),
            Some(space) => self.engine.zeroes(&attachment, offset, count, space),
        };
        let found = self.engine.read(&attachment, offset, length(count));
        let expected = &mut self.model.of_mut(name)[length(offset)..length(offset + count)];
        for (expected, found) in expected.chunks_mut(BLOCK_BYTES).zip(found.chunks(BLOCK_BYTES)) {
            let is_zero = found.iter().all(|byte| *byte == 0);
            assert!(is_zero || (done.is_err() && found == expected), "{name} was cleared: {done:?}");
            expected.copy_from_slice(found);
        }
    }

    fn compare_bytes(&mut self, name: &str) {
        let Some(expected) = self.model.names.get(name) else { return };
        let attachment = self.engine.look(name);
        let found = self.engine.read(&attachment, 0, expected.len());
        assert_eq!(length(attachment.size()), expected.len(), "{name}");
        let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
        assert_eq!(differs, None, "the first byte of {name} that is another");
    }

    fn finish(mut self) {
        let names: Vec<String> = self.model.names.keys().cloned().collect();
        let mut found: Vec<String> =
            self.engine.pool.entries().iter().map(|entry| entry.name.to_string()).collect();
        found.sort();
        assert_eq!(found, names);
        names.iter().for_each(|name| self.compare_bytes(name));
        self.engine.assert_clean();
        for name in names.iter().rev() {
            self.engine.must(engine::remove(name));
        }
        self.engine.must(Command::Settle);
        self.engine.assert_clean();
        assert_eq!(self.engine.status().mapped, 0, "with everything deleted no block is left");
    }
}

fn command_of(step: &Step) -> Option<Command> {
    Some(match *step {
        Step::Create { volume: v, blocks } => engine::volume(&volume(v), size(blocks)),
        Step::Snapshot { volume: v, point } => engine::snapshot(&Reference::Point(v, point).text()),
        Step::Clone { source, volume: v, blocks } => {
            let (source, names) = (n(&source.text()), vec![n(&volume(v))]);
            Command::Clone { source, names, size: blocks.map(size) }
        }
        Step::Rollback { volume: v, point } => {
            Command::Rollback { to: n(&Reference::Point(v, point).text()) }
        }
        Step::Remove { name, recursive } => Command::Remove { name: n(&name.text()), recursive },
        Step::Resize { volume: v, blocks } => Command::Resize { name: n(&volume(v)), size: size(blocks) },
        Step::Rename { from, to } => Command::Rename { from: n(&from.text()), to: n(&to.text()) },
        Step::Publish { volume: v, version } => {
            Command::Publish { volume: n(&volume(v)), version: n(&Reference::Version(version).text()) }
        }
        Step::Property { name, value } => Command::SetProperty {
            names: vec![n(&name.text())],
            key: "key".to_owned(),
            value: value.map(|byte| byte.to_string()),
        },
        Step::Commit => Command::Commit,
        Step::Checkpoint => Command::Checkpoint,
        Step::Settle => Command::Settle,
        Step::Thin => Command::Thin,
        _ => return None,
    })
}

fuzz_target!(|steps: Vec<Step>| {
    let world = steps.iter().take(STEPS_MAX).fold(World::new(), World::take);
    world.finish();
});
