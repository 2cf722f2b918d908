//! Any bytes as a guest's memory, and any bytes as a monitor's messages, without a guest: for fuzzing.

mod monitor;
mod stage;

pub use monitor::converse;
pub use stage::Stage;

use crate::chain::{Chain, Table, take_front, take_last_byte, total};
use crate::limits::{DESCRIPTORS_MAX, PART_BYTES_MAX};
use crate::memory::GuestMemory;
use crate::parts::Rest;
use crate::request::{Command, Data, HEADER_BYTES, Header, Range, SEGMENT_BYTES, Segment, Terms, validate};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vm_memory::{GuestAddress, GuestRegionMmap};

const MEMORY_BYTES: usize = 1 << 16;
const TABLE_SIZE: u16 = 16;
/// The table, and headers behind it.
const CHANGING_BYTES: u64 = 512;
/// Walks while memory changes.
const ROUNDS: u32 = 20;
/// Bytes of the disk that requests are judged against.
const SIZE: u64 = 1 << 26;

/// Guest memory that begins with the script and repeats it; the table of a ring is at its beginning. Walks and judges every
/// head. Returns how many requests were legal.
///
/// # Panics
/// When a legal request is none: that is what is looked for.
pub fn rehearse(script: &[u8]) -> usize {
    walk_all(&memory(script))
}

/// The same while a second thread writes bytes of the script into the table and the headers, as fast as it can (F20: what is judged
/// is not looked at again).
///
/// # Panics
/// As [`rehearse`].
pub fn rehearse_while_it_changes(script: &[u8]) {
    let memory = memory(script);
    let (changes, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for change in script.chunks_exact(3).cycle().take_while(|_| !ended.load(Ordering::Relaxed)) {
                let [low, high, byte] = *change else { unreachable!("chunks of three") };
                let at = u64::from(u16::from_le_bytes([low, high])) % CHANGING_BYTES;
                memory.write(GuestAddress(at), &[byte]).expect("inside the memory");
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _whatever_happens = EndsAtDrop(&ended);
        while script.len() >= 3 && changes.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        for _ in 0..ROUNDS {
            walk_all(&memory);
        }
    });
}

/// Tells the second thread that it is over, also in a panic.
struct EndsAtDrop<'a>(&'a AtomicBool);

impl Drop for EndsAtDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn walk_all(memory: &GuestMemory) -> usize {
    let table = Table { address: GuestAddress(0), size: TABLE_SIZE };
    let mut chain = Chain::default();
    let mut legal = 0;
    for head in 0..=TABLE_SIZE {
        if chain.walk(memory, table, head).is_err() {
            continue;
        }
        assert!(chain.readable.len() + chain.writable.len() <= usize::from(DESCRIPTORS_MAX));
        legal += usize::from(judge(memory, &mut chain).is_some());
    }
    legal
}

fn memory(script: &[u8]) -> GuestMemory {
    let region = GuestRegionMmap::from_range(GuestAddress(0), MEMORY_BYTES, None).expect("memory to map");
    let memory = GuestMemory::new(vec![Arc::new(region)]).expect("one region");
    let bytes: Vec<u8> = script.iter().copied().cycle().take(MEMORY_BYTES).collect();
    memory.write(GuestAddress(0), &bytes).expect("all of it is there");
    memory
}

fn judge(memory: &GuestMemory, chain: &mut Chain) -> Option<()> {
    let mut raw = [0; HEADER_BYTES];
    take_front(memory, &mut chain.readable, &mut raw)?;
    take_last_byte(&mut chain.writable)?;
    let header = Header::parse(&raw);
    let mut raw = [0; SEGMENT_BYTES];
    let segment = match header.has_segment() {
        true => take_front(memory, &mut chain.readable, &mut raw).map(|()| Segment::parse(&raw)),
        false => None,
    };
    let data = Data { readable: total(&chain.readable), writable: total(&chain.writable) };
    let command = validate(header, segment, data, Terms { size: SIZE, read_only: false }).ok()?;
    let mut rest = Rest::default();
    let mut part = Some(rest.cut(command, chain));
    while let Some(command) = part {
        look_at(command, chain);
        part = rest.next(chain);
    }
    Some(())
}

fn look_at(command: Command, chain: &Chain) {
    let inside = |range: Range| {
        let end = range.offset.checked_add(range.length).expect("a legal range has an end");
        let whole = range.offset.is_multiple_of(512) && range.length.is_multiple_of(512);
        assert!(range.length > 0 && end <= SIZE && whole);
    };
    match command {
        Command::Read(range) | Command::Write(range) => {
            inside(range);
            assert!(range.length <= u64::from(PART_BYTES_MAX));
            assert_eq!(range.length, total(&chain.readable) + total(&chain.writable));
        }
        Command::Discard(range) | Command::WriteZeroes { range, .. } => inside(range),
        Command::Flush | Command::GetId => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{rehearse, rehearse_while_it_changes};

    #[test]
    fn a_read_is_legal_and_noise_is_borne() {
        let mut script = vec![0; 0x1000];
        let mut put = |at: usize, address: u64, length: u32, flags: u16, next: u16| {
            script[at..at + 8].copy_from_slice(&address.to_le_bytes());
            script[at + 8..at + 12].copy_from_slice(&length.to_le_bytes());
            script[at + 12..at + 14].copy_from_slice(&flags.to_le_bytes());
            script[at + 14..at + 16].copy_from_slice(&next.to_le_bytes());
        };
        put(0, 0x800, 16, 1, 1);
        put(16, 0x900, 512, 3, 2);
        put(32, 0x800, 1, 2, 0);
        assert_eq!(rehearse(&script), 1);
        for seed in 0..=255_u8 {
            let noise: Vec<u8> = (0..1000_u32).map(|at| (at * 31 + 7).to_le_bytes()[0] ^ seed).collect();
            rehearse(&noise);
            rehearse_while_it_changes(&noise);
        }
        rehearse_while_it_changes(&script);
        rehearse(&[]);
        rehearse_while_it_changes(&[]);
    }
}
