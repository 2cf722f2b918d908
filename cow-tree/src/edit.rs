//! One change of a tree: everything in a range of keys goes, and at most one item comes in its place.
//!
//! The recursion makes every node on its way the writer's own: changed in place if it already is (T3), copied
//! otherwise, and what the copy replaces is reported if it has a block. By the time a node is changed, everything the
//! change must read has been found resident and is pinned (T8); a neighbour that is not resident is not merged with.

use crate::descend::{Held, touches};
use crate::leaf::Leaf;
use crate::limits::Limits;
use crate::node::{Body, Inner, Link, Node};
use crate::pinned::Pinned;
use crate::pointer::{Dropped, Missing, Pointer};
use crate::tree::{Nodes, Tree};
use crate::units::Tag;
use std::ops::Range;
use std::sync::Arc;

/// Whether thin nodes are merged with their neighbours on the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merging {
    Allowed,
    /// A neighbour may be shared with whoever depends on this layer (ownership rule 14).
    Never,
}

/// A change, and who makes it.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) range: Range<u64>,
    pub(crate) writer: Tag,
    pub(crate) merging: Merging,
}

/// What became of an edited node.
enum Outcome<L> {
    Kept,
    /// It lost entries and is less than half full.
    Thin,
    Gone,
    /// It is still there, followed by these.
    Split(Vec<Link<L>>),
}

struct Edit<'a, N: ?Sized> {
    nodes: &'a N,
    change: &'a Change,
    limits: Limits,
    dropped: &'a mut Vec<Dropped>,
    created: u64,
}

impl<L: Leaf> Tree<L> {
    /// Upper bound of the nodes that a change looking at `visits` nodes can make: those copied, at each level of
    /// both edges of the range two neighbours merged with and one split, and a new root.
    pub(crate) fn made_at_most(&self, visits: usize) -> usize {
        visits + 5 * self.height() + 3
    }

    /// Makes the change, or nothing at all.
    pub(crate) fn change(
        &mut self,
        nodes: &(impl Nodes<L> + ?Sized),
        change: &Change,
        item: Option<L::Item>,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), Missing> {
        let nodes = Pinned::new(nodes);
        let survey = self.survey(&nodes, &change.range)?;
        if item.is_none() && !survey.touched {
            return Ok(());
        }
        let mut edit = Edit { nodes: &nodes, change, limits: self.limits, dropped, created: 0 };
        self.root = match self.root.take() {
            None => Some(edit.first_leaf(item)),
            Some(root) => edit.root(root, item),
        };
        self.created += edit.created;
        debug_assert!(edit.created <= u64::try_from(self.made_at_most(survey.visits)).unwrap_or(u64::MAX));
        Ok(())
    }
}

impl<N: ?Sized> Edit<'_, N> {
    fn first_leaf<L: Leaf>(&mut self, item: Option<L::Item>) -> Link<L> {
        let mut leaf = L::default();
        leaf.replace(&self.change.range, item, self.dropped);
        self.made(Body::Leaf(leaf))
    }

    fn made<L: Leaf>(&mut self, body: Body<L>) -> Link<L> {
        self.created += 1;
        Link::Memory(Arc::new(Node::new(self.change.writer, body)))
    }

    fn report(&mut self, pointer: Option<Pointer>) {
        self.dropped.extend(pointer.map(Dropped::Node));
    }

    fn root<L: Leaf>(&mut self, mut root: Link<L>, item: Option<L::Item>) -> Option<Link<L>>
    where
        N: Nodes<L>,
    {
        match self.edit(&mut root, item) {
            Outcome::Gone => None,
            Outcome::Kept | Outcome::Thin => Some(self.collapsed(root)),
            Outcome::Split(more) => {
                let mut links = vec![root];
                links.extend(more);
                while links.len() > 1 {
                    links = self.level_above(links);
                }
                links.pop()
            }
        }
    }

    /// Inner nodes over `links`, as few as hold them.
    fn level_above<L: Leaf>(&mut self, mut links: Vec<Link<L>>) -> Vec<Link<L>> {
        let level = links[0].level() + 1;
        let size = links.len().div_ceil(links.len().div_ceil(self.limits.inner()));
        let mut above = Vec::new();
        while !links.is_empty() {
            let rest = links.split_off(size.min(links.len()));
            above.push(self.made(Body::Inner(Inner::of(level, links))));
            links = rest;
        }
        above
    }

    /// A root of the writer's own with a single child gives way to it. A root with a home stays: whether its block
    /// may be given up was not asked.
    fn collapsed<L: Leaf>(&mut self, mut root: Link<L>) -> Link<L> {
        loop {
            let child = match &root {
                Link::Memory(node) if !node.has_home() => match &node.body {
                    Body::Inner(inner) if inner.links.len() == 1 => inner.links[0].clone(),
                    _ => return root,
                },
                _ => return root,
            };
            root = child;
        }
    }

    fn edit<L: Leaf>(&mut self, link: &mut Link<L>, item: Option<L::Item>) -> Outcome<L>
    where
        N: Nodes<L>,
    {
        match &mut self.own(link).body {
            Body::Leaf(leaf) => self.edit_leaf(leaf, item),
            Body::Inner(inner) => self.edit_inner(inner, item),
        }
    }

    fn edit_leaf<L: Leaf>(&mut self, leaf: &mut L, item: Option<L::Item>) -> Outcome<L> {
        let before = leaf.count();
        leaf.replace(&self.change.range, item, self.dropped);
        if leaf.count() == 0 {
            return Outcome::Gone;
        }
        if leaf.is_overfull(self.limits) {
            let mut more = Vec::new();
            self.split_leaf(leaf, &mut more);
            return Outcome::Split(more);
        }
        if leaf.count() < before && leaf.is_thin(self.limits) { Outcome::Thin } else { Outcome::Kept }
    }

    fn split_leaf<L: Leaf>(&mut self, leaf: &mut L, more: &mut Vec<Link<L>>) {
        if !leaf.is_overfull(self.limits) {
            return;
        }
        let mut upper = leaf.split(self.limits);
        self.split_leaf(leaf, more);
        let mut above = Vec::new();
        self.split_leaf(&mut upper, &mut above);
        more.push(self.made(Body::Leaf(upper)));
        more.append(&mut above);
    }

    /// The last child first, so that indices below it hold; what lies between the two edges goes whole.
    fn edit_inner<L: Leaf>(&mut self, inner: &mut Inner<L>, item: Option<L::Item>) -> Outcome<L>
    where
        N: Nodes<L>,
    {
        let before = inner.links.len();
        let range = &self.change.range;
        let (first, last) = (inner.child_of(range.start), inner.child_of(range.end - 1));
        let mut last_is_thin = false;
        if first < last {
            let outcome = self.edit(&mut inner.links[last], None);
            last_is_thin = inner.apply(last, outcome);
            inner.lows.drain(first + 1..last);
            for link in inner.links.drain(first + 1..last) {
                self.discard(&link);
            }
        }
        let behind = inner.links.len() - first;
        let mut first_is_thin = false;
        if item.is_some() || self.touches(&inner.links[first]) {
            let outcome = self.edit(&mut inner.links[first], item);
            first_is_thin = inner.apply(first, outcome);
        }
        if self.change.merging == Merging::Allowed {
            if last_is_thin {
                self.merge(inner, inner.links.len() + 1 - behind);
            }
            if first_is_thin {
                self.merge(inner, first);
            }
        }
        self.outcome_of(inner, before)
    }

    fn touches<L: Leaf>(&self, link: &Link<L>) -> bool
    where
        N: Nodes<L>,
    {
        touches(link, self.nodes, &self.change.range)
            .expect("the survey found every node of the range resident")
    }

    fn outcome_of<L: Leaf>(&mut self, inner: &mut Inner<L>, before: usize) -> Outcome<L> {
        let (count, max) = (inner.links.len(), self.limits.inner());
        if count == 0 {
            return Outcome::Gone;
        }
        if count <= max {
            return if count < before && count * 2 < max { Outcome::Thin } else { Outcome::Kept };
        }
        let size = count.div_ceil(count.div_ceil(max));
        let mut more = Vec::new();
        while inner.links.len() > size {
            let from = inner.links.len() - size.min(inner.links.len() - size);
            let (lows, links) = (inner.lows.split_off(from), inner.links.split_off(from));
            more.push(self.made(Body::Inner(Inner { level: inner.level, lows, links })));
        }
        more.reverse();
        Outcome::Split(more)
    }

    /// Merges the thin child with a neighbour, if one is resident and both fit one node.
    fn merge<L: Leaf>(&mut self, inner: &mut Inner<L>, thin: usize)
    where
        N: Nodes<L>,
    {
        let left = [Some(thin), thin.checked_sub(1)].into_iter().flatten().find(|left| {
            inner.links.len() > left + 1 && self.fit(&inner.links[*left], &inner.links[left + 1])
        });
        let Some(left) = left else { return };
        let right = inner.links.remove(left + 1);
        inner.lows.remove(left + 1);
        let right = self.taken(right);
        match (&mut self.own(&mut inner.links[left]).body, right) {
            (Body::Leaf(left), Body::Leaf(right)) => left.append(right),
            (Body::Inner(left), Body::Inner(mut right)) => {
                left.lows.append(&mut right.lows);
                left.links.append(&mut right.links);
            }
            _ => unreachable!("children of one node have one level"),
        }
    }

    fn fit<L: Leaf>(&self, left: &Link<L>, right: &Link<L>) -> bool
    where
        N: Nodes<L>,
    {
        let (Ok(left), Ok(right)) = (Held::of(left, self.nodes), Held::of(right, self.nodes)) else {
            return false;
        };
        match (&left.body, &right.body) {
            (Body::Leaf(left), Body::Leaf(right)) => left.takes(right, self.limits),
            (Body::Inner(left), Body::Inner(right)) => {
                let max = self.limits.inner();
                left.links.len() + right.links.len() <= max - max / 8
            }
            _ => false,
        }
    }

    /// The content of a node that goes.
    fn taken<L: Leaf>(&mut self, link: Link<L>) -> Body<L>
    where
        N: Nodes<L>,
    {
        self.report(link.pointer());
        match link {
            Link::Memory(node) => {
                Arc::try_unwrap(node).map_or_else(|node| node.body.clone(), |node| node.body)
            }
            Link::Stored(pointer) => self.resident(&pointer).body.clone(),
        }
    }

    /// A whole subtree goes.
    fn discard<L: Leaf>(&mut self, link: &Link<L>)
    where
        N: Nodes<L>,
    {
        self.report(link.pointer());
        let node = Held::of(link, self.nodes).expect("the survey found every node of the range resident");
        match &node.body {
            Body::Leaf(leaf) => leaf.report(self.dropped),
            Body::Inner(inner) => inner.links.iter().for_each(|link| self.discard(link)),
        }
    }

    fn resident<L>(&self, pointer: &Pointer) -> Arc<Node<L>>
    where
        N: Nodes<L>,
    {
        self.nodes.get(pointer).expect("the survey found the node resident and pinned it")
    }

    /// The node as one the writer may change in place (T3).
    fn own<'l, L: Leaf>(&mut self, link: &'l mut Link<L>) -> &'l mut Node<L>
    where
        N: Nodes<L>,
    {
        if !self.is_own(link) {
            let body = match &*link {
                Link::Stored(pointer) => self.resident(pointer).body.clone(),
                Link::Memory(node) => node.body.clone(),
            };
            self.report(link.pointer());
            *link = self.made(body);
        }
        match link {
            Link::Memory(node) => Arc::get_mut(node).expect("nobody else links to the writer's own node"),
            Link::Stored(_) => unreachable!("an own node is in memory"),
        }
    }

    fn is_own<L: Leaf>(&self, link: &Link<L>) -> bool {
        match link {
            Link::Stored(_) => false,
            Link::Memory(node) => {
                !node.has_home() && node.tag == self.change.writer && Arc::strong_count(node) == 1
            }
        }
    }
}

impl<L: Leaf> Inner<L> {
    /// Takes over what became of a child; whether the child is thin now.
    fn apply(&mut self, child: usize, outcome: Outcome<L>) -> bool {
        if let Outcome::Gone = outcome {
            self.lows.remove(child);
            self.links.remove(child);
            return false;
        }
        self.lows[child] = self.links[child].low();
        let is_thin = matches!(outcome, Outcome::Thin);
        if let Outcome::Split(more) = outcome {
            self.lows.splice(child + 1..child + 1, more.iter().map(Link::low));
            self.links.splice(child + 1..child + 1, more);
        }
        is_thin
    }
}
