//! What one chunk of a slow write has to do, decided by one lookup under its range lock.

use super::Channel;
use crate::body::LayerBody;
use crate::live::Live;
use crate::ownership::Standing;
use crate::windows::WINDOW_BLOCKS;
use cow_tree::units::{BLOCK_BYTES, BlockAddress, LogicalBlock};
use cow_tree::{Found, Mapping, Missing};
use smallvec::SmallVec;
use std::ops::Range;

/// Mappings that are looked at for one of the volume's own, with its lock held.
const LOOKS_MAX: usize = 64;

/// A list of what belongs to one chunk: nearly always of one, which needs no memory of its own.
pub(super) type Few<T> = SmallVec<[T; 1]>;

/// What the guest wants of the bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// Store them; whole blocks of zeros that are not owned need no space.
    Store,
    /// Store zeros and keep the space.
    Fill,
    /// Read as zeros, space given back; partial blocks are filled with zeros where they are mapped.
    Erase,
    /// Whole blocks are given back; partial ones stay as they are.
    Trim,
}

/// The bytes of a request that lie in one chunk, and the blocks they touch.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// Volume offsets in bytes.
    pub(super) bytes: Range<u64>,
    pub(super) blocks: Range<LogicalBlock>,
    pub(super) intent: Intent,
}

/// The bytes of a chunk, as far as they decide what is to be done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    /// The guest gave none: they are zeros.
    Zeros,
    /// No block of them is all zeros.
    Data,
    Bytes(&'a [u8]),
}

/// What the map says about one block run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// May be overwritten in place at this address.
    Owned(BlockAddress),
    /// Somebody else's, or not yet to be overwritten.
    Foreign(BlockAddress),
    Hole,
}

/// One thing to do; blocks are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// Overwrite these blocks where they are.
    InPlace { blocks: Range<LogicalBlock>, address: BlockAddress },
    /// Take new blocks for these.
    Fresh { blocks: Range<LogicalBlock> },
    /// Map nothing there any more.
    Unmap { blocks: Range<LogicalBlock> },
}

/// The old content of a block the guest writes only partly: read from there, or zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) block: LogicalBlock,
    pub(super) source: Option<BlockAddress>,
    /// The block is overwritten in place, and the device cannot write the guest's bytes without others: writes in flight
    /// must end before its old content is read (A9).
    pub(super) in_place: bool,
}

/// The plan of one chunk.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) tasks: Few<Task>,
    pub(super) edges: Few<Edge>,
    /// Whether it needs metadata that was not there before: new blocks, or holes in what others own.
    pub(super) grows: bool,
    /// End of the hole that the chunk ends in.
    pub(super) hole_end: Option<LogicalBlock>,
    /// An own mapping in the window of the chunk, for placement; only looked for when the volume does not remember the
    /// window's place.
    pub(super) neighbour: Option<Mapping>,
}

impl Chunk {
    fn covers(&self, block: LogicalBlock) -> bool {
        let bytes = u64::try_from(BLOCK_BYTES).expect("a small constant");
        self.bytes.start <= block.0 * bytes && (block.0 + 1) * bytes <= self.bytes.end
    }

    fn is_zero(&self, content: Content<'_>, block: LogicalBlock) -> bool {
        let content = match content {
            Content::Zeros => return true,
            Content::Data => return false,
            Content::Bytes(content) => content,
        };
        let bytes = u64::try_from(BLOCK_BYTES).expect("a small constant");
        let start = usize::try_from(block.0 * bytes - self.bytes.start).expect("within the chunk");
        content[start..start + BLOCK_BYTES].iter().all(|byte| *byte == 0)
    }
}

impl Channel {
    pub(super) fn plan(&self, live: &Live, chunk: &Chunk, content: Content<'_>) -> Result<Plan, Missing> {
        let mut plan = Plan::default();
        let durable = self.core.durable();
        let fits = self.fits_device(chunk);
        let body = live.read();
        let mut block = chunk.blocks.start;
        while block < chunk.blocks.end {
            let (end, ground) = match body.tree.lookup(&self.nodes, block)? {
                Found::Hole { end, .. } => (end, Ground::Hole),
                Found::Mapped(mapping) => {
                    let address = mapping.address.offset_by(block.0 - mapping.start.0);
                    let end = LogicalBlock(mapping.start.0 + u64::from(mapping.length));
                    let owned = body.ownership.may_overwrite(mapping.tag, durable);
                    (end, if owned { Ground::Owned(address) } else { Ground::Foreign(address) })
                }
            };
            plan.hole_end = (ground == Ground::Hole).then_some(end);
            let end = end.min(chunk.blocks.end);
            plan_run(&mut plan, chunk, content, block..end, ground, fits);
            block = end;
        }
        let places_blocks = plan.tasks.iter().any(|task| matches!(task, Task::Fresh { .. }));
        if places_blocks && live.window(chunk.blocks.start).is_none() {
            plan.neighbour = self.neighbour(&body, chunk.blocks.start)?;
        }
        Ok(plan)
    }

    /// Whether the device can write the chunk's bytes without those beside them.
    pub(super) fn fits_device(&self, chunk: &Chunk) -> bool {
        let alignment = u64::try_from(self.core.device.alignment()).expect("small");
        chunk.bytes.start.is_multiple_of(alignment) && chunk.bytes.end.is_multiple_of(alignment)
    }

    /// The volume's first own mapping in the placement window of a block, if it is among the first [`LOOKS_MAX`] there: it
    /// shows the place of the others.
    fn neighbour(&self, body: &LayerBody, block: LogicalBlock) -> Result<Option<Mapping>, Missing> {
        let mut at = LogicalBlock(block.0 / WINDOW_BLOCKS * WINDOW_BLOCKS);
        let end = LogicalBlock(at.0 + WINDOW_BLOCKS);
        for _ in 0..LOOKS_MAX {
            let Some(mapping) = body.tree.next(&self.nodes, at)?.filter(|mapping| mapping.start < end) else {
                break;
            };
            if body.ownership.standing(mapping.tag) != Standing::Foreign {
                return Ok(Some(mapping));
            }
            at = mapping.end();
        }
        Ok(None)
    }
}

/// Plans a run of blocks of one ground, block by block where the content decides.
fn plan_run(
    plan: &mut Plan,
    chunk: &Chunk,
    content: Content<'_>,
    run: Range<LogicalBlock>,
    ground: Ground,
    fits: bool,
) {
    let mut block = run.start;
    while block < run.end {
        let next = LogicalBlock(block.0 + 1);
        let here = ground.at(block.0 - run.start.0);
        let task = if chunk.covers(block) {
            whole(chunk, content, block..next, here)
        } else {
            partial(plan, chunk, block..next, here, fits)
        };
        if let Some(task) = task {
            plan.grows |= match task {
                Task::InPlace { .. } => false,
                Task::Fresh { .. } => true,
                Task::Unmap { .. } => matches!(here, Ground::Foreign(_)),
            };
            push(&mut plan.tasks, task);
        }
        block = next;
    }
}

fn whole(chunk: &Chunk, content: Content<'_>, blocks: Range<LogicalBlock>, ground: Ground) -> Option<Task> {
    let fresh = || Some(Task::Fresh { blocks: blocks.clone() });
    match (chunk.intent, ground) {
        (Intent::Erase | Intent::Trim, Ground::Hole) => None,
        (Intent::Erase | Intent::Trim, _) => Some(Task::Unmap { blocks }),
        (Intent::Store | Intent::Fill, Ground::Owned(address)) => Some(Task::InPlace { blocks, address }),
        (Intent::Fill, _) => fresh(),
        (Intent::Store, Ground::Hole) if chunk.is_zero(content, blocks.start) => None,
        (Intent::Store, Ground::Foreign(_)) if chunk.is_zero(content, blocks.start) => {
            Some(Task::Unmap { blocks })
        }
        (Intent::Store, _) => fresh(),
    }
}

fn partial(
    plan: &mut Plan,
    chunk: &Chunk,
    blocks: Range<LogicalBlock>,
    ground: Ground,
    fits: bool,
) -> Option<Task> {
    let block = blocks.start;
    match (chunk.intent, ground) {
        (Intent::Trim, _) | (Intent::Erase, Ground::Hole) => None,
        (_, Ground::Owned(address)) => {
            if !fits {
                plan.edges.push(Edge { block, source: Some(address), in_place: true });
            }
            Some(Task::InPlace { blocks, address })
        }
        (_, Ground::Foreign(address)) => {
            plan.edges.push(Edge { block, source: Some(address), in_place: false });
            Some(Task::Fresh { blocks })
        }
        (_, Ground::Hole) => {
            plan.edges.push(Edge { block, source: None, in_place: false });
            Some(Task::Fresh { blocks })
        }
    }
}

impl Ground {
    fn at(self, blocks: u64) -> Self {
        match self {
            Ground::Owned(address) => Ground::Owned(address.offset_by(blocks)),
            Ground::Foreign(address) => Ground::Foreign(address.offset_by(blocks)),
            Ground::Hole => Ground::Hole,
        }
    }
}

/// Appends a task, joined to the last one where it goes on from it.
fn push(tasks: &mut Few<Task>, task: Task) {
    let joined = match (tasks.last_mut(), &task) {
        (Some(Task::InPlace { blocks: old, address: first }), Task::InPlace { blocks: new, address })
            if old.end == new.start && first.offset_by(old.end.0 - old.start.0) == *address =>
        {
            old.end = new.end;
            true
        }
        (Some(Task::Fresh { blocks: old }), Task::Fresh { blocks: new }) if old.end == new.start => {
            old.end = new.end;
            true
        }
        // What lies between two of them and is no task is a hole: one change of the map takes all.
        (Some(Task::Unmap { blocks: old }), Task::Unmap { blocks: new }) => {
            old.end = new.end;
            true
        }
        _ => false,
    };
    if !joined {
        tasks.push(task);
    }
}
