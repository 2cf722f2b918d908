//! The bounds of this door.

use std::time::Duration;

/// The unit in which virtio-blk counts, in bytes (virtio 1.2, section 5.2).
pub(crate) const SECTOR_BYTES: u64 = 512;
/// Rings an export offers at most.
pub const QUEUES_MAX: u16 = 16;
/// Entries of a ring at most; a power of two.
pub(crate) const QUEUE_SIZE_MAX: u16 = 1024;
/// Data segments a driver may use in one request: what a ring of 128 entries holds beside header and status.
pub(crate) const SEGMENTS_MAX: u32 = 126;
/// Bytes of one segment.
pub(crate) const SEGMENT_BYTES_MAX: u32 = 128 << 10;
/// Bytes of data the engine gets at a time: a request of as many segments as offered, each as long as it may be.
pub(crate) const PART_BYTES_MAX: u32 = SEGMENTS_MAX * SEGMENT_BYTES_MAX;
/// Bytes of data in one request: the most whole sectors whose length, and a status byte, a used ring can tell.
pub(crate) const TRANSFER_BYTES_MAX: u32 = u32::MAX - 511;
/// Descriptors one request may have, its indirect table included.
pub(crate) const DESCRIPTORS_MAX: u16 = QUEUE_SIZE_MAX;
/// Sectors of one discard or write-zeroes: 1 GiB.
pub(crate) const DISCARD_SECTORS_MAX: u32 = 1 << 21;
/// Bytes a worker holds for requests in flight before it takes no more.
pub(crate) const WORKER_BYTES_MAX: u64 = 64 << 20;
/// Bytes of one ring's requests that wait for space before it is not taken from any more.
pub(crate) const RING_BYTES_ASIDE_MAX: u64 = 16 << 20;
/// Descriptors a worker walks of one ring before it looks at the next, the last chain not counted: 64 requests of header, one
/// segment and status. What a turn takes grows with descriptors, of which one head may have [`DESCRIPTORS_MAX`].
pub(crate) const TURN_DESCRIPTORS_MAX: usize = 64 * 3;
/// Memory regions a monitor may share.
pub(crate) const MEMORY_REGIONS_MAX: usize = 509;
/// Bytes of memory a monitor may share, in all its regions: more than any guest has.
pub(crate) const MEMORY_BYTES_MAX: u64 = 16 << 40;
/// Bytes of memory all monitors of a server may share, a table and the one that replaces it both counted. A process has 128 TiB of
/// addresses; the rest is its own.
pub(crate) const MAPPED_BYTES_MAX: u64 = 96 << 40;
/// How long a worker looks for work before it sleeps, where nothing else is said.
pub(crate) const SPIN: Duration = Duration::from_micros(50);
/// The longest sleep; nothing depends on it.
pub(crate) const SLEEP: Duration = Duration::from_secs(3600);
