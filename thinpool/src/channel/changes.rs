//! Telling a client which parts of a volume differ from one of its snapshots.
//!
//! What differs is what the two maps take from different places: exact but for blocks that were written anew with the
//! same bytes. A snapshot's blocks stay where they are for as long as it is there, and nobody else gets them.

use super::Channel;
use super::slot::{Flow, Slot, Work};
use crate::attachment::Attachment;
use crate::body::ExtentTree;
use crate::request::{ChangeStatus, Payload};
use cow_tree::units::{BLOCK_BYTES, LogicalBlock};
use cow_tree::{DiffStep, Missing};

/// Nodes that are looked at with the volume's lock held, looks before others on the channel have their turn, and looks for one
/// request.
const VISITS_MAX: usize = 64;
const TURN_LOOKS: usize = 16;
const LOOKS_MAX: usize = 16_384;

#[derive(Debug)]
pub(super) struct Changes {
    since: Attachment,
    /// The snapshot's map, which never changes.
    then: Option<ExtentTree>,
    /// Bytes of the volume that were asked for.
    end: u64,
    limit: usize,
    found: Vec<ChangeStatus>,
    /// Looked at up to here.
    at: u64,
    looks: usize,
}

impl Changes {
    pub(super) fn new(since: Attachment, offset: u64, length: u64, limit: usize) -> Self {
        Self { since, then: None, end: offset + length, limit, found: Vec::new(), at: offset, looks: 0 }
    }

    fn is_complete(&self) -> bool {
        self.at >= self.end || self.found.len() > self.limit || self.looks >= LOOKS_MAX
    }

    fn add(&mut self, end: u64, changed: bool) {
        let length = end.min(self.end).saturating_sub(self.at);
        self.at += length;
        match self.found.last_mut() {
            Some(last) if last.changed == changed => last.length += length,
            _ if length > 0 => self.found.push(ChangeStatus { length, changed }),
            _ => {}
        }
    }
}

impl Channel {
    pub(super) fn step_changes(&mut self, index: usize, slot: &mut Slot) -> Flow {
        if let Some(failure) = slot.failed {
            return Flow::Done(Err(failure));
        }
        self.enter_epoch(slot);
        let Work::Changes(work) = &mut slot.work else { unreachable!("the caller matched on the work") };
        let live = slot.attachment.live();
        if work.then.is_none() {
            // Copied, so that nobody ever holds the locks of two volumes.
            work.then = Some(work.since.live().read().tree.fork());
        }
        let found = {
            let body = live.read();
            self.look_up_changes(&body.tree, work)
        };
        match found {
            Err(Missing(pointer)) => self.fetch_node(index, slot, pointer),
            Ok(()) if !work.is_complete() => {
                let has_its_turn = !work.looks.is_multiple_of(TURN_LOOKS);
                if has_its_turn {
                    return Flow::Again;
                }
                // Outside the epoch, nodes of the copy may be thinned out and their blocks taken by others.
                work.then = None;
                self.rest(slot)
            }
            Ok(()) => {
                work.found.truncate(work.limit);
                Flow::Done(Ok(Payload::Changes(std::mem::take(&mut work.found))))
            }
        }
    }

    /// One look at both maps, of bounded length.
    fn look_up_changes(&self, now: &ExtentTree, work: &mut Changes) -> Result<(), Missing> {
        let block_bytes = u64::try_from(BLOCK_BYTES).expect("a small constant");
        let bytes = |block: LogicalBlock| block.0.saturating_mul(block_bytes);
        work.looks += 1;
        let from = LogicalBlock(work.at / block_bytes);
        let then = work.then.as_ref().expect("copied before the first look");
        match ExtentTree::diff(then, now, &self.nodes, from, VISITS_MAX)? {
            DiffStep::Differs(difference) => {
                work.add(bytes(difference.start), false);
                if work.at < work.end {
                    work.add(bytes(difference.end), true);
                }
            }
            DiffStep::Same { until } => work.add(bytes(until), false),
            DiffStep::End => work.add(u64::MAX, false),
        }
        Ok(())
    }
}
