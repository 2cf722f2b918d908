//! Trees of records: get, put, remove, next, and the amendment of a record whose node already has its block.

use crate::edit::{Change, Merging};
use crate::node::{Body, Link};
use crate::page::RECORD_BYTES_MAX;
use crate::pointer::{Dropped, Missing};
use crate::record_leaf::{Record, RecordLeaf};
use crate::tree::{Nodes, Tree};
use crate::units::Tag;
use std::sync::Arc;

impl Tree<RecordLeaf> {
    /// The record under `key`.
    ///
    /// # Errors
    /// [`Missing`] when a node on the way is not resident.
    pub fn get(
        &self,
        nodes: &(impl Nodes<RecordLeaf> + ?Sized),
        key: u64,
    ) -> Result<Option<Vec<u8>>, Missing> {
        let spot = self.spot(nodes, key)?;
        Ok(spot.and_then(|spot| spot.leaf().get(key).map(|record| record.bytes.clone())))
    }

    /// The first record at or behind `from`.
    ///
    /// # Errors
    /// [`Missing`] when a node on the way is not resident.
    pub fn next(
        &self,
        nodes: &(impl Nodes<RecordLeaf> + ?Sized),
        from: u64,
    ) -> Result<Option<(u64, Vec<u8>)>, Missing> {
        let mut at = from;
        loop {
            let Some(spot) = self.spot(nodes, at)? else { return Ok(None) };
            if let Some(record) = spot.leaf().at_or_after(at) {
                return Ok(Some((record.key, record.bytes.clone())));
            }
            if spot.bound == u64::MAX {
                return Ok(None);
            }
            at = spot.bound;
        }
    }

    /// Stores a record, in place of one under the same key. Nodes on the way become the writer's even if the bytes
    /// are the same as before.
    ///
    /// # Errors
    /// [`Missing`] when a node is not resident; then nothing has changed.
    ///
    /// # Panics
    /// If the record is longer than [`RECORD_BYTES_MAX`], or its key is `u64::MAX`.
    pub fn put(
        &mut self,
        nodes: &(impl Nodes<RecordLeaf> + ?Sized),
        key: u64,
        bytes: &[u8],
        writer: Tag,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), Missing> {
        assert!(bytes.len() <= RECORD_BYTES_MAX, "a record has at most {RECORD_BYTES_MAX} bytes");
        assert!(key < u64::MAX, "the last key ends the key space");
        let change = Change { range: key..key + 1, writer, merging: Merging::Allowed };
        self.change(nodes, &change, Some(Record { key, bytes: bytes.to_vec() }), dropped)
    }

    /// Removes the record under `key`, if there is one.
    ///
    /// # Errors
    /// [`Missing`] when a node is not resident; then nothing has changed.
    pub fn remove(
        &mut self,
        nodes: &(impl Nodes<RecordLeaf> + ?Sized),
        key: u64,
        writer: Tag,
        dropped: &mut Vec<Dropped>,
    ) -> Result<(), Missing> {
        if key == u64::MAX {
            return Ok(());
        }
        self.change(nodes, &Change { range: key..key + 1, writer, merging: Merging::Allowed }, None, dropped)
    }

    /// Changes the bytes of a record, not their number, in a node that may already have its block but whose page has
    /// not been made: what a checkpoint learns only after all blocks are given out goes in this way.
    ///
    /// # Panics
    /// If there is no such record, or another tree shares its nodes, or their pages have been made.
    pub fn amend(&mut self, key: u64, change: &mut dyn FnMut(&mut [u8])) {
        let mut link = self.root.as_mut().expect("the record was put before it is amended");
        loop {
            let Link::Memory(node) = link else { panic!("the record was put since the last checkpoint") };
            let node = Arc::get_mut(node).expect("nobody shares the nodes of a record that is amended");
            assert!(!node.is_complete(), "a record is amended before its page is made");
            match &mut node.body {
                Body::Inner(inner) => {
                    let child = inner.child_of(key);
                    link = &mut inner.links[child];
                }
                Body::Leaf(leaf) => {
                    let record = leaf.get_mut(key).expect("the record was put before it is amended");
                    return change(&mut record.bytes);
                }
            }
        }
    }
}
