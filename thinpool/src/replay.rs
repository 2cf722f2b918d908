//! Replaying records over a checkpoint's trees, in memory.
//!
//! A durable record's frees are over at once: whatever had to end before the blocks were used again has ended with the
//! process that made the record, and a later record may map them. Nodes come back only with the next superblock, because
//! the present one still points to them. What a record of the tail alone has freed is not free before a superblock
//! holds that record: the journal still maps it.

use crate::body::Freed;
use crate::catalog::sweep::{Reach, Stop, Sweep};
use crate::catalog::{Catalog, apply};
use crate::codec;
use crate::core::Quarantined;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::groups::{GroupKind, Groups, Run};
use crate::ids::{EntryId, LayerId};
use crate::keeper::io::KeeperIo;
use crate::node_cache::NodeCache;
use crate::record::{Change, Record};
use crate::recovery::Replayed;
use cow_tree::units::{BLOCK_BYTES_U64, BlockAddress, BlockCount, PoolId};
use cow_tree::{Limits, Missing, Node, Pinned};
use std::collections::VecDeque;
use std::sync::Arc;

/// A pool between its checkpoint and its last record.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    pub(crate) io: &'a KeeperIo,
    pub(crate) id: PoolId,
    pub(crate) cache: Arc<NodeCache>,
    pub(crate) limits: Limits,
    pub(crate) catalog: Catalog,
    pub(crate) groups: Groups,
    pub(crate) geometry: Geometry,
    /// What the device really has.
    pub(crate) device_bytes: u64,
    pub(crate) freed_nodes: Vec<BlockAddress>,
    pub(crate) quarantine: VecDeque<Quarantined>,
}

impl Replay<'_> {
    /// Applies one record.
    ///
    /// # Errors
    /// When it does not fit what it meets: damage.
    pub(crate) async fn record(&mut self, replayed: &Replayed) -> Result<(), Error> {
        let record = codec::decode_record(&replayed.bytes)?;
        record.check().map_err(|why| Error::Damage(format!("a record of the journal is damaged: {why}")))?;
        match &record {
            Record::Update { layer, changes } => self.update(LayerId(*layer), changes, replayed).await,
            Record::Sweep { layer, into, cursor } => {
                let sweep = Sweep { layer: LayerId(*layer), into: LayerId(*into) };
                self.sweep(sweep, *cursor, replayed).await
            }
            Record::Thin { layer, from, upto } => self.thin(LayerId(*layer), *from, *upto, replayed).await,
            Record::Resize { entry, size } => self.resize(EntryId(*entry), *size, replayed).await,
            Record::Grow { blocks } => self.grow(*blocks),
            other => Ok(apply::apply(&mut self.catalog, other, replayed.sequence, self.limits)?),
        }
    }

    async fn update(&mut self, id: LayerId, changes: &[Change], replayed: &Replayed) -> Result<(), Error> {
        if self.catalog.try_layer(id).is_none_or(|layer| layer.sealed) {
            return Err(Error::Damage(format!("a record changes layer {}, which nobody can write", id.0)));
        }
        for change in changes {
            if let Change::Map { length, address, .. } = *change {
                let run = Run { address: BlockAddress(address), length: BlockCount(u64::from(length)) };
                self.groups.mark(GroupKind::Data, run)?;
            }
        }
        let cache = self.cache.clone();
        let nodes = Pinned::new(&*cache);
        // A change that misses a node has not happened, so they are made one by one.
        for change in changes {
            let freed = loop {
                let layer = self.catalog.layer_mut(id);
                let changed = layer.write(|body| body.change(&nodes, std::slice::from_ref(change)));
                match changed {
                    Ok(freed) => break freed,
                    Err(missing) => self.read(missing).await?,
                }
            };
            self.book(freed, replayed)?;
        }
        Ok(())
    }

    /// Up to the recorded cursor, and further where a subtree behind it can be skipped whole.
    async fn sweep(&mut self, sweep: Sweep, upto: Option<u64>, replayed: &Replayed) -> Result<(), Error> {
        let reach = Reach { nodes_max: usize::MAX, runs_max: usize::MAX, upto: Some(upto) };
        let cache = self.cache.clone();
        let nodes = Pinned::new(&*cache);
        loop {
            let mut end = None;
            let swept = self.catalog.sweep(sweep, &nodes, &reach, |cursor| {
                end = Some(cursor);
                Ok::<(), std::convert::Infallible>(())
            });
            match swept {
                Ok(freed) => self.book(freed, replayed)?,
                Err(Stop::Missing(missing)) => {
                    self.read(missing).await?;
                    continue;
                }
                // An earlier record went further than it had to.
                Err(Stop::Gone) if self.catalog.try_layer(sweep.into).is_some() => return Ok(()),
                Err(stop) => {
                    return Err(Error::Damage(format!("a sweep of the journal cannot be done: {stop:?}")));
                }
            }
            match (end.flatten(), upto) {
                (Some(cursor), Some(upto)) if cursor < upto => {}
                (Some(_), None) => {}
                _ => return Ok(()),
            }
        }
    }

    async fn thin(
        &mut self,
        id: LayerId,
        from: u64,
        upto: Option<u64>,
        replayed: &Replayed,
    ) -> Result<(), Error> {
        if self.catalog.try_layer(id).is_none_or(|layer| !layer.sealed) {
            return Err(Error::Damage(format!("a record thins layer {}, which does not wait", id.0)));
        }
        let cache = self.cache.clone();
        let nodes = Pinned::new(&*cache);
        let mut at = Some(from);
        while let Some(cursor) = at.filter(|at| upto.is_none_or(|upto| *at < upto)) {
            match self.catalog.thin_beside(id, cursor, &nodes) {
                Ok(thinned) => {
                    at = thinned.upto;
                    let freed = self.catalog.take_thinned(id, thinned);
                    self.book(freed, replayed)?;
                }
                Err(missing) => self.read(missing).await?,
            }
        }
        Ok(())
    }

    async fn resize(&mut self, id: EntryId, size: u64, replayed: &Replayed) -> Result<(), Error> {
        let cache = self.cache.clone();
        let nodes = Pinned::new(&*cache);
        loop {
            match self.catalog.resize(id, size, &nodes, || Ok::<(), std::convert::Infallible>(())) {
                Ok(freed) => return self.book(freed, replayed),
                Err(Stop::Missing(missing)) => self.read(missing).await?,
                Err(_) => {
                    return Err(Error::Damage(format!(
                        "a record resizes entry {}, which does not exist",
                        id.0
                    )));
                }
            }
        }
    }

    async fn read(&mut self, Missing(pointer): Missing) -> Result<(), Error> {
        let page = self.io.read(pointer.address, 1, "reading a node").await?;
        self.cache.put(&pointer, Arc::new(Node::decode(&page, &pointer, self.id)?));
        Ok(())
    }

    fn grow(&mut self, blocks: u64) -> Result<(), Error> {
        let bytes = blocks.saturating_mul(BLOCK_BYTES_U64);
        if bytes > self.device_bytes {
            return Err(Error::Damage(format!(
                "the device has {} bytes, but the pool has grown to {bytes}: its end was cut off",
                self.device_bytes
            )));
        }
        self.geometry = self.geometry.grown(bytes).map_err(|error| Error::Damage(error.to_string()))?;
        self.groups.grow(&self.geometry);
        Ok(())
    }

    fn book(&mut self, freed: Freed, replayed: &Replayed) -> Result<(), Error> {
        for (address, length) in freed.data {
            let run = Run { address, length: BlockCount(u64::from(length)) };
            self.groups.try_free(run)?;
            if replayed.durable {
                self.groups.release(run);
            } else {
                self.quarantine.push_back(Quarantined { run, sequence: replayed.sequence });
            }
        }
        for address in freed.nodes {
            self.groups.try_free(Run::single(address))?;
            self.freed_nodes.push(address);
        }
        Ok(())
    }
}
