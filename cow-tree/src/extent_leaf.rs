//! A leaf of extents. Keys lie together, apart from what they map to, for the search (`search.rs`).
//!
//! Extents of one leaf never overlap, and neighbours that continue each other logically and physically with the same
//! owner and flags are one extent (T6). The page stores keys of 32 bits relative to the first one; keys further apart
//! than that (16 TiB) never share a leaf.

use crate::damage::Damage;
use crate::leaf::Leaf;
use crate::limits::Limits;
use crate::page::{EXTENT_KEY_BYTES, EXTENT_VALUE_BYTES, EXTENTS_MAX, put, word32, word64};
use crate::pointer::{Dropped, Mapping};
use crate::search::count_up_to;
use crate::units::{BLOCK_ADDRESS_BITS, BlockAddress, LogicalBlock, Tag};
use std::ops::Range;

const FLAG_CHECKSUMMED: u64 = 1;
const ADDRESS_MASK: u64 = (1 << BLOCK_ADDRESS_BITS) - 1;

/// What a key maps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    address: BlockAddress,
    length: u32,
    tag: Tag,
    checksummed: bool,
}

/// Leaf of a tree that maps logical to physical blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtentLeaf {
    keys: Vec<u64>,
    extents: Vec<Extent>,
}

impl ExtentLeaf {
    pub(crate) fn mapping(&self, index: usize) -> Mapping {
        let extent = &self.extents[index];
        Mapping {
            start: LogicalBlock(self.keys[index]),
            length: extent.length,
            address: extent.address,
            tag: extent.tag,
            checksummed: extent.checksummed,
        }
    }

    /// All extents, in order.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping> + '_ {
        (0..self.keys.len()).map(|index| self.mapping(index))
    }

    /// Index of the first extent that starts behind `at`.
    pub(crate) fn after(&self, at: u64) -> usize {
        count_up_to(&self.keys, at)
    }

    pub(crate) fn get(&self, index: usize) -> Option<Mapping> {
        (index < self.keys.len()).then(|| self.mapping(index))
    }

    fn end(&self, index: usize) -> u64 {
        self.keys[index] + u64::from(self.extents[index].length)
    }

    /// Indices of the extents that lie in, or reach into, `range`.
    fn overlap(&self, range: &Range<u64>) -> Range<usize> {
        let mut first = range.start.checked_sub(1).map_or(0, |before| self.after(before));
        if first > 0 && self.end(first - 1) > range.start {
            first -= 1;
        }
        let rest = &self.keys[first..];
        first..first + rest.iter().take_while(|key| **key < range.end).count()
    }

    fn put(&mut self, at: Range<usize>, new: &[Mapping]) {
        if let ([only], 1) = (new, at.len()) {
            self.keys[at.start] = only.start.0;
            self.extents[at.start] = Extent::from(only);
            return;
        }
        self.keys.splice(at.clone(), new.iter().map(|mapping| mapping.start.0));
        self.extents.splice(at, new.iter().map(Extent::from));
    }

    /// Where the upper part begins when the leaf is split.
    fn cut(&self, limits: Limits) -> usize {
        let near = self.keys.partition_point(|key| key - self.keys[0] <= u64::from(u32::MAX));
        if near < self.keys.len() && near <= extents_max(limits) { near } else { self.keys.len() / 2 }
    }
}

impl From<&Mapping> for Extent {
    fn from(mapping: &Mapping) -> Self {
        Self {
            address: mapping.address,
            length: mapping.length,
            tag: mapping.tag,
            checksummed: mapping.checksummed,
        }
    }
}

/// Adds `next` behind the mappings collected so far, joining it to the last one where it continues it.
fn push_joined(new: &mut Pieces, next: Mapping) {
    if let Some(last) = new.last_mut()
        && last.is_continued_by(&next)
    {
        last.length += next.length;
        return;
    }
    new.push(next);
}

/// Up to five mappings: a neighbour, the rest of a cut extent, the new one, another rest, another neighbour.
#[derive(Debug)]
struct Pieces {
    list: [Mapping; 5],
    count: usize,
}

impl Pieces {
    fn new() -> Self {
        let none = Mapping {
            start: LogicalBlock(0),
            length: 0,
            address: BlockAddress(0),
            tag: Tag::default(),
            checksummed: false,
        };
        Self { list: [none; 5], count: 0 }
    }

    fn push(&mut self, mapping: Mapping) {
        self.list[self.count] = mapping;
        self.count += 1;
    }

    fn last_mut(&mut self) -> Option<&mut Mapping> {
        self.list[..self.count].last_mut()
    }

    fn as_slice(&self) -> &[Mapping] {
        &self.list[..self.count]
    }
}

fn extents_max(limits: Limits) -> usize {
    limits.leaf().min(EXTENTS_MAX)
}

impl Leaf for ExtentLeaf {
    type Item = Mapping;
    const KIND: u8 = 1;

    fn count(&self) -> usize {
        self.keys.len()
    }

    fn low(&self) -> u64 {
        self.keys[0]
    }

    fn touches(&self, range: &Range<u64>) -> bool {
        !self.overlap(range).is_empty()
    }

    fn replace(&mut self, range: &Range<u64>, item: Option<Mapping>, dropped: &mut Vec<Dropped>) {
        let (from, to) = (LogicalBlock(range.start), LogicalBlock(range.end));
        let mut over = self.overlap(range);
        if item.is_none() && over.is_empty() {
            return;
        }
        let (mut before, mut after) = (None, None);
        for index in over.clone() {
            let old = self.mapping(index);
            dropped.extend(old.within(from, to).map(Dropped::Data));
            before = before.or(old.within(LogicalBlock(0), from));
            after = old.within(to, old.end()).or(after);
        }
        let mut new = Pieces::new();
        if item.is_some() && before.is_none() && over.start > 0 {
            over.start -= 1;
            before = Some(self.mapping(over.start));
        }
        if item.is_some() && after.is_none() && over.end < self.keys.len() {
            after = Some(self.mapping(over.end));
            over.end += 1;
        }
        before.into_iter().chain(item).chain(after).for_each(|mapping| push_joined(&mut new, mapping));
        self.put(over, new.as_slice());
    }

    fn report(&self, dropped: &mut Vec<Dropped>) {
        dropped.extend(self.mappings().map(Dropped::Data));
    }

    fn is_overfull(&self, limits: Limits) -> bool {
        let count = self.keys.len();
        count > extents_max(limits)
            || (count > 0 && self.keys[count - 1] - self.keys[0] > u64::from(u32::MAX))
    }

    fn is_thin(&self, limits: Limits) -> bool {
        self.keys.len() * 2 < extents_max(limits)
    }

    fn takes(&self, next: &Self, limits: Limits) -> bool {
        let max = extents_max(limits);
        let near = match (self.keys.first(), next.keys.last()) {
            (Some(first), Some(last)) => last - first <= u64::from(u32::MAX),
            _ => true,
        };
        near && self.keys.len() + next.keys.len() <= max - max / 8
    }

    fn split(&mut self, limits: Limits) -> Self {
        let cut = self.cut(limits);
        Self { keys: self.keys.split_off(cut), extents: self.extents.split_off(cut) }
    }

    fn append(&mut self, mut next: Self) {
        let seam = self.keys.len();
        self.keys.append(&mut next.keys);
        self.extents.append(&mut next.extents);
        if seam > 0 && seam < self.keys.len() && self.mapping(seam - 1).is_continued_by(&self.mapping(seam)) {
            self.extents[seam - 1].length += self.extents[seam].length;
            self.keys.remove(seam);
            self.extents.remove(seam);
        }
    }

    fn encode(&self, body: &mut [u8]) {
        let (keys, values) = body.split_at_mut(self.keys.len() * EXTENT_KEY_BYTES);
        for (slot, key) in keys.chunks_exact_mut(EXTENT_KEY_BYTES).zip(&self.keys) {
            let relative =
                u32::try_from(key - self.keys[0]).expect("a leaf is split before its keys are too far apart");
            put(slot, 0, &relative.to_le_bytes());
        }
        for (slot, extent) in values.chunks_exact_mut(EXTENT_VALUE_BYTES).zip(&self.extents) {
            let flags = if extent.checksummed { FLAG_CHECKSUMMED } else { 0 };
            put(slot, 0, &extent.length.to_le_bytes());
            put(slot, 4, &(extent.address.0 | flags << BLOCK_ADDRESS_BITS).to_le_bytes());
            put(slot, 12, &extent.tag.line.to_le_bytes());
            put(slot, 16, &extent.tag.sequence.to_le_bytes());
        }
    }

    fn decode(body: &[u8], count: usize, low: u64) -> Result<Self, Damage> {
        if count == 0 || count > EXTENTS_MAX {
            return Err(Damage::Count(count));
        }
        let (keys, rest) = body.split_at(count * EXTENT_KEY_BYTES);
        let (values, padding) = rest.split_at(count * EXTENT_VALUE_BYTES);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Damage::Padding);
        }
        let mut leaf = Self { keys: Vec::with_capacity(count), extents: Vec::with_capacity(count) };
        let mut free_from = low;
        for (index, (key, value)) in
            keys.chunks_exact(EXTENT_KEY_BYTES).zip(values.chunks_exact(EXTENT_VALUE_BYTES)).enumerate()
        {
            let relative = word32(key, 0);
            if (index == 0) != (relative == 0) {
                return Err(Damage::Order(index));
            }
            let key = low.checked_add(u64::from(relative)).ok_or(Damage::Range(index))?;
            if leaf.keys.last().is_some_and(|last| *last >= key) {
                return Err(Damage::Order(index));
            }
            let extent = decode_extent(value, index)?;
            let end = key.checked_add(u64::from(extent.length)).ok_or(Damage::Range(index))?;
            if key < free_from || extent.length == 0 {
                return Err(Damage::Range(index.saturating_sub(1)));
            }
            free_from = end;
            leaf.keys.push(key);
            leaf.extents.push(extent);
        }
        Ok(leaf)
    }
}

fn decode_extent(value: &[u8], index: usize) -> Result<Extent, Damage> {
    let (length, packed) = (word32(value, 0), word64(value, 4));
    let flags = packed >> BLOCK_ADDRESS_BITS;
    if flags & !FLAG_CHECKSUMMED != 0 {
        return Err(Damage::Flags(index));
    }
    let address = BlockAddress(packed & ADDRESS_MASK);
    if !address.can_hold(u64::from(length)) {
        return Err(Damage::Target(index));
    }
    let tag = Tag { line: word32(value, 12), sequence: word32(value, 16) };
    Ok(Extent { address, length, tag, checksummed: flags & FLAG_CHECKSUMMED != 0 })
}
