//! One layer of a check: its own nodes and data are its alone, everything else it reaches a direct dependency reaches.

use super::CheckReport;
use super::blocks::Blocks;
use super::moment::{IncomingMoment, LayerMoment, Moment};
use super::pace::Pace;
use crate::body::ExtentTree;
use crate::error::Error;
use crate::keeper::Desk;
use crate::keeper::reclaim::fetch;
use crate::ownership::{Interval, owns};
use cow_tree::units::LogicalBlock;
use cow_tree::{Ahead, ExtentLeaf, Mapping, Missing, Node, Walk};
use std::sync::Arc;

/// Which part of a tree is walked.
struct Part<'a> {
    tree: &'a ExtentTree,
    intervals: Vec<Interval>,
    /// Everything below it has been swept; nobody looks there any more.
    from: u64,
    /// The tree that has taken over what it contains, for a layer that is being absorbed.
    against: Option<&'a ExtentTree>,
    /// Whether what is not owned must be reached by a dependency.
    borrows: bool,
}

pub(super) async fn check(
    desk: &Desk,
    moment: &Moment,
    index: usize,
    pace: &mut Pace<'_>,
    blocks: &mut Blocks,
    report: &mut CheckReport,
) -> Result<(), Error> {
    let layer = &moment.layers[index];
    let mut checker = Checker { desk, moment, layer, blocks, report, owned: 0 };
    for part in parts(layer) {
        checker.walk(&part, pace).await?;
    }
    let owned = checker.owned;
    if owned != layer.owned {
        report.error(format!("{} owns {owned} blocks of data, its count says {}", layer.name, layer.owned));
    }
    Ok(())
}

fn parts(layer: &LayerMoment) -> Vec<Part<'_>> {
    let from = layer.freeing.unwrap_or(0);
    let mut own = layer.intervals.clone();
    own.extend(layer.incoming.iter().flat_map(|incoming| incoming.intervals.iter().copied()));
    let tree =
        Part { tree: &layer.tree, intervals: own, from, against: None, borrows: layer.freeing.is_none() };
    let is_open = |incoming: &&IncomingMoment| incoming.cursor.is_some();
    let incoming = layer.incoming.iter().filter(is_open).map(|incoming| Part {
        tree: &incoming.tree,
        intervals: incoming.intervals.clone(),
        from: incoming.cursor.unwrap_or(u64::MAX),
        against: Some(&layer.tree),
        borrows: false,
    });
    std::iter::once(tree).filter(|part| part.from != u64::MAX).chain(incoming).collect()
}

struct Checker<'a> {
    desk: &'a Desk,
    moment: &'a Moment,
    layer: &'a LayerMoment,
    blocks: &'a mut Blocks,
    report: &'a mut CheckReport,
    owned: u64,
}

impl Checker<'_> {
    async fn walk(&mut self, part: &Part<'_>, pace: &mut Pace<'_>) -> Result<(), Error> {
        let mut walk = Walk::new(part.tree);
        while let Some(place) = walk.peek() {
            pace.step(self.blocks.reached()).await?;
            if place.bound <= part.from {
                walk.skip();
                continue;
            }
            if !owns(&part.intervals, place.tag) {
                if part.borrows && !self.is_borrowed(&walk).await {
                    self.fault(&place, "reaches a node that no direct dependency reaches");
                }
                walk.skip();
                continue;
            }
            if place.low >= part.from && self.is_taken_over(&walk, part.against).await {
                walk.skip();
                continue;
            }
            self.enter(&mut walk, &place, part).await;
        }
        Ok(())
    }

    async fn enter(&mut self, walk: &mut Walk<ExtentLeaf>, place: &Ahead, part: &Part<'_>) {
        match walk.enter(&*self.desk.core.cache) {
            Ok(Some(visited)) => {
                visited.faults.iter().for_each(|fault| self.fault(place, &fault.to_string()));
                if let Some(address) = self.moment.address_of(&visited.node) {
                    let name = || self.layer.name.clone();
                    self.blocks.reach(address, 1, name, self.report);
                }
                self.leaf(&visited.node, part).await;
            }
            Ok(None) => {}
            Err(missing) => {
                if !self.fetched(missing).await {
                    walk.skip();
                }
            }
        }
    }

    async fn leaf(&mut self, node: &Arc<Node<ExtentLeaf>>, part: &Part<'_>) {
        let Some(leaf) = node.leaf() else { return };
        for mapping in leaf.mappings() {
            if owns(&part.intervals, mapping.tag) {
                self.own(&mapping, part).await;
            } else if part.borrows {
                self.foreign(&mapping).await;
            }
        }
    }

    /// Own data, or what of it the sweep has still to decide about.
    async fn own(&mut self, mapping: &Mapping, part: &Part<'_>) {
        let pieces = match part.against {
            None => vec![*mapping],
            Some(tree) => self.lacking(tree, mapping).await,
        };
        for piece in pieces {
            let Some(piece) = piece.within(LogicalBlock(part.from).max(piece.start), piece.end()) else {
                continue;
            };
            self.owned += u64::from(piece.length);
            let name = || self.layer.name.clone();
            self.blocks.reach(piece.address, u64::from(piece.length), name, self.report);
        }
    }

    async fn foreign(&mut self, mapping: &Mapping) {
        let mut pieces = vec![*mapping];
        for tree in self.moment.trees_of(&self.layer.deps) {
            let mut left = Vec::new();
            for piece in &pieces {
                left.extend(self.lacking(tree, piece).await);
            }
            pieces = left;
        }
        for piece in pieces {
            self.report.error(format!(
                "{} maps {} blocks from {} on to {}, which no direct dependency reaches (owner {})",
                self.layer.name, piece.length, piece.start, piece.address, piece.tag
            ));
        }
    }

    async fn lacking(&mut self, tree: &ExtentTree, mapping: &Mapping) -> Vec<Mapping> {
        loop {
            match tree.lacks(&*self.desk.core.cache, mapping) {
                Ok(lacking) => return lacking,
                Err(missing) if self.fetched(missing).await => {}
                Err(_) => return Vec::new(),
            }
        }
    }

    async fn is_borrowed(&mut self, walk: &Walk<ExtentLeaf>) -> bool {
        for tree in self.moment.trees_of(&self.layer.deps) {
            if self.is_in(walk, tree).await {
                return true;
            }
        }
        false
    }

    async fn is_taken_over(&mut self, walk: &Walk<ExtentLeaf>, against: Option<&ExtentTree>) -> bool {
        match against {
            Some(tree) => self.is_in(walk, tree).await,
            None => false,
        }
    }

    /// A tree that cannot be read has had its error; what it contains is not known, so it is taken for contained.
    async fn is_in(&mut self, walk: &Walk<ExtentLeaf>, tree: &ExtentTree) -> bool {
        loop {
            match walk.next_is_in(tree, &*self.desk.core.cache) {
                Ok(contained) => return contained,
                Err(missing) if self.fetched(missing).await => {}
                Err(_) => return true,
            }
        }
    }

    async fn fetched(&mut self, missing: Missing) -> bool {
        match fetch(self.desk, missing).await {
            Ok(()) => true,
            Err(error) => {
                let pointer = missing.0;
                self.report.error(format!(
                    "{}: the map from block {} on cannot be read: node {}: {error}",
                    self.layer.name, pointer.low, pointer.address
                ));
                false
            }
        }
    }

    fn fault(&mut self, place: &Ahead, what: &str) {
        let Ahead { low, tag, .. } = place;
        self.report.error(format!("{}: the map from block {low} on: {what} (owner {tag})", self.layer.name));
    }
}
