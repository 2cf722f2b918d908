//! The bytes of a device, and how they are changed without breaking a checksum.

use blockstore::{Buffer, Device, Durability, IoChannel, Operation, RamDevice, Submission, Token};
use std::collections::VecDeque;
use std::ops::Range;

pub(crate) const BLOCK_BYTES: usize = 4096;
/// Bytes moved by one operation.
const PIECE_BYTES: usize = 64 << 10;
const BATCH_HEADER_BYTES: usize = 80;
/// Checksums that change because another did: more than the levels of any tree here.
const SEALS_MAX: usize = 64;

/// Where a structure keeps its checksum, and what that covers.
struct Seal {
    at: usize,
    covers: usize,
    /// Whether others point to it by its checksum.
    is_named: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Image {
    bytes: Vec<u8>,
    /// Blocks that held something when the image was made.
    nonempty: Vec<usize>,
}

impl Image {
    pub(crate) fn of(device: &dyn Device) -> Self {
        let mut channel = device.open_channel(1).expect("a device of memory");
        let size = usize::try_from(device.size()).expect("small");
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let buffer = Buffer::zeroed(PIECE_BYTES.min(size - bytes.len()));
            let operation = Operation::Read { offset: offset(bytes.len()), buffer };
            bytes.extend_from_slice(&run(channel.as_mut(), operation));
        }
        let blocks = bytes.chunks(BLOCK_BYTES).enumerate();
        let nonempty = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        let nonempty = nonempty.map(|(number, _)| number).collect();
        Self { bytes, nonempty }
    }

    pub(crate) fn nonempty(&self) -> &[usize] {
        &self.nonempty
    }

    pub(crate) fn device(&self) -> RamDevice {
        let device = RamDevice::new(offset(self.bytes.len()));
        let mut channel = device.open_channel(1).expect("a device of memory");
        for (number, block) in self.bytes.chunks(BLOCK_BYTES).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                let (offset, buffer) = (offset(number * BLOCK_BYTES), Buffer::from_slice(block));
                run(channel.as_mut(), Operation::Write { offset, buffer, durability: Durability::Cached });
            }
        }
        device
    }

    pub(crate) fn change(&mut self, block: usize, at: usize, byte: u8, sealed: bool) {
        self.bytes[block * BLOCK_BYTES + at] = byte;
        if sealed {
            self.seal(block);
        }
    }

    /// Corrects the block's checksum, and whatever names it by that, as far up as it goes.
    fn seal(&mut self, block: usize) {
        let mut ahead = VecDeque::from([block]);
        for _ in 0..SEALS_MAX {
            let Some(block) = ahead.pop_front() else { return };
            let Some(seal) = self.seal_of(block) else { continue };
            let (old, new) = self.corrected(block, &seal);
            if seal.is_named && old != new {
                ahead.extend(self.rename(block, old, new));
            }
        }
    }

    fn seal_of(&self, block: usize) -> Option<Seal> {
        let page = &self.bytes[self.place(block)];
        match &page[..8] {
            b"OFSTBITS" => Some(Seal { at: 12, covers: BLOCK_BYTES, is_named: true }),
            b"OFSTJRNL" => Some(Seal { at: 12, covers: BATCH_HEADER_BYTES, is_named: false }),
            b"OFSTSUPR" | b"OFFSHOOT" => Some(Seal { at: 12, covers: BLOCK_BYTES, is_named: false }),
            [b'O', b'S', b'T', b'N', ..] => Some(Seal { at: 4, covers: BLOCK_BYTES, is_named: true }),
            _ => None,
        }
    }

    /// The checksum the block had, and the one it has now.
    fn corrected(&mut self, block: usize, seal: &Seal) -> ([u8; 4], [u8; 4]) {
        self.correct_payload(block, seal);
        let place = self.place(block);
        let page = &mut self.bytes[place];
        let old: [u8; 4] = page[seal.at..seal.at + 4].try_into().expect("four bytes");
        page[seal.at..seal.at + 4].fill(0);
        let new = crc32c::crc32c(&page[..seal.covers]).to_le_bytes();
        page[seal.at..seal.at + 4].copy_from_slice(&new);
        (old, new)
    }

    /// A batch in one block carries a second checksum.
    fn correct_payload(&mut self, block: usize, seal: &Seal) {
        let place = self.place(block);
        let page = &mut self.bytes[place];
        let length = u32::from_le_bytes(page[64..68].try_into().expect("four bytes"));
        let payload =
            usize::try_from(length).ok().and_then(|length| page[BATCH_HEADER_BYTES..].get(..length));
        if seal.covers == BATCH_HEADER_BYTES
            && let Some(payload) = payload
        {
            let checksum = crc32c::crc32c(payload).to_le_bytes();
            page[68..72].copy_from_slice(&checksum);
        }
    }

    /// Replaces a checksum in all other structures; those that held it.
    fn rename(&mut self, block: usize, old: [u8; 4], new: [u8; 4]) -> Vec<usize> {
        let others: Vec<usize> = self.nonempty.iter().copied().filter(|other| *other != block).collect();
        let mut changed = Vec::new();
        for other in others {
            let is_structure = self.seal_of(other).is_some();
            let place = self.place(other);
            let page = &mut self.bytes[place];
            let found = page.windows(4).position(|window| window == old).filter(|_| is_structure);
            if let Some(at) = found {
                page[at..at + 4].copy_from_slice(&new);
                changed.push(other);
            }
        }
        changed
    }

    fn place(&self, block: usize) -> Range<usize> {
        block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES
    }
}

fn offset(at: usize) -> u64 {
    u64::try_from(at).expect("small")
}

fn run(channel: &mut dyn IoChannel, operation: Operation) -> Vec<u8> {
    let mut outbox = VecDeque::from([Submission { token: Token(0), operation }]);
    let mut completions = Vec::new();
    while completions.is_empty() {
        channel.submit(&mut outbox);
        channel.poll(&mut completions);
    }
    let completion = completions.pop().expect("just arrived");
    completion.result.expect("memory does not fail");
    completion.buffer.map(|buffer| buffer.to_vec()).unwrap_or_default()
}
