//! Descriptor chains: virtio 1.2, section 2.7.5. Walked once, each descriptor read once (V2), no further than a chain may go.

use crate::limits::{DESCRIPTORS_MAX, TURN_DESCRIPTORS_MAX};
use crate::memory::GuestMemory;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{ByteValued, GuestAddress};

/// Bytes of a descriptor.
const DESCRIPTOR_BYTES: u32 = 16;

/// A piece of guest memory that a descriptor names. Nobody has looked yet whether it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) address: GuestAddress,
    pub(crate) length: u32,
}

impl Span {
    /// Leaves out so many bytes at its beginning, which it has. At the end of all addresses there is no memory.
    fn cut_front(&mut self, length: u32) {
        self.length -= length;
        self.address = GuestAddress(self.address.0.saturating_add(u64::from(length)));
    }
}

/// What a chain names, in its order. Used again and again, so that a walk allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// For the device to read.
    pub(crate) readable: Vec<Span>,
    /// For the device to write.
    pub(crate) writable: Vec<Span>,
}

/// A chain no driver makes. What follows on its ring is not believed either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The table, or part of it, is outside the guest's memory.
    OutsideMemory,
    /// A descriptor names one behind the end of the table.
    NoSuchDescriptor,
    /// It is longer than a table, so it goes in circles.
    Endless,
    /// An indirect table inside one, or one of an impossible length.
    IndirectTable,
    /// Something to read after something to write.
    Order,
}

/// The table of a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) address: GuestAddress,
    pub(crate) size: u16,
}

impl Chain {
    /// Fills the chain from `head` on.
    pub(crate) fn walk(&mut self, memory: &GuestMemory, ring: Table, head: u16) -> Result<(), Broken> {
        self.readable.clear();
        self.writable.clear();
        let (mut table, mut next, mut is_indirect) = (ring, head, false);
        for _ in 0..DESCRIPTORS_MAX {
            let descriptor = read(memory, table, next)?;
            if descriptor.refers_to_indirect_table() {
                if is_indirect {
                    return Err(Broken::IndirectTable);
                }
                table = indirect(&descriptor)?;
                (next, is_indirect) = (0, true);
                continue;
            }
            self.push(&descriptor)?;
            if !descriptor.has_next() {
                return Ok(());
            }
            next = descriptor.next();
        }
        Err(Broken::Endless)
    }

    fn push(&mut self, descriptor: &Descriptor) -> Result<(), Broken> {
        let span = Span { address: descriptor.addr(), length: descriptor.len() };
        if descriptor.is_write_only() {
            self.writable.push(span);
        } else if self.writable.is_empty() {
            self.readable.push(span);
        } else {
            return Err(Broken::Order);
        }
        Ok(())
    }
}

/// What a ring has had of its worker since another had its turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    descriptors: usize,
}

impl Turn {
    /// A chain that was just walked.
    pub(crate) fn count(&mut self, chain: &Chain) {
        self.descriptors += chain.readable.len() + chain.writable.len();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.descriptors >= TURN_DESCRIPTORS_MAX
    }
}

fn read(memory: &GuestMemory, table: Table, index: u16) -> Result<Descriptor, Broken> {
    if index >= table.size {
        return Err(Broken::NoSuchDescriptor);
    }
    let offset = u64::from(index) * u64::from(DESCRIPTOR_BYTES);
    let address = table.address.0.checked_add(offset).ok_or(Broken::OutsideMemory)?;
    let mut raw = Descriptor::default();
    memory.read(GuestAddress(address), raw.as_mut_slice()).ok_or(Broken::OutsideMemory)?;
    Ok(raw)
}

fn indirect(descriptor: &Descriptor) -> Result<Table, Broken> {
    let entries = descriptor.len() / DESCRIPTOR_BYTES;
    let whole = descriptor.len().is_multiple_of(DESCRIPTOR_BYTES) && entries > 0;
    let size = u16::try_from(entries).ok().filter(|_| whole).ok_or(Broken::IndirectTable)?;
    Ok(Table { address: descriptor.addr(), size })
}

/// Takes `length` bytes off the front of the spans and copies them out. Nothing when there are fewer, or they
/// are no memory; the spans are of no use then.
pub(crate) fn take_front(memory: &GuestMemory, spans: &mut Vec<Span>, bytes: &mut [u8]) -> Option<()> {
    let (mut at, mut whole) = (0, 0);
    for span in spans.iter_mut() {
        if at == bytes.len() {
            break;
        }
        let length = span.length.min(u32::try_from(bytes.len() - at).ok()?);
        let end = at + usize::try_from(length).ok()?;
        memory.read(span.address, &mut bytes[at..end])?;
        at = end;
        if length == span.length {
            whole += 1;
        } else {
            span.cut_front(length);
        }
    }
    // All at once: a driver may have sent a thousand that are empty.
    spans.drain(..whole);
    (at == bytes.len()).then_some(())
}

/// Keeps the first `bytes` of the spans, and moves what is behind them to the end of `rest`.
pub(crate) fn split(spans: &mut Vec<Span>, bytes: u32, rest: &mut Vec<Span>) {
    let (mut left, mut whole) = (bytes, 0);
    while let Some(span) = spans.get(whole).filter(|span| span.length <= left) {
        left -= span.length;
        whole += 1;
    }
    if let Some(cut) = spans.get_mut(whole).filter(|_| left > 0) {
        let front = Span { length: left, ..*cut };
        cut.cut_front(left);
        rest.extend_from_slice(&spans[whole..]);
        spans[whole] = front;
        spans.truncate(whole + 1);
    } else {
        rest.extend(spans.drain(whole..));
    }
}

/// Takes the last byte off the spans: the status of a block request.
pub(crate) fn take_last_byte(spans: &mut Vec<Span>) -> Option<GuestAddress> {
    while spans.last().is_some_and(|span| span.length == 0) {
        spans.pop();
    }
    let last = spans.last_mut()?;
    last.length -= 1;
    let address = last.address.0.checked_add(u64::from(last.length))?;
    if last.length == 0 {
        spans.pop();
    }
    Some(GuestAddress(address))
}

/// Bytes of all spans together.
pub(crate) fn total(spans: &[Span]) -> u64 {
    spans.iter().map(|span| u64::from(span.length)).sum()
}

#[cfg(test)]
mod tests;
