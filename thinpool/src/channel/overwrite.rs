//! The fast way of a write: every block of it is owned already, so it goes to the device as it is.
//!
//! Anything else, a hole, a foreign block, a closed gate, a range somebody is changing, sends the request the slow
//! way, as an [`Update`](super::update::Update).

use super::Channel;
use super::device::Piece;
use super::slot::{Flow, Slot, Work};
use super::update::Update;
use crate::live::Live;
use crate::mutants::{self, Mutant};
use crate::request::{Payload, RequestError};
use blockstore::{Buffer, Durability};
use cow_tree::units::{BLOCK_BYTES, LogicalBlock};
use cow_tree::{Found, Missing};
use std::sync::atomic::Ordering;

#[derive(Debug)]
pub(super) struct Overwrite {
    offset: u64,
    buffer: Option<Buffer>,
    durability: Durability,
    submitted: bool,
}

impl Overwrite {
    pub(super) fn new(offset: u64, buffer: Buffer, durability: Durability) -> Self {
        Self { offset, buffer: Some(buffer), durability, submitted: false }
    }
}

impl Channel {
    pub(super) fn step_overwrite(&mut self, index: usize, slot: &mut Slot) -> Flow {
        if let Some(failure) = slot.failed {
            return Flow::Done(Err(failure));
        }
        let Work::Overwrite(work) = &mut slot.work else { unreachable!("the caller matched on the work") };
        if work.submitted {
            return Flow::Done(Ok(Payload::None));
        }
        let (offset, durability) = (work.offset, work.durability);
        let buffer = work.buffer.take().expect("nothing has been submitted");
        if self.core.is_poisoned() {
            return Flow::Done(Err(RequestError::Poisoned));
        }
        if self.core.closing.load(Ordering::SeqCst) {
            return Flow::Done(Err(RequestError::ShuttingDown));
        }
        self.enter_epoch(slot);
        let mut pieces = std::mem::take(&mut self.pieces);
        let owned = self.look_up_owned(slot.attachment.live(), offset, buffer.len(), &mut pieces);
        let flow = match owned {
            Err(Missing(pointer)) => {
                work_of(slot).buffer = Some(buffer);
                self.fetch_node(index, slot, pointer)
            }
            Ok(true) if self.may_go_fast(slot.attachment.live(), durability) => {
                self.write_pieces(index, slot, &pieces, buffer, durability)
            }
            Ok(_) => {
                self.leave_epoch(slot);
                let update = Update::write(offset, buffer, durability, self.core.device.alignment());
                slot.work = Work::Update(Box::new(update));
                Flow::Again
            }
        };
        self.pieces = pieces;
        flow
    }

    /// Looked at after the epoch was entered, so that whoever closed the gate or locked a range and then waits for a
    /// grace period also waits for this request.
    fn may_go_fast(&self, live: &Live, durability: Durability) -> bool {
        let unlocked = live.locked_ranges.load(Ordering::SeqCst) == 0 || mutants::active(Mutant::NoRangeLock);
        let open = !live.is_gate_closed();
        // Through the device's cache only when nothing of the volume waits for the journal (DESIGN: FUA).
        let durable_alone = durability == Durability::Cached || live.uncommitted() <= self.core.durable();
        unlocked && open && durable_alone
    }

    /// Whether all of the range is owned and may be overwritten in place, in the device's own grain.
    fn look_up_owned(
        &self,
        live: &Live,
        offset: u64,
        length: usize,
        pieces: &mut Vec<Piece>,
    ) -> Result<bool, Missing> {
        pieces.clear();
        let alignment = u64::try_from(self.core.device.alignment()).expect("small");
        let (mut at, end) = (offset, offset + u64::try_from(length).expect("a length"));
        if !(at.is_multiple_of(alignment) && end.is_multiple_of(alignment)) {
            return Ok(false);
        }
        let block_bytes = u64::try_from(BLOCK_BYTES).expect("a small constant");
        let durable = self.core.durable();
        let body = live.read();
        while at < end {
            let Found::Mapped(mapping) = body.tree.lookup(&self.nodes, LogicalBlock(at / block_bytes))?
            else {
                return Ok(false);
            };
            if !body.ownership.may_overwrite(mapping.tag, durable) {
                return Ok(false);
            }
            let start = mapping.start.0 * block_bytes;
            let upto = (start + u64::from(mapping.length) * block_bytes).min(end);
            let device = mapping.address.byte_offset() + (at - start);
            pieces.push(Piece {
                length: usize::try_from(upto - at).expect("within the request"),
                at: Some(device),
            });
            at = upto;
        }
        Ok(true)
    }

    fn write_pieces(
        &mut self,
        index: usize,
        slot: &mut Slot,
        pieces: &[Piece],
        mut buffer: Buffer,
        durability: Durability,
    ) -> Flow {
        let durability = if mutants::active(Mutant::FuaIgnored) { Durability::Cached } else { durability };
        work_of(slot).submitted = true;
        for piece in pieces {
            let rest = (piece.length < buffer.len()).then(|| buffer.split_off(piece.length));
            let part = std::mem::replace(&mut buffer, rest.unwrap_or_else(|| Buffer::zeroed(0)));
            let at = piece.at.expect("an owned piece is on the device");
            self.push_write(index, slot, at, part, durability);
        }
        if slot.pending == 0 { Flow::Again } else { Flow::Device }
    }
}

fn work_of(slot: &mut Slot) -> &mut Overwrite {
    let Work::Overwrite(work) = &mut slot.work else { unreachable!("the caller matched on the work") };
    work
}
