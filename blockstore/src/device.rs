//! The two traits every device and its channels obey: `Device` and `IoChannel`, invariants B1 to B9.

use crate::error::{DeviceError, IoError};
use crate::operation::{Completion, Submission};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The most operations a channel holds; a larger depth asked for is cut down to it.
pub const DEPTH_MAX: usize = 4096;

/// A medium of bytes that can be read and written in aligned ranges.
pub trait Device: Send + Sync + fmt::Debug {
    /// Its size in bytes at this moment.
    fn size(&self) -> u64;

    /// What offsets, lengths and memory addresses must be multiples of, in bytes; a power of two, at most 4096.
    fn alignment(&self) -> usize;

    /// The unit in which discards free space, in bytes; `None` if the device cannot discard.
    fn discard_granularity(&self) -> Option<u64>;

    /// A path, or "ram": what an operator would recognise.
    fn description(&self) -> String;

    fn is_read_only(&self) -> bool;

    /// Whether memory that changes while it is written costs nothing but its own bytes. A disk may check what it gets
    /// against a sum of what was there a moment before, and refuse it or find it damaged later.
    fn bears_changing_memory(&self) -> bool {
        false
    }

    /// Whether transfers go on by themselves once they are submitted, as those of a disk do that are made around the page
    /// cache. Others are made by a processor: in the call, or later by a thread of the kernel.
    fn works_alone(&self) -> bool {
        false
    }

    /// Bytes that writes can still find places for by themselves, where a place found so is as good as one that was given
    /// beforehand: in memory. `None` elsewhere: [`crate::Operation::Allocate`] gives places in order, and at less cost.
    fn room_for_writes(&self) -> Option<u64> {
        None
    }

    /// A channel that takes up to `depth` operations at a time (1 to [`DEPTH_MAX`]). One thread at a time uses it.
    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError>;
}

/// A thread's own way to a device. It may be handed to another thread at any time, also with operations in flight.
/// Dropping it waits until the device has let go of every buffer.
pub trait IoChannel: Send {
    /// Takes submissions from the front while there is room and leaves the rest in the queue (B5).
    fn submit(&mut self, queue: &mut VecDeque<Submission>);

    /// Moves what has completed to `done`, or the first of it, and returns how many that were. Never blocks.
    fn poll(&mut self, done: &mut Vec<Completion>) -> usize;

    /// Returns when `poll` would find a completion, or after `timeout`. With nothing in flight it is a sleep.
    /// The simulated device never sleeps.
    fn wait(&mut self, timeout: Duration) -> Result<(), IoError>;

    /// Readable when `poll` would find something (and sometimes when not). `None` means that completions are
    /// ready when `submit` returns. The descriptor is the same for the channel's whole life.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Operations submitted whose completion was not yet polled.
    fn in_flight(&self) -> usize;

    /// Operations that the device works on alone ([`Device::works_alone`]) and has not answered: while they are few, it should hear
    /// of others at once, and not together with those that are still being made ready. `None` where there is nothing to be gained,
    /// or the kernel is too busy.
    fn under_way(&mut self) -> Option<usize> {
        None
    }

    /// Whether `poll` is to be called again without waiting: it has left completions behind, of which those do not hear who wait for
    /// the descriptor to change, or the kernel was too busy to take some of what was submitted.
    fn is_unfinished(&self) -> bool {
        false
    }
}

pub(crate) fn clamp_depth(depth: usize) -> usize {
    depth.clamp(1, DEPTH_MAX)
}
