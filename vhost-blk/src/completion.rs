//! A request in the engine, and how its answer gets to the driver.

use crate::chain::{Span, total};
use crate::counters::Asked;
use crate::parts::Rest;
use crate::request::{ID_BYTES, Status};
use crate::ring::Ring;
use blockstore::Buffer;
use thinpool::Payload;
use vm_memory::GuestAddress;

/// What is kept of a request until it is used. Used again and again, so that it allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// The worker's number of the ring.
    pub(crate) ring: usize,
    pub(crate) head: u16,
    pub(crate) status: GuestAddress,
    /// Where the driver has room for data, of the part that is under way.
    pub(crate) data: Vec<Span>,
    /// What comes after that part.
    pub(crate) rest: Rest,
    /// Bytes of the parts before it that were written to the driver.
    pub(crate) written: u32,
    /// Memory it holds.
    pub(crate) bytes: u64,
    /// The same while it waits for space, and after.
    pub(crate) bytes_aside: u64,
    pub(crate) asked: Asked,
}

impl Pending {
    /// Delivers a part that is not the last; false when there is no other after it, or it cannot be delivered.
    pub(crate) fn deliver_part(&mut self, ring: &Ring, payload: &Payload) -> bool {
        if self.rest.is_empty() {
            return false;
        }
        let Some(written) = fill(ring, self, payload) else { return false };
        self.written = self.written.saturating_add(written);
        true
    }
}

/// What the driver will find. Its head is not used yet.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) status: Status,
    /// Bytes of the chain the device has written.
    pub(crate) written: u32,
}

/// Writes data and status where the driver wants them.
pub(crate) fn deliver(ring: &Ring, pending: &Pending, status: Status, payload: &Payload) -> Delivered {
    let (status, written) = match payload {
        Payload::Buffer(_) => match fill(ring, pending, payload) {
            Some(written) => (status, pending.written.saturating_add(written).saturating_add(1)),
            None => (Status::IoError, 0),
        },
        // The length counts from the first byte for the device to write: virtio 1.2, section 2.7.8.2.
        Payload::None | Payload::Extents(_) | Payload::Changes(_) => {
            (status, u32::from(total(&pending.data) == 0))
        }
    };
    // Without a place for its status a head can still be used; the driver cannot have meant it.
    let _nowhere_is_the_drivers_choice = ring.memory.write(pending.status, &[status.byte()]);
    Delivered { status, written }
}

/// Writes data where the driver wants it. How many bytes that are; nothing when it is no memory.
fn fill(ring: &Ring, pending: &Pending, payload: &Payload) -> Option<u32> {
    match payload {
        Payload::Buffer(buffer) if buffer.is_lent() => u32::try_from(buffer.len()).ok(),
        Payload::Buffer(buffer) => scatter(ring, &pending.data, buffer),
        Payload::None | Payload::Extents(_) | Payload::Changes(_) => Some(0),
    }
}

fn scatter(ring: &Ring, spans: &[Span], bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes;
    for span in spans {
        let length = usize::try_from(span.length).ok()?.min(rest.len());
        let (part, after) = rest.split_at(length);
        ring.memory.write(span.address, part)?;
        rest = after;
    }
    u32::try_from(bytes.len() - rest.len()).ok()
}

/// The guest's memory itself, when it is one piece that the device can use.
pub(crate) fn lend(ring: &Ring, spans: &[Span], alignment: usize) -> Option<Buffer> {
    let [span] = spans else { return None };
    ring.memory.lend(*span, alignment)
}

/// The bytes of a write, copied once: the driver cannot change them any more.
pub(crate) fn gather(ring: &Ring, spans: &[Span]) -> Option<Buffer> {
    let mut buffer = Buffer::uncleared(usize::try_from(total(spans)).ok()?);
    let mut at = 0;
    for span in spans {
        let end = at + usize::try_from(span.length).ok()?;
        ring.memory.read(span.address, &mut buffer[at..end])?;
        at = end;
    }
    Some(buffer)
}

/// The volume's name, padded to what an identifier is. Of a name that is longer, its beginning and a checksum of all of
/// it: cut names would look alike, and disks with them. Names of one length that differ in up to four letters beside
/// each other never do.
pub(crate) fn identifier(name: &str) -> Buffer {
    let mut bytes = [0; ID_BYTES];
    let mut put = |text: &str| bytes[..text.len()].copy_from_slice(text.as_bytes());
    if name.len() <= ID_BYTES {
        put(name);
    } else {
        let sum = format!("-{:08x}", crc32c::crc32c(name.as_bytes()));
        // Names are ASCII; one that is not has no beginning here.
        let beginning = name.get(..ID_BYTES - sum.len()).unwrap_or_default();
        put(&format!("{beginning}{sum}"));
    }
    Buffer::from_slice(&bytes)
}

#[cfg(test)]
mod tests {
    use super::identifier;
    use std::collections::BTreeSet;

    fn text(name: &str) -> String {
        let found = identifier(name).to_vec();
        let end = found.iter().position(|byte| *byte == 0).unwrap_or(found.len());
        assert!(found.len() == 20 && found[end..].iter().all(|byte| *byte == 0));
        String::from_utf8(found[..end].to_vec()).expect("ASCII")
    }

    #[test]
    fn a_name_is_its_identifier_as_long_as_it_fits() {
        for name in ["a", "desk-07@before", "twenty-bytes-of-name"] {
            assert_eq!(text(name), name);
        }
    }

    #[test]
    fn long_names_that_begin_alike_have_identifiers_of_their_own() {
        assert_eq!(text("twenty-one-bytes-of-n"), "twenty-one--0d88e086");
        let names = (0..1000).map(|number| format!("classroom-berlin-mitte-desk-{number:03}"));
        let all: BTreeSet<String> = names.map(|name| text(&name)).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|one| one.starts_with("classroom-b-")));
    }
}
