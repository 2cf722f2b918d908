//! What the tree asks of its leaves. Two kinds exist: runs of mapped blocks, and small records.

use crate::damage::Damage;
use crate::limits::Limits;
use crate::pointer::Dropped;
use std::fmt::Debug;
use std::ops::Range;

/// The entries of one leaf, in key order. Implemented by [`ExtentLeaf`](crate::ExtentLeaf) and
/// [`RecordLeaf`](crate::RecordLeaf); the methods are the tree's own business.
pub trait Leaf: Clone + Debug + Default + Send + Sync + 'static {
    /// What one change puts into the tree.
    type Item;
    /// Kind of tree, as its pages say.
    const KIND: u8;

    /// Number of entries.
    fn count(&self) -> usize;
    /// First key of a leaf that is not empty.
    fn low(&self) -> u64;
    /// Whether an entry lies in, or reaches into, `range`.
    fn touches(&self, range: &Range<u64>) -> bool;
    /// Removes whatever lies in `range`, reports data it removed, and puts `item` there.
    fn replace(&mut self, range: &Range<u64>, item: Option<Self::Item>, dropped: &mut Vec<Dropped>);
    /// Reports all data, because the whole leaf goes.
    fn report(&self, dropped: &mut Vec<Dropped>);
    /// Whether the leaf has to be split before it can be written.
    fn is_overfull(&self, limits: Limits) -> bool;
    /// Whether the leaf is less than half full.
    fn is_thin(&self, limits: Limits) -> bool;
    /// Whether `next` can be appended, with a little room left so that the next insert does not split again.
    fn takes(&self, next: &Self, limits: Limits) -> bool;
    /// Takes the upper part of an overfull leaf away.
    fn split(&mut self, limits: Limits) -> Self;
    /// Appends the entries of the leaf that follows.
    fn append(&mut self, next: Self);
    /// Writes the entries into the zeroed body of a page.
    fn encode(&self, body: &mut [u8]);
    /// Reads `count` entries of a leaf whose first key is `low`.
    ///
    /// # Errors
    /// Damage, for any bytes that no encode writes.
    fn decode(body: &[u8], count: usize, low: u64) -> Result<Self, Damage>;
}
