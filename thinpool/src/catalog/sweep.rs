//! Sweeping a layer that is absorbed or freed (rules 9 and 10), at run time and at replay.
//!
//! A sweep's look and its change happen under one lock of the absorbing layer, so that what that layer drops meanwhile
//! is either swept or judged by the cursor, never both and never neither. Its record names the cursor only. Replay runs
//! the sweep again over the trees it has made: which data goes is the same, because the maps are the same at that record;
//! which nodes go may differ, because merging depends on what was resident, but always fits replay's own trees.

use super::Catalog;
use crate::body::{ExtentTree, Freed, LayerBody};
use crate::ids::LayerId;
use crate::mutants::{self, Mutant};
use crate::ownership::{Interval, owns};
use cow_tree::units::{BlockAddress, Tag};
use cow_tree::{ExtentLeaf, Mapping, Missing, Nodes, Tree};

/// A layer on its way into another, or into nothing when both are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sweep {
    pub(crate) layer: LayerId,
    pub(crate) into: LayerId,
}

/// How far one call goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// Nodes looked at.
    pub(crate) nodes_max: usize,
    /// Runs of data freed.
    pub(crate) runs_max: usize,
    /// Replay: up to this cursor, `None` being the end.
    pub(crate) upto: Option<Option<u64>>,
}

/// Why nothing was swept.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    Missing(Missing),
    /// The dying tree has nodes in memory: nodes below the cursor would get blocks nobody frees.
    NotStored,
    /// There is no such sweep.
    Gone,
    Refused(E),
}

#[derive(Debug, Default)]
struct Found {
    data: Vec<Mapping>,
    nodes: Vec<BlockAddress>,
    cursor: Option<u64>,
}

impl Catalog {
    /// Sweeps a few nodes. `stage` records the new cursor before anything changes, and may refuse.
    pub(crate) fn sweep<E>(
        &mut self,
        sweep: Sweep,
        nodes: &impl Nodes<ExtentLeaf>,
        reach: &Reach,
        stage: impl FnOnce(Option<u64>) -> Result<(), E>,
    ) -> Result<Freed, Stop<E>> {
        let follower = self.follower(sweep.into);
        let freeing = self.try_layer(sweep.into).ok_or(Stop::Gone)?.freeing;
        let cursor = self.layer_mut(sweep.into).write(|body| {
            let found = look(body, sweep, freeing, follower.as_ref(), nodes, reach)?;
            stage(found.cursor).map_err(Stop::Refused)?;
            Ok((found.cursor, change(body, sweep, found)))
        });
        let (cursor, freed) = cursor?;
        if sweep.layer == sweep.into {
            self.layer_mut(sweep.layer).freeing = Some(cursor.unwrap_or(u64::MAX));
        }
        Ok(freed)
    }

    /// Mutant: the tree of the live layer that follows a sealed one.
    fn follower(&self, into: LayerId) -> Option<ExtentTree> {
        if !mutants::active(Mutant::SweepFollowsLive) {
            return None;
        }
        let next = self.dependents(into).next()?;
        Some(self.layer(next).read(|body| body.tree.fork()))
    }
}

fn look<E>(
    body: &LayerBody,
    sweep: Sweep,
    freeing: Option<u64>,
    follower: Option<&ExtentTree>,
    nodes: &impl Nodes<ExtentLeaf>,
    reach: &Reach,
) -> Result<Found, Stop<E>> {
    if sweep.layer == sweep.into {
        let cursor = freeing.filter(|cursor| *cursor != u64::MAX).ok_or(Stop::Gone)?;
        return steps(&body.tree, None, &body.ownership.intervals, cursor, nodes, reach);
    }
    let mark = body.ownership.incoming.iter().find(|mark| mark.layer == sweep.layer).ok_or(Stop::Gone)?;
    let tree = body.incoming.get(&sweep.layer).expect("every incoming mark has its tree");
    let against = follower.unwrap_or(&body.tree);
    steps(tree, Some(against), &mark.intervals, mark.cursor.ok_or(Stop::Gone)?, nodes, reach)
}

fn steps<E>(
    tree: &ExtentTree,
    against: Option<&ExtentTree>,
    intervals: &[Interval],
    cursor: u64,
    nodes: &impl Nodes<ExtentLeaf>,
    reach: &Reach,
) -> Result<Found, Stop<E>> {
    if !tree.is_stored() {
        return Err(Stop::NotStored);
    }
    let mut found = Found { cursor: Some(cursor), ..Found::default() };
    for step in 0..reach.nodes_max {
        let Some(cursor) = found.cursor else { break };
        if found.data.len() >= reach.runs_max || reach.is_reached(cursor) {
            break;
        }
        match Tree::sweep(tree, against, nodes, cursor, &|tag: Tag| owns(intervals, tag)) {
            Ok(next) => {
                found.data.extend(next.data);
                found.nodes.extend(next.nodes.iter().map(|pointer| pointer.address));
                found.cursor = next.cursor;
            }
            Err(missing) if step == 0 => return Err(Stop::Missing(missing)),
            // What was found so far is a step of its own.
            Err(_) => break,
        }
    }
    Ok(found)
}

impl Reach {
    fn is_reached(&self, cursor: u64) -> bool {
        matches!(self.upto, Some(Some(upto)) if cursor >= upto)
    }
}

fn change(body: &mut LayerBody, sweep: Sweep, found: Found) -> Freed {
    found.data.iter().for_each(|mapping| body.swept(mapping.tag, mapping.length));
    if let Some(mark) = body.ownership.incoming.iter_mut().find(|mark| mark.layer == sweep.layer) {
        mark.cursor = found.cursor;
    }
    body.dirty = true;
    Freed {
        data: found.data.iter().map(|mapping| (mapping.address, mapping.length)).collect(),
        nodes: found.nodes,
    }
}
