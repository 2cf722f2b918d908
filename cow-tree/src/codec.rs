//! Nodes to pages and back. Bytes are parsed once, here, and never believed before they agree with the parent.

use crate::damage::Damage;
use crate::leaf::Leaf;
use crate::node::{Body, Inner, Link, Node};
use crate::page::{
    BODY_BYTES, HEADER_BYTES, Header, INNER_ENTRIES_MAX, INNER_KEY_BYTES, INNER_VALUE_BYTES, LEVEL_MAX, Page,
    put, word32, word64,
};
use crate::pointer::Pointer;
use crate::units::{BLOCK_BYTES, BlockAddress, Generation, PoolId, Tag};

impl<L: Leaf> Node<L> {
    /// Reads the page of the node that `pointer` names.
    ///
    /// # Errors
    /// What is wrong with the page, for any bytes that are not this very node.
    pub fn decode(page: &[u8], pointer: &Pointer, pool: PoolId) -> Result<Self, Damage> {
        let page: &Page = page.try_into().map_err(|_| Damage::Length(page.len()))?;
        let header = Header::open(page, pointer, pool, L::KIND)?;
        let body = &page[HEADER_BYTES..];
        let body = if header.level == 0 {
            Body::Leaf(L::decode(body, header.count, header.low)?)
        } else {
            Body::Inner(decode_inner(body, header.count, header.level, header.low)?)
        };
        Ok(Self::at_home(body, *pointer))
    }

    /// Makes the page of a node whose children are all complete.
    pub(crate) fn encode(
        &self,
        address: BlockAddress,
        pool: PoolId,
        generation: Generation,
        page: &mut Page,
    ) -> Pointer {
        page.fill(0);
        match &self.body {
            Body::Leaf(leaf) => leaf.encode(&mut page[HEADER_BYTES..]),
            Body::Inner(inner) => encode_inner(inner, &mut page[HEADER_BYTES..]),
        }
        let (tag, low, level) = (self.tag, self.low(), self.level());
        let header =
            Header { kind: L::KIND, level, count: self.count(), pool, address, generation, tag, low };
        let checksum = header.seal(page);
        Pointer { address, tag, checksum, low, level }
    }
}

fn encode_inner<L: Leaf>(inner: &Inner<L>, body: &mut [u8]) {
    let (keys, values) = body.split_at_mut(inner.links.len() * INNER_KEY_BYTES);
    for (slot, low) in keys.chunks_exact_mut(INNER_KEY_BYTES).zip(&inner.lows) {
        put(slot, 0, &low.to_le_bytes());
    }
    for (slot, link) in values.chunks_exact_mut(INNER_VALUE_BYTES).zip(&inner.links) {
        let child = complete_pointer(link);
        put(slot, 0, &child.address.0.to_le_bytes());
        put(slot, 8, &child.tag.line.to_le_bytes());
        put(slot, 12, &child.tag.sequence.to_le_bytes());
        put(slot, 16, &child.checksum.to_le_bytes());
    }
}

fn complete_pointer<L: Leaf>(link: &Link<L>) -> Pointer {
    match link {
        Link::Stored(pointer) => *pointer,
        Link::Memory(node) => node.pointer().expect("children are encoded before their parents"),
    }
}

fn decode_inner<L: Leaf>(body: &[u8], count: usize, level: u8, low: u64) -> Result<Inner<L>, Damage> {
    if count == 0 || count > INNER_ENTRIES_MAX {
        return Err(Damage::Count(count));
    }
    if level > LEVEL_MAX {
        return Err(Damage::Level { expected: LEVEL_MAX, found: level });
    }
    let (keys, rest) = body.split_at(count * INNER_KEY_BYTES);
    let (values, padding) = rest.split_at(count * INNER_VALUE_BYTES);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(Damage::Padding);
    }
    let lows: Vec<u64> = keys.chunks_exact(INNER_KEY_BYTES).map(|key| word64(key, 0)).collect();
    if lows[0] != low {
        return Err(Damage::Order(0));
    }
    if let Some(index) = lows.windows(2).position(|pair| pair[0] >= pair[1]) {
        return Err(Damage::Order(index + 1));
    }
    let mut links = Vec::with_capacity(count);
    for (index, (value, low)) in values.chunks_exact(INNER_VALUE_BYTES).zip(&lows).enumerate() {
        let address = BlockAddress(word64(value, 0));
        if !address.can_hold(1) {
            return Err(Damage::Target(index));
        }
        let tag = Tag { line: word32(value, 8), sequence: word32(value, 12) };
        let checksum = word32(value, 16);
        links.push(Link::Stored(Pointer { address, tag, checksum, low: *low, level: level - 1 }));
    }
    Ok(Inner { level, lows, links })
}

const _: () = assert!(HEADER_BYTES + BODY_BYTES == BLOCK_BYTES);
