//! Telling a client which parts of a volume are mapped.

use super::Channel;
use super::slot::{Flow, Slot, Work};
use crate::catalog::Lineage;
use crate::live::Live;
use crate::ownership::Standing;
use crate::request::{Depths, ExtentKind, ExtentStatus, Payload};
use cow_tree::units::{BLOCK_BYTES, LogicalBlock};
use cow_tree::{Found, Missing};

/// Mappings that are looked at with the volume's lock held, before others on the channel have their turn, and for one request.
const LOCKED_LOOKS: usize = 256;
const TURN_LOOKS: usize = 1024;
const LOOKS_MAX: usize = 16_384;

#[derive(Debug)]
pub(super) struct Extents {
    offset: u64,
    length: u64,
    limit: usize,
    depths: Depths,
    lineage: Lineage,
    found: Vec<ExtentStatus>,
    /// Bytes already looked at, and in how many mappings and holes.
    done: u64,
    looks: usize,
}

impl Extents {
    pub(super) fn new(offset: u64, length: u64, limit: usize, depths: Depths) -> Self {
        Self {
            offset,
            length,
            limit,
            depths,
            lineage: Lineage::default(),
            found: Vec::new(),
            done: 0,
            looks: 0,
        }
    }

    fn is_complete(&self) -> bool {
        self.done >= self.length || self.found.len() > self.limit || self.looks >= LOOKS_MAX
    }

    fn add(&mut self, length: u64, kind: ExtentKind) {
        self.done += length;
        self.looks += 1;
        match self.found.last_mut() {
            Some(last) if last.kind == kind => last.length += length,
            _ => self.found.push(ExtentStatus { length, kind }),
        }
    }
}

impl Channel {
    pub(super) fn step_extents(&mut self, index: usize, slot: &mut Slot) -> Flow {
        if let Some(failure) = slot.failed {
            return Flow::Done(Err(failure));
        }
        self.enter_epoch(slot);
        let Work::Extents(work) = &mut slot.work else { unreachable!("the caller matched on the work") };
        if work.depths == Depths::Told && work.done == 0 {
            let id = slot.attachment.live().read().id;
            work.lineage = self.core.with_catalog(|catalog| catalog.lineage(id));
        }
        match self.look_up_kinds(slot.attachment.live(), work) {
            Err(Missing(pointer)) => self.fetch_node(index, slot, pointer),
            Ok(()) if !work.is_complete() => {
                let has_its_turn = !work.looks.is_multiple_of(TURN_LOOKS);
                if has_its_turn { Flow::Again } else { self.rest(slot) }
            }
            Ok(()) => {
                work.found.truncate(work.limit);
                Flow::Done(Ok(Payload::Extents(std::mem::take(&mut work.found))))
            }
        }
    }

    fn look_up_kinds(&self, live: &Live, work: &mut Extents) -> Result<(), Missing> {
        let body = live.read();
        let block_bytes = u64::try_from(BLOCK_BYTES).expect("a small constant");
        // To the next multiple, also after a look that met a node to be read first: turns end at multiples.
        let upto = (work.looks / LOCKED_LOOKS + 1) * LOCKED_LOOKS;
        while !work.is_complete() && work.looks < upto {
            let at = work.offset + work.done;
            let (end, kind) = match body.tree.lookup(&self.nodes, LogicalBlock(at / block_bytes))? {
                Found::Hole { end, .. } => (end.0.saturating_mul(block_bytes), ExtentKind::Hole),
                Found::Mapped(mapping) => {
                    let kind = match body.ownership.standing(mapping.tag) {
                        Standing::Mine | Standing::Incoming(_) => ExtentKind::Own,
                        Standing::Foreign => ExtentKind::Shared { depth: work.lineage.depth_of(mapping.tag) },
                    };
                    (mapping.end().0 * block_bytes, kind)
                }
            };
            let end = end.min(work.offset + work.length);
            work.add(end - at, kind);
        }
        Ok(())
    }
}
