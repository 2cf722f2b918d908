//! One page of a simulated disk: bytes that never change, and their hash. Zero pages do not exist.

use crate::buffer::is_zero;
use std::fmt;
use std::sync::Arc;

pub(super) const PAGE_BYTES: usize = 4096;
pub(super) const PAGE_BYTES_U64: u64 = 4096;
pub(super) const SECTOR_BYTES: usize = 512;
pub(super) const SECTOR_BYTES_U64: u64 = 512;
pub(super) const SECTORS_PER_PAGE: usize = PAGE_BYTES / SECTOR_BYTES;

pub(super) type PageBytes = [u8; PAGE_BYTES];

pub(super) struct Page {
    pub(super) bytes: PageBytes,
    hash: u128,
}

impl Page {
    /// `None` when all bytes are zero.
    pub(super) fn new(bytes: PageBytes) -> Option<Arc<Self>> {
        if is_zero(&bytes) {
            return None;
        }
        let hash = hash(&bytes);
        Some(Arc::new(Self { bytes, hash }))
    }

    /// What this page adds to its disk's hash when it is page `index` of it.
    pub(super) fn share(&self, index: u64) -> u128 {
        let (high, low) = halves(self.hash);
        join(
            fold(high ^ index, low ^ SALTS[0]),
            fold(low ^ SALTS[1], high ^ index.rotate_left(32) ^ SALTS[2]),
        )
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Page({:032x})", self.hash)
    }
}

const SALTS: [u64; 4] =
    [0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB, 0x8EBC_6AF0_9C88_C6E3, 0x5899_65CC_7537_4CC3];

/// The two halves of the product, one over the other: the mixing step of wyhash.
fn fold(left: u64, right: u64) -> u64 {
    let (high, low) = halves(u128::from(left) * u128::from(right));
    high ^ low
}

/// Four lanes of multiply-and-fold, joined into 128 bits. Not cryptographic: it tells states apart, nothing more.
fn hash(bytes: &PageBytes) -> u128 {
    let mut lanes = SALTS;
    for stripe in bytes.as_chunks::<64>().0 {
        let words = stripe.as_chunks::<8>().0;
        for (lane, pair) in lanes.iter_mut().zip(words.as_chunks::<2>().0) {
            let (left, right) = (u64::from_le_bytes(pair[0]), u64::from_le_bytes(pair[1]));
            *lane = fold(left ^ SALTS[1], right ^ *lane).wrapping_add(left.rotate_left(17));
        }
    }
    let [a, b, c, d] = lanes;
    join(
        fold(a ^ SALTS[2], b) ^ fold(c, d ^ SALTS[3]),
        fold(a ^ c, SALTS[0]) ^ fold(b ^ d.rotate_left(29), SALTS[1]),
    )
}

/// A number that depends on both, for hashes.
pub(super) fn mix(number: u128, other: u64) -> u128 {
    let (high, low) = halves(number);
    join(fold(high ^ other, SALTS[0]) ^ low, fold(low ^ other, SALTS[1]).wrapping_add(high))
}

fn halves(number: u128) -> (u64, u64) {
    let low = number & u128::from(u64::MAX);
    let half = |number: u128| u64::try_from(number).expect("half of 128 bits");
    (half(number >> 64), half(low))
}

fn join(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
