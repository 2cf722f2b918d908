//! What a simulated device is like, and which faults are planned for it.

use super::chance::Chance;

/// The unit that a power cut never tears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Atomicity {
    /// There is none: the sector being written may be garbage.
    Nothing,
    /// 512 bytes.
    Sector,
    /// 4096 bytes.
    Block,
}

/// In which order a channel's operations complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompletionOrder {
    Submission,
    /// Any, as the seed says.
    Any,
}

/// What the device says to flushes after one that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AfterFailedFlush {
    /// They fail, as B9 promises.
    Fail,
    /// They succeed and what the failed one lost is lost: kernels did that. Breaks B9 on purpose.
    Lie,
}

/// Whether the device can discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Discards {
    Supported,
    Unsupported,
}

/// Something that goes wrong once. `nth` counts operations of that kind on all channels, the first is 0; operations
/// that are refused do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// EIO.
    ReadError { nth: u64 },
    /// EIO, and nothing of the write happened.
    WriteError { nth: u64 },
    /// EIO, and some sectors of the write happened: cache and medium are apart, so no later flush can be believed.
    WriteTorn { nth: u64 },
    /// EIO. Of the writes it should have made durable each is durable or will never be, while reads show them all.
    FlushError { nth: u64 },
    /// The flush succeeds and makes nothing durable.
    FlushIgnored { nth: u64 },
    /// The write succeeds and never happens.
    WriteLost { nth: u64 },
    /// The write lands `by` bytes behind its place, or so many from the start if that is behind the end.
    WriteMisdirected { nth: u64, by: u64 },
    /// The read returns what is `by` bytes behind its place.
    ReadMisdirected { nth: u64, by: u64 },
}

/// A device's nature. The default is an honest device with a volatile cache, sectors that do not tear, and
/// completions in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Bytes: a power of two, 512 to 4096.
    pub alignment: usize,
    pub atomicity: Atomicity,
    pub order: CompletionOrder,
    /// An operation completes in the poll after its submission, or up to this many polls later.
    pub latency_polls_max: u64,
    /// Discards take this many polls longer than other operations.
    pub discard_delay_polls: u64,
    /// One read or write in eight takes this many polls longer than others.
    pub straggler_delay_polls: u64,
    pub discards: Discards,
    /// How many bytes find a place, in pages of 4 KiB; `None`: all of them.
    pub capacity: Option<u64>,
    /// Whether writes find places as well as [`crate::Operation::Allocate`] does.
    pub writes_find_room: bool,
    pub after_failed_flush: AfterFailedFlush,
    pub faults: Vec<Fault>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            alignment: 512,
            atomicity: Atomicity::Sector,
            order: CompletionOrder::Submission,
            latency_polls_max: 0,
            discard_delay_polls: 0,
            straggler_delay_polls: 0,
            discards: Discards::Supported,
            capacity: None,
            writes_find_room: false,
            after_failed_flush: AfterFailedFlush::Fail,
            faults: Vec::new(),
        }
    }
}

impl Profile {
    /// Some device without faults: every seed another nature.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let atomicity = match chance.below(3) {
            0 => Atomicity::Nothing,
            1 => Atomicity::Sector,
            _ => Atomicity::Block,
        };
        let order = if chance.coin() { CompletionOrder::Submission } else { CompletionOrder::Any };
        Self {
            atomicity,
            order,
            latency_polls_max: chance.below(4),
            discard_delay_polls: chance.below(2) * 8,
            straggler_delay_polls: chance.below(2) * 40,
            discards: if chance.below(4) == 0 { Discards::Unsupported } else { Discards::Supported },
            writes_find_room: chance.coin(),
            ..Self::default()
        }
    }
}
