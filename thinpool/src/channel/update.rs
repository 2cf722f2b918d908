//! The slow way of a write, and the only way of trims and zeroes.
//!
//! The request is cut into chunks that do not cross a placement window. Each chunk: lock its range, look it up, take
//! blocks, complete partly written ones, write, then publish all its map changes as one record, unlock. Durability is
//! waited for once, at the end. A chunk that has to wait for space, or for a closed gate, leaves its epoch and plans
//! again when it goes on, so that neither a snapshot nor the return of freed blocks ever waits for it.

use super::content::{bytes_of, complete_edge, is_written_as_it_is, own_bytes, skip, take_content, trimmed};
use super::plan::{Chunk, Content, Edge, Few, Intent, Plan, Task};
use super::slot::{Flow, Slot, Work};
use super::{Channel, ChannelShared};
use crate::core::{Core, Stalled};
use crate::groups::{GroupKind, NoRun, Placement, Run};
use crate::ids::CommitNumber;
use crate::live::Live;
use crate::mutants::{self, Mutant};
use crate::range_lock::RangeTicket;
use crate::record::Change;
use crate::request::{Payload, RequestError, ZeroSpace};
use crate::space_waits::SpaceWait;
use crate::windows::WINDOW_BLOCKS;
use blockstore::{Buffer, Durability};
use cow_tree::Missing;
use cow_tree::units::{BLOCK_BYTES, BlockAddress, BlockCount, LogicalBlock};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Blocks of one chunk that only unmaps: bounds the time its volume's lock is held.
const UNMAP_BLOCKS_MAX: u64 = 1024;

/// Chunks of one request before others on its channel have their turn.
const CHUNKS_MAX: u32 = 64;

#[derive(Debug)]
pub(super) struct Update {
    /// Bytes still to do.
    rest: std::ops::Range<u64>,
    data: Option<Buffer>,
    intent: Intent,
    durability: Durability,
    phase: Phase,
    chunk: Option<Chunk>,
    ticket: Option<RangeTicket>,
    /// Blocks taken for the chunk.
    fresh: Few<Run>,
    changes: Few<Change>,
    tasks: Few<Task>,
    edges: SmallVec<[(Edge, Option<Buffer>); 1]>,
    /// The chunk's bytes, widened to whole blocks when it does not start and end on one.
    content: Option<Buffer>,
    /// A grace period has passed since the chunk's range was locked.
    graced: bool,
    /// It has found no space, now or before.
    pub(super) space_wait: Option<SpaceWait>,
    /// Chunks published.
    published: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Lock,
    Plan,
    /// Writes in flight must end before an owned block's old content may be read.
    Grace(CommitNumber),
    ReadEdges,
    Write,
    Publish,
    Durable(Option<CommitNumber>),
}

impl Update {
    fn new(rest: std::ops::Range<u64>, data: Option<Buffer>, intent: Intent, durability: Durability) -> Self {
        Self {
            rest,
            data,
            intent,
            durability,
            phase: Phase::Lock,
            chunk: None,
            ticket: None,
            fresh: Few::new(),
            changes: Few::new(),
            tasks: Few::new(),
            edges: SmallVec::new(),
            content: None,
            graced: false,
            space_wait: None,
            published: 0,
        }
    }

    /// Takes what is lent as the buffer's own when it will look at the bytes more than once, or complete them.
    pub(super) fn write(offset: u64, buffer: Buffer, durability: Durability, alignment: usize) -> Self {
        let stays_lent = buffer.is_lent() && is_written_as_it_is(offset, &buffer, alignment);
        let buffer = if stays_lent { buffer } else { buffer.into_owned() };
        let end = offset + u64::try_from(buffer.len()).expect("a length");
        Self::new(offset..end, Some(buffer), Intent::Store, durability)
    }

    pub(super) fn trim(offset: u64, length: u64, durability: Durability) -> Self {
        Self::new(offset..offset + length, None, Intent::Trim, durability)
    }

    pub(super) fn zeroes(offset: u64, length: u64, durability: Durability, space: ZeroSpace) -> Self {
        let intent = if space == ZeroSpace::Allocate { Intent::Fill } else { Intent::Erase };
        Self::new(offset..offset + length, None, intent, durability)
    }

    /// An edge's old content comes back.
    pub(super) fn accept(&mut self, piece: u32, buffer: Buffer) {
        if self.phase == Phase::ReadEdges {
            let index = usize::try_from(piece).expect("an index");
            self.edges[index].1 = Some(buffer);
        }
    }

    /// Nothing has to be unmapped in a hole, however far it reaches behind the chunk.
    fn skip_hole(&mut self, plan: &Plan) {
        let is_unmapping = matches!(self.intent, Intent::Erase | Intent::Trim) && plan.tasks.is_empty();
        if let Some(end) = plan.hole_end.filter(|_| is_unmapping) {
            let end = end.0.saturating_mul(u64::try_from(BLOCK_BYTES).expect("a small constant"));
            self.rest.start = self.rest.start.max(end.min(self.rest.end));
        }
    }

    fn next_chunk(&mut self) -> Option<Chunk> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = u64::try_from(BLOCK_BYTES).expect("a small constant");
        let grain = match self.intent {
            Intent::Store | Intent::Fill => WINDOW_BLOCKS,
            Intent::Erase | Intent::Trim => UNMAP_BLOCKS_MAX,
        };
        let start = self.rest.start;
        let end = ((start / (grain * bytes) + 1) * grain * bytes).min(self.rest.end);
        self.rest.start = end;
        Some(Chunk {
            bytes: start..end,
            blocks: LogicalBlock(start / bytes)..LogicalBlock(end.div_ceil(bytes)),
            intent: self.intent,
        })
    }
}

impl Channel {
    pub(super) fn step_update(&mut self, index: usize, slot: &mut Slot) -> Flow {
        let live = slot.attachment.live().clone();
        if let Some(failure) = slot.failed {
            return self.fail_update(slot, &live, failure);
        }
        match update_of(slot).phase {
            Phase::Lock => self.lock_chunk(slot, &live),
            Phase::Plan => self.plan_chunk(index, slot, &live),
            Phase::Grace(number) => {
                if !self.core.grace.is_over(number) {
                    return Flow::Parked;
                }
                let update = update_of(slot);
                (update.graced, update.phase) = (true, Phase::Plan);
                Flow::Again
            }
            Phase::ReadEdges => self.write_chunk(index, slot),
            Phase::Write => {
                update_of(slot).phase = Phase::Publish;
                Flow::Again
            }
            Phase::Publish => self.publish_chunk(index, slot, &live),
            Phase::Durable(number) => self.wait_durable(slot, number),
        }
    }

    fn lock_chunk(&mut self, slot: &mut Slot, live: &Live) -> Flow {
        let update = update_of(slot);
        if update.chunk.is_none() {
            update.chunk = update.next_chunk();
        }
        let Some(chunk) = &update.chunk else {
            update.phase = Phase::Durable(None);
            return Flow::Again;
        };
        if self.core.is_poisoned() {
            return Flow::Done(Err(RequestError::Poisoned));
        }
        if self.core.closing.load(Ordering::SeqCst) {
            return Flow::Done(Err(RequestError::ShuttingDown));
        }
        if !mutants::active(Mutant::NoRangeLock) {
            let Some(ticket) = live.ranges.lock().try_lock(chunk.blocks.clone()) else {
                return self.wait_for_range(slot);
            };
            live.locked_ranges.fetch_add(1, Ordering::SeqCst);
            update.ticket = Some(ticket);
        }
        update.phase = Phase::Plan;
        Flow::Again
    }

    /// Whoever has the range may wait for space: nobody who is to end waits for that.
    fn wait_for_range(&self, slot: &Slot) -> Flow {
        if slot.attachment.is_done_waiting() && self.core.space_waits.waiting() > 0 {
            return Flow::Done(Err(RequestError::OutOfSpace));
        }
        Flow::Aside
    }

    fn plan_chunk(&mut self, index: usize, slot: &mut Slot, live: &Live) -> Flow {
        if self.core.is_poisoned() {
            return self.fail_update(slot, live, RequestError::Poisoned);
        }
        self.enter_epoch(slot);
        if live.is_gate_closed() {
            self.leave_epoch(slot);
            return Flow::Parked;
        }
        let update = update_of(slot);
        let chunk = update.chunk.clone().expect("a chunk is locked");
        if update.content.is_none() {
            update.content = take_content(&mut update.data, &chunk, self.core.device.alignment());
        }
        let plan = {
            let content = match &update_of(slot).content {
                None => Content::Zeros,
                Some(content) if content.is_lent() => Content::Data,
                Some(content) => Content::Bytes(own_bytes(content, &chunk)),
            };
            self.plan(live, &chunk, content)
        };
        let plan = match plan {
            Ok(plan) => plan,
            Err(Missing(pointer)) => return self.fetch_node(index, slot, pointer),
        };
        let update = update_of(slot);
        update.changes.clear();
        if plan.grows
            && let Some(stop) = self.metadata_stop()
        {
            return self.wait_for_space(slot, live, stop);
        }
        let update = update_of(slot);
        if let Err(stop) = take_blocks(&self.core, live, update, &plan.tasks, plan.neighbour) {
            give_back(&self.core, update);
            return self.wait_for_space(slot, live, stop);
        }
        let update = update_of(slot);
        if let Some(wait) = &mut update.space_wait {
            wait.interrupt();
        }
        update.skip_hole(&plan);
        update.tasks = plan.tasks;
        update.edges = plan.edges.into_iter().map(|edge| (edge, None)).collect();
        if !update.graced && update.edges.iter().any(|(edge, _)| edge.in_place) {
            // Only the lock is kept: a snapshot may seal these blocks meanwhile, so the chunk is planned again.
            give_back(&self.core, update);
            let number = self.core.grace.want(&self.core);
            update.phase = Phase::Grace(number);
            self.leave_epoch(slot);
            return Flow::Parked;
        }
        update.phase = Phase::ReadEdges;
        self.read_edges(index, slot)
    }

    fn read_edges(&mut self, index: usize, slot: &mut Slot) -> Flow {
        let sources: Few<Option<BlockAddress>> =
            update_of(slot).edges.iter().map(|(edge, _)| edge.source).collect();
        for (number, source) in (0_u32..).zip(sources) {
            if let Some(address) = source {
                self.push_read(index, slot, number, address.byte_offset(), Buffer::uncleared(BLOCK_BYTES));
            }
        }
        if slot.pending == 0 { self.write_chunk(index, slot) } else { Flow::Device }
    }

    /// Completes the partly written blocks and writes everything where it goes.
    fn write_chunk(&mut self, index: usize, slot: &mut Slot) -> Flow {
        let chunk = update_of(slot).chunk.clone().expect("a chunk is locked");
        let fits = self.fits_device(&chunk);
        let update = update_of(slot);
        let tasks = std::mem::take(&mut update.tasks);
        update.phase = Phase::Write;
        let Some(mut content) = update.content.take() else { return Flow::Again };
        for (edge, old) in std::mem::take(&mut update.edges) {
            complete_edge(&mut content, &chunk, edge, old);
        }
        let mut writes: Few<(LogicalBlock, LogicalBlock, BlockAddress, bool)> = Few::new();
        for task in &tasks {
            if let Task::InPlace { blocks, address } = task {
                writes.push((blocks.start, blocks.end, *address, true));
            }
        }
        for change in &update.changes {
            if let Change::Map { start, length, address } = *change {
                let end = start + u64::from(length);
                writes.push((LogicalBlock(start), LogicalBlock(end), BlockAddress(address), false));
            }
        }
        writes.sort_unstable_by_key(|(start, ..)| *start);
        let mut at = chunk.blocks.start;
        for (start, end, address, in_place) in writes {
            content = skip(content, at, start);
            let rest = content.split_off(bytes_of(end.0 - start.0));
            let part = std::mem::replace(&mut content, rest);
            let (offset, part) = if in_place && fits {
                trimmed(part, start, address, &chunk)
            } else {
                (address.byte_offset(), part)
            };
            self.push_write(index, slot, offset, part, Durability::Cached);
            at = end;
        }
        if slot.pending == 0 { Flow::Again } else { Flow::Device }
    }

    fn publish_chunk(&mut self, index: usize, slot: &mut Slot, live: &Arc<Live>) -> Flow {
        // Everything is on the device: a chunk that waits here holds no block anybody else may free.
        self.enter_epoch(slot);
        let update = update_of(slot);
        if !update.changes.is_empty() {
            let published =
                self.core.publish(self.shared.lane, live, &self.nodes, &update.changes, &update.fresh);
            match published {
                Ok(_) => {}
                Err(Stalled::Missing(Missing(pointer))) => return self.fetch_node(index, slot, pointer),
                Err(Stalled::TailFull) => {
                    self.leave_epoch(slot);
                    self.core.want_commit();
                    return Flow::Parked;
                }
                Err(Stalled::Credits) => {
                    self.leave_epoch(slot);
                    self.core.need(|needs| needs.checkpoint = true);
                    return Flow::Parked;
                }
                Err(Stalled::Poisoned) => return self.fail_update(slot, live, RequestError::Poisoned),
                Err(Stalled::Closing) => return self.fail_update(slot, live, RequestError::ShuttingDown),
            }
        }
        let update = update_of(slot);
        update.fresh.clear();
        update.changes.clear();
        update.content = None;
        update.chunk = None;
        update.graced = false;
        update.phase = Phase::Lock;
        update.published = update.published.wrapping_add(1);
        let has_its_turn = !update.published.is_multiple_of(CHUNKS_MAX);
        unlock(&self.core, update, live);
        self.leave_epoch(slot);
        if has_its_turn { Flow::Again } else { Flow::Rest }
    }

    fn wait_durable(&mut self, slot: &mut Slot, number: Option<CommitNumber>) -> Flow {
        let update = update_of(slot);
        if update.durability == Durability::Cached || mutants::active(Mutant::FuaIgnored) {
            return Flow::Done(Ok(Payload::None));
        }
        if self.core.is_poisoned() {
            return Flow::Done(Err(RequestError::Poisoned));
        }
        match number {
            None => update.phase = Phase::Durable(Some(self.core.want_commit())),
            Some(number) if self.core.is_committed(number) => return Flow::Done(Ok(Payload::None)),
            Some(_) => {}
        }
        Flow::Parked
    }

    pub(super) fn fail_update(&mut self, slot: &mut Slot, live: &Live, failure: RequestError) -> Flow {
        let update = update_of(slot);
        give_back(&self.core, update);
        unlock(&self.core, update, live);
        Flow::Done(Err(failure))
    }
}

/// Undoes what a request holds when its channel goes away.
pub(super) fn abandon(core: &Core, mut slot: Slot, shared: &ChannelShared) {
    let live = slot.attachment.live().clone();
    if let Work::Update(update) = &mut slot.work {
        give_back(core, update);
        unlock(core, update, &live);
    }
    if let Some(epoch) = slot.epoch.take() {
        shared.epochs.leave(epoch);
    }
}

pub(super) fn update_of(slot: &mut Slot) -> &mut Update {
    let Work::Update(update) = &mut slot.work else { unreachable!("the caller matched on the work") };
    update
}

fn unlock(core: &Core, update: &mut Update, live: &Live) {
    if let Some(ticket) = update.ticket.take() {
        let waited_for = live.ranges.lock().unlock(ticket);
        live.locked_ranges.fetch_sub(1, Ordering::SeqCst);
        if waited_for {
            core.announce();
        }
    }
}

/// Blocks that were taken and not published were never seen by anybody.
fn give_back(core: &Core, update: &mut Update) {
    let mut groups = core.groups.lock();
    update.fresh.drain(..).for_each(|run| groups.unreserve(run));
}

/// Takes blocks for every fresh run and notes the changes of the map, in the order of the tasks.
fn take_blocks(
    core: &Core,
    live: &Live,
    update: &mut Update,
    tasks: &[Task],
    neighbour: Option<cow_tree::Mapping>,
) -> Result<(), NoRun> {
    for task in tasks {
        match task {
            Task::InPlace { .. } => {}
            Task::Unmap { blocks } => {
                let length = blocks.end.0 - blocks.start.0;
                update.changes.push(Change::Unmap { start: blocks.start.0, length });
            }
            Task::Fresh { blocks } => {
                let mut at = blocks.start;
                while at < blocks.end {
                    let remembered = live.window(at);
                    let placement = Placement {
                        hint: remembered.or_else(|| beside(neighbour?, at)),
                        offset_in_window: u32::try_from(at.0 % WINDOW_BLOCKS).expect("less than a window"),
                    };
                    let wanted = BlockCount(blocks.end.0 - at.0);
                    let mut groups = core.groups.lock();
                    let run = groups.reserve(GroupKind::Data, wanted, placement)?;
                    let kept = placement.hint.filter(|hint| groups.is_one_window(*hint, run.address));
                    drop(groups);
                    if kept.is_none() || remembered.is_none() {
                        live.remember_window(at, kept.unwrap_or(run.address));
                    }
                    update.fresh.push(run);
                    let length = u32::try_from(run.length.0).expect("a chunk is short");
                    update.changes.push(Change::Map { start: at.0, length, address: run.address.0 });
                    at = LogicalBlock(at.0 + run.length.0);
                }
            }
        }
    }
    Ok(())
}

/// Where a block would join what is mapped in its window: at the same distance as in the volume.
fn beside(mapping: cow_tree::Mapping, at: LogicalBlock) -> Option<BlockAddress> {
    let windows = mapping.start.0 / WINDOW_BLOCKS..mapping.end().0.div_ceil(WINDOW_BLOCKS);
    if !windows.contains(&(at.0 / WINDOW_BLOCKS)) {
        return None;
    }
    mapping.address.0.checked_add(at.0)?.checked_sub(mapping.start.0).map(BlockAddress)
}
