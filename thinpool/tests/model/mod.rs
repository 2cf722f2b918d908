//! What a pool of layers means, in the plainest words: every layer is a map from blocks to allocations, every allocation
//! has one owner, and what may be freed or absorbed is, at once.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use crate::engine::{clone, n, remove, snapshot, volume};
use proptest::prelude::RngExt;
use std::collections::BTreeMap;
use std::rc::Rc;
use thinpool::Command;

const BLOCKS: usize = 48;
const VOLUMES_MAX: usize = 6;
const POINTS_MAX: usize = 5;

/// One step of a history.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write { volume: String, block: usize, byte: u8 },
    Trim { volume: String, block: usize, count: usize },
    Change(Command),
}

/// A block that somebody wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allocation {
    owner: u32,
    byte: u8,
}

#[derive(Debug, Clone, Copy)]
struct Layer {
    map: [Option<Allocation>; BLOCKS],
    /// Allocations it owns; its map reaches all of them.
    owned: u64,
    parent: Option<u32>,
    named: bool,
}

const EMPTY: Layer = Layer { map: [None; BLOCKS], owned: 0, parent: None, named: true };

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// Shared with the copies that figures are tried out on.
    layers: BTreeMap<u32, Rc<Layer>>,
    names: BTreeMap<String, u32>,
    next_layer: u32,
    next_name: u32,
}

impl Model {
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(crate) fn volumes(&self) -> Vec<String> {
        self.names.keys().filter(|name| !name.contains('@')).cloned().collect()
    }

    fn points(&self) -> Vec<String> {
        self.names.keys().filter(|name| name.contains('@')).cloned().collect()
    }

    fn points_of(&self, volume: &str) -> usize {
        self.points().iter().filter(|name| name.split('@').next() == Some(volume)).count()
    }

    /// Chooses something that makes sense most of the time.
    pub(crate) fn choose(&mut self, random: &mut impl RngExt) -> Step {
        let volumes = self.volumes();
        if volumes.is_empty() {
            return Step::Change(self.create());
        }
        let name = volumes[random.random_range(0..volumes.len())].clone();
        match random.random_range(0..100) {
            0..55 => {
                let block = random.random_range(0..BLOCKS);
                Step::Write { volume: name, block, byte: random.random_range(1..=255) }
            }
            55..65 => {
                let block = random.random_range(0..BLOCKS);
                let count = random.random_range(1..=(BLOCKS - block).min(12));
                Step::Trim { volume: name, block, count }
            }
            65..75 => self.snap(&name),
            75..82 => self.branch(random),
            82..86 => self.roll(random),
            86..96 => self.cut(random),
            _ if volumes.len() < VOLUMES_MAX => Step::Change(self.create()),
            _ => Step::Change(Command::Remove { name: n(&name), recursive: random.random_bool(0.5) }),
        }
    }

    fn fresh(&mut self) -> u32 {
        self.next_name += 1;
        self.next_name
    }

    fn create(&mut self) -> Command {
        let number = self.fresh();
        volume(&format!("v{number}"), u64::try_from(BLOCKS).expect("few") * 4096)
    }

    fn snap(&mut self, name: &str) -> Step {
        let number = self.fresh();
        if self.points_of(name) >= POINTS_MAX {
            return Step::Change(Command::Remove { name: n(name), recursive: true });
        }
        Step::Change(snapshot(&format!("{name}@s{number}")))
    }

    fn branch(&mut self, random: &mut impl RngExt) -> Step {
        let points = self.points();
        if points.is_empty() || self.volumes().len() >= VOLUMES_MAX {
            return self.cut(random);
        }
        let number = self.fresh();
        Step::Change(clone(&points[random.random_range(0..points.len())], &format!("v{number}")))
    }

    fn roll(&mut self, random: &mut impl RngExt) -> Step {
        let points = self.points();
        match points.len() {
            0 => Step::Change(self.create()),
            count => Step::Change(Command::Rollback { to: n(&points[random.random_range(0..count)]) }),
        }
    }

    fn cut(&mut self, random: &mut impl RngExt) -> Step {
        let points = self.points();
        match points.len() {
            0 => Step::Change(self.create()),
            count => Step::Change(remove(&points[random.random_range(0..count)])),
        }
    }

    /// Takes the step if it is allowed; tells whether it was.
    pub(crate) fn take(&mut self, step: &Step) -> bool {
        match step {
            Step::Write { volume, block, byte } => self.write(volume, *block, *byte),
            Step::Trim { volume, block, count } => {
                (*block..block + count).for_each(|block| self.unmap(volume, block));
                true
            }
            Step::Change(command) => self.change(command),
        }
    }

    fn write(&mut self, volume: &str, block: usize, byte: u8) -> bool {
        let id = self.names[volume];
        let layer = self.layer_mut(id);
        let is_own = layer.map[block].is_some_and(|allocation| allocation.owner == id);
        layer.owned += u64::from(!is_own);
        layer.map[block] = Some(Allocation { owner: id, byte });
        true
    }

    fn unmap(&mut self, volume: &str, block: usize) {
        let id = self.names[volume];
        let layer = self.layer_mut(id);
        let is_own = layer.map[block].take().is_some_and(|allocation| allocation.owner == id);
        layer.owned -= u64::from(is_own);
    }

    fn change(&mut self, command: &Command) -> bool {
        let done = match command {
            Command::CreateVolume { name, .. } => {
                let id = self.add(EMPTY);
                self.names.insert(name.to_string(), id);
                true
            }
            Command::Clone { source, names, .. } => {
                self.clone_from(&source.to_string(), &names[0].to_string())
            }
            Command::Snapshot { names } => self.snapshot(names[0].base(), &names[0].to_string()),
            Command::Rollback { to } => self.rollback(to.base(), &to.to_string()),
            Command::Remove { name, recursive } => self.remove(&name.to_string(), *recursive),
            other => panic!("the history does not hold {other:?}"),
        };
        self.reclaim();
        done
    }

    fn add(&mut self, layer: Layer) -> u32 {
        self.next_layer += 1;
        self.layers.insert(self.next_layer, Rc::new(layer));
        self.next_layer
    }

    fn fork(&mut self, of: u32) -> u32 {
        let map = self.layers[&of].map;
        self.add(Layer { map, parent: Some(of), ..EMPTY })
    }

    fn clone_from(&mut self, source: &str, name: &str) -> bool {
        let id = self.fork(self.names[source]);
        self.names.insert(name.to_owned(), id);
        true
    }

    fn snapshot(&mut self, volume: &str, name: &str) -> bool {
        let old = self.names[volume];
        let new = self.fork(old);
        self.names.insert(volume.to_owned(), new);
        self.names.insert(name.to_owned(), old);
        true
    }

    fn rollback(&mut self, volume: &str, to: &str) -> bool {
        let (Some(old), Some(point)) = (self.names.get(volume).copied(), self.names.get(to).copied()) else {
            return false;
        };
        let new = self.fork(point);
        self.names.insert(volume.to_owned(), new);
        self.layer_mut(old).named = false;
        true
    }

    fn remove(&mut self, name: &str, recursive: bool) -> bool {
        let mut doomed = vec![name.to_owned()];
        if !name.contains('@') {
            let points = self.points().into_iter().filter(|point| point.split('@').next() == Some(name));
            doomed.extend(points);
            if doomed.len() > 1 && !recursive {
                return false;
            }
        }
        for name in doomed {
            let id = self.names.remove(&name).expect("the name exists");
            self.layer_mut(id).named = false;
        }
        true
    }

    fn dependents(&self, id: u32) -> Vec<u32> {
        self.layers.iter().filter(|(_, layer)| layer.parent == Some(id)).map(|(id, _)| *id).collect()
    }

    /// Free and absorb until nothing can be.
    fn reclaim(&mut self) {
        let unnamed = |(id, layer): (&u32, &Rc<Layer>)| (!layer.named).then_some(*id);
        while let Some((id, dependents)) = self
            .layers
            .iter()
            .filter_map(unnamed)
            .map(|id| (id, self.dependents(id)))
            .find(|(_, dependents)| dependents.len() < 2)
        {
            let gone = self.layers.remove(&id).expect("just found");
            let Some(dependent) = dependents.first().copied() else { continue };
            let into = self.layer_mut(dependent);
            into.parent = gone.parent;
            let taken = into.map.iter().flatten().filter(|allocation| allocation.owner == id).count();
            into.owned += u64::try_from(taken).expect("few");
            self.rename_owner(id, dependent);
        }
    }

    /// Everybody who reaches a block of `from` does so through `to` (the reach lemma).
    fn rename_owner(&mut self, from: u32, to: u32) {
        for layer in self.layers.values_mut() {
            let has = |allocation: &&Allocation| allocation.owner == from;
            if layer.map.iter().flatten().any(|allocation| has(&allocation)) {
                let allocations = Rc::make_mut(layer).map.iter_mut().flatten();
                allocations.filter(|allocation| allocation.owner == from).for_each(|a| a.owner = to);
            }
        }
    }

    fn layer_mut(&mut self, id: u32) -> &mut Layer {
        Rc::make_mut(self.layers.get_mut(&id).expect("layers that are named or depended on exist"))
    }

    /// Layers without a name that several others depend on.
    pub(crate) fn waiting(&self) -> u64 {
        u64::try_from(self.layers.values().filter(|layer| !layer.named).count()).expect("few")
    }

    pub(crate) fn layers(&self) -> u64 {
        u64::try_from(self.layers.len()).expect("few")
    }

    /// Blocks promised to all volumes.
    pub(crate) fn provisioned(&self) -> u64 {
        u64::try_from(self.volumes().len() * BLOCKS).expect("few")
    }

    pub(crate) fn owned(&self, name: &str) -> u64 {
        self.layers[&self.names[name]].owned
    }

    pub(crate) fn mapped(&self) -> u64 {
        self.layers.values().map(|layer| layer.owned).sum()
    }

    /// What a name owns, and what removing it alone gives back.
    pub(crate) fn figures(&self, name: &str) -> (u64, u64) {
        let id = self.names[name];
        let mut without = Model { layers: self.layers.clone(), ..Model::default() };
        without.layer_mut(id).named = false;
        without.reclaim();
        (self.layers[&id].owned, self.mapped() - without.mapped())
    }

    pub(crate) fn byte(&self, name: &str, block: usize) -> u8 {
        self.layers[&self.names[name]].map[block].map_or(0, |allocation| allocation.byte)
    }
}
