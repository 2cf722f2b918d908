//! The contents of a simulated medium: a value that is cheap to clone and to change.
//!
//! Pages of 4 KiB hang in leaves of thirty-two, leaves in a sorted list, each behind a counted pointer; a clone copies
//! one pointer, a change copies what leads to the page. Pages of zeros are not there, so a disk costs what was
//! written to it. The hash is a sum over pages and is kept up to date by every change.

use super::page::{PAGE_BYTES, PAGE_BYTES_U64, Page, PageBytes, SECTOR_BYTES_U64, mix};
use crate::legality::{bytes, memory};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

const LEAF_PAGES: usize = 32;
const LEAF_PAGES_U64: u64 = 32;

type Leaf = [Option<Arc<Page>>; LEAF_PAGES];

/// What is on a simulated medium at one moment.
#[derive(Clone)]
pub struct SimulatedDisk {
    /// Bytes, a multiple of 512.
    size: u64,
    /// Number of the leaf and the leaf; ascending, none of them empty.
    leaves: Arc<Vec<(u64, Arc<Leaf>)>>,
    /// Sum over all pages of what they add to the hash.
    sum: u128,
    pages: usize,
}

impl SimulatedDisk {
    /// A disk of zeros; `size` is in bytes and a multiple of 512.
    #[must_use]
    pub fn new(size: u64) -> Self {
        assert!(size.is_multiple_of(SECTOR_BYTES_U64), "a simulated disk has whole sectors");
        Self { size, leaves: Arc::default(), sum: 0, pages: 0 }
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A hash of size and contents: the same for the same bytes, however they came about, in every run.
    #[must_use]
    pub fn hash(&self) -> u128 {
        mix(self.sum, self.size)
    }

    /// A hash of one page of 4 KiB and of its number; 0 when it holds zeros.
    #[must_use]
    pub fn page_hash(&self, page: u64) -> u128 {
        self.page(page).map_or(0, |contents| contents.share(page))
    }

    /// How many pages of 4 KiB hold anything but zeros: what the disk costs.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Numbers of the pages of 4 KiB that hold anything but zeros, ascending.
    pub fn written_pages(&self) -> impl Iterator<Item = u64> {
        self.leaves.iter().flat_map(|(number, leaf)| {
            let start = number * LEAF_PAGES_U64;
            (start..).zip(leaf.iter()).filter_map(|(index, page)| page.is_some().then_some(index))
        })
    }

    /// Fills the buffer from any byte offset. Panics behind the end.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        self.assert_inside(offset, bytes(buffer.len()));
        for piece in pieces(offset, bytes(buffer.len())) {
            let target = &mut buffer[piece.outside];
            match self.page(piece.page) {
                Some(page) => target.copy_from_slice(&page.bytes[piece.inside]),
                None => target.fill(0),
            }
        }
    }

    /// Stores bytes at any byte offset. Panics behind the end.
    pub fn write(&mut self, offset: u64, from: &[u8]) {
        self.assert_inside(offset, bytes(from.len()));
        for piece in pieces(offset, bytes(from.len())) {
            self.edit(piece.page, |page| page[piece.inside].copy_from_slice(&from[piece.outside]));
        }
    }

    /// Makes a range zeros. Panics behind the end.
    pub fn zero(&mut self, offset: u64, length: u64) {
        self.assert_inside(offset, length);
        let touched = offset / PAGE_BYTES_U64..(offset + length).div_ceil(PAGE_BYTES_U64);
        let written: Vec<u64> = self.written_pages().filter(|index| touched.contains(index)).collect();
        for index in written {
            let start = index * PAGE_BYTES_U64;
            let inside =
                memory(offset.saturating_sub(start))..memory((offset + length - start).min(PAGE_BYTES_U64));
            self.edit(index, |page| page[inside].fill(0));
        }
    }

    /// Cuts off what is behind `length`, or adds zeros; `length` is in bytes and a multiple of 512.
    pub fn resize(&mut self, length: u64) {
        assert!(length.is_multiple_of(SECTOR_BYTES_U64), "a simulated disk has whole sectors");
        if length < self.size {
            self.zero(length, self.size - length);
        }
        self.size = length;
    }

    /// Numbers of the pages of 4 KiB whose contents the two do not share, ascending.
    #[must_use]
    pub fn differing_pages(&self, other: &Self) -> Vec<u64> {
        let mut indexes: Vec<u64> = self.written_pages().chain(other.written_pages()).collect();
        indexes.sort_unstable();
        indexes.dedup();
        indexes.retain(|index| self.contents(*index) != other.contents(*index));
        indexes
    }

    pub(super) fn page(&self, index: u64) -> Option<&Arc<Page>> {
        let at = self.find(index / LEAF_PAGES_U64).ok()?;
        self.leaves[at].1[place(index)].as_ref()
    }

    /// Makes `page` page `index`; `None` is a page of zeros.
    pub(super) fn put(&mut self, index: u64, page: Option<Arc<Page>>) {
        let share = |page: &Option<Arc<Page>>| page.as_ref().map_or(0, |page| page.share(index));
        let added = share(&page);
        let number = index / LEAF_PAGES_U64;
        let at = match self.find(number) {
            Ok(at) => at,
            Err(_) if page.is_none() => return,
            Err(at) => {
                Arc::make_mut(&mut self.leaves).insert(at, (number, Arc::default()));
                at
            }
        };
        let leaf = Arc::make_mut(&mut Arc::make_mut(&mut self.leaves)[at].1);
        self.pages += usize::from(page.is_some());
        let old = std::mem::replace(&mut leaf[place(index)], page);
        self.pages -= usize::from(old.is_some());
        self.sum = self.sum.wrapping_sub(share(&old)).wrapping_add(added);
        if leaf.iter().all(Option::is_none) {
            Arc::make_mut(&mut self.leaves).remove(at);
        }
    }

    /// The bytes of a page, copied.
    pub(super) fn contents(&self, index: u64) -> PageBytes {
        self.page(index).map_or([0; PAGE_BYTES], |page| page.bytes)
    }

    /// Changes some bytes of a page.
    pub(super) fn edit(&mut self, index: u64, change: impl FnOnce(&mut PageBytes)) {
        let mut page = self.contents(index);
        change(&mut page);
        self.put(index, Page::new(page));
    }

    fn find(&self, number: u64) -> Result<usize, usize> {
        self.leaves.binary_search_by_key(&number, |(number, _)| *number)
    }

    fn assert_inside(&self, offset: u64, length: u64) {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.size), "{length} bytes at {offset} are not on the disk");
    }
}

impl PartialEq for SimulatedDisk {
    /// Same size, same bytes.
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && self.differing_pages(other).is_empty()
    }
}

impl Eq for SimulatedDisk {}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SimulatedDisk({} bytes, {} pages, {:032x})", self.size, self.pages, self.hash())
    }
}

/// The part of a range that lies in one page.
struct Piece {
    page: u64,
    inside: Range<usize>,
    /// Where these bytes are in the caller's slice.
    outside: Range<usize>,
}

fn pieces(offset: u64, length: u64) -> impl Iterator<Item = Piece> {
    let end = offset + length;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let page = at / PAGE_BYTES_U64;
        let start = at - page * PAGE_BYTES_U64;
        let count = (PAGE_BYTES_U64 - start).min(end - at);
        let done = at - offset;
        at += count;
        Some(Piece {
            page,
            inside: memory(start)..memory(start + count),
            outside: memory(done)..memory(done + count),
        })
    })
}

fn place(index: u64) -> usize {
    memory(index % LEAF_PAGES_U64)
}
