//! Flush: everything acknowledged before it was submitted survives power loss.

use super::Channel;
use super::device::Part;
use super::slot::{Flow, Slot, Work};
use crate::ids::CommitNumber;
use crate::request::{Payload, RequestError};
use blockstore::Operation;

#[derive(Debug, Default)]
pub(super) enum Flush {
    #[default]
    New,
    /// Nothing of the volume waits for the journal: one flush of the device.
    Device,
    /// A commit that was cut after the flush arrived.
    Commit(CommitNumber),
}

impl Channel {
    pub(super) fn step_flush(&mut self, index: usize, slot: &mut Slot) -> Flow {
        let core = self.core.clone();
        if core.is_poisoned() {
            return Flow::Done(Err(RequestError::Poisoned));
        }
        let Work::Flush(flush) = &mut slot.work else { unreachable!("the caller matched on the work") };
        match *flush {
            Flush::New if slot.attachment.is_read_only() => Flow::Done(Ok(Payload::None)),
            Flush::New if slot.attachment.live().uncommitted() > core.durable() => {
                *flush = Flush::Commit(core.want_commit());
                Flow::Parked
            }
            Flush::New => {
                *flush = Flush::Device;
                self.push(index, slot, Part::Piece(0), Operation::Flush);
                Flow::Device
            }
            Flush::Device if slot.failed.is_some() => {
                core.poison();
                Flow::Done(Err(RequestError::Poisoned))
            }
            Flush::Device => Flow::Done(Ok(Payload::None)),
            Flush::Commit(number) if core.is_committed(number) => Flow::Done(Ok(Payload::None)),
            Flush::Commit(_) => Flow::Parked,
        }
    }
}
