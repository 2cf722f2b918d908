//! Aligned asynchronous block I/O: the devices below a pool.
//!
//! A [`Device`] is a line of bytes that can be read and written in aligned ranges. A thread opens an [`IoChannel`]
//! on it, hands over [`Submission`]s and collects [`Completion`]s. Files and block devices are served through
//! io_uring, plain system calls or a memory map, whichever suits the medium; [`RamDevice`] keeps its bytes in memory;
//! [`simulated`] devices fail, and lose power, as a seed tells them to; a [`Span`] is several devices in one space of offsets.
//! Whatever the medium, the contract is the same, and one conformance suite holds every device to it.
//!
//! ```text
//!   caller                                device
//!   Buffer --> Submission --> submit() --> checked, then in flight   (at most `depth` a channel)
//!   Buffer <-- Completion <-- poll()   <-- done, exactly once
//!                             wait(), descriptor() and is_unfinished() say when to poll
//! ```
//!
//! It is not a cache, not a scheduler and not a RAID: it keeps no data of its own, starts no threads, retries
//! nothing that failed, and knows nothing of pools and volumes.
//!
//! # Invariants
//!
//! * **B1, order.** Operations in flight together may take effect in any order, also on overlapping ranges, and
//!   also across channels; each sector then has the bytes of one of them. An operation submitted after another's completion was polled takes effect after it, on
//!   whichever channel; so a read sees every write that had completed before it.
//! * **B2, durability.** A write with `Durability::Cached` may be lost or torn by a power cut, sector by sector,
//!   until a flush, submitted on any channel after the write's completion was polled, has succeeded. A flush promises
//!   nothing about what was still in flight when it was submitted. A write with `Durability::Through` is durable
//!   when it completes and says nothing about other writes. Discards, zeroes and allocations become durable like
//!   cached writes, a resize when it completes. The death of the process alone loses nothing that had completed,
//!   except on media in memory.
//! * **B3, legality.** An operation is refused when its range is empty, misaligned or ends behind the device, when
//!   the device is read-only and it would change something, or when the medium has no such operation. Every device
//!   refuses with the same error, and what is refused has no effect. A resize concerns operations submitted after it;
//!   what is in flight behind the new end of a shrinking device may fail or undo it.
//! * **B4, ownership.** From `submit` to `poll` the device owns a buffer, and nobody else can look at it, unless its
//!   memory is a [`Loan`]. A read that failed leaves arbitrary bytes in it.
//! * **B5, bounds.** A channel holds at most `depth` operations, those with unpolled completions included. What does
//!   not fit stays in the caller's queue, in order and untouched.
//! * **B6, one answer.** Each submission taken gets exactly one completion, with its token, with its buffer if it had
//!   one, whatever the result. Dropping a channel waits for what is in flight; those answers are never seen.
//! * **B7, zeros.** A range that was discarded or zeroed, or by which the device grew, reads as zeros until it is
//!   written, whatever was there before. A discard may free the range's place and a later write to it may run out of
//!   space; a zeroed or allocated range keeps its place. When the operation fails, each sector has old bytes or zeros.
//! * **B8, one owner.** A device opened from a path is locked before its first byte is read: for writing, against
//!   everybody; for reading, against writers. The lock belongs to the open file the I/O itself goes through, so it
//!   outlasts the process until its last operation has ended. If somebody cuts the medium all the same, reading
//!   what is gone gives an error and not zeros, until something is written behind it.
//! * **B9, no second chance.** After a flush that failed, every later flush of the device fails with
//!   [`IoError::FlushFailed`], on every channel, until the device is opened anew; so nobody takes the next flush's
//!   success for the durability of what the failed one has lost. The same holds after any other change that failed
//!   in the medium, unless everything else is known to be as it was: the medium was full, or has no such operation, or
//!   lent memory was gone.

mod buffer;
mod device;
mod error;
mod file;
mod immediate;
mod legality;
mod mapped;
mod open;
mod operation;
mod ram;
pub mod simulated;
mod span;
mod trust;
mod uring;

pub use buffer::{BUFFER_ALIGNMENT, Buffer, Loan, is_zero};
pub use device::{DEPTH_MAX, Device, IoChannel};
pub use error::{DeviceError, IoError};
pub use file::is_in_memory;
pub use open::{Access, Engine, OpenOptions, create, open};
pub use operation::{Completion, Durability, Operation, OperationKind, Submission, Token};
pub use ram::RamDevice;
pub use span::{MEMBER_BITS, MEMBERS_MAX, Span};
