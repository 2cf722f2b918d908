//! Every bound of the door. What a client can make the server hold is a sum of these.

use std::time::Duration;

/// Longest string of the protocol, in bytes ("Values" of the specification).
pub(crate) const NAME_BYTES_MAX: usize = 4096;
/// Option data that is looked at: a name of full length and room for queries.
pub(crate) const OPTION_DATA_BYTES_MAX: u32 = 16 << 10;
/// Option data that is read and thrown away to keep a clumsy client in step; with more it is cut off.
pub(crate) const OPTION_SKIP_BYTES_MAX: u32 = 1 << 20;
/// Options before a connection must have chosen an export.
pub(crate) const OPTIONS_MAX: u32 = 4096;
/// Human text of an error, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 256;
/// Payload of one read or write, in bytes; advertised to clients.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 32 << 20;
/// Payload of a refused write that is read and thrown away; with more the client is cut off.
pub(crate) const PAYLOAD_SKIP_BYTES_MAX: u32 = 64 << 20;
/// Smallest and best request, in bytes; advertised to clients.
pub(crate) const BLOCK_BYTES_MIN: u32 = 1;
pub(crate) const BLOCK_BYTES_PREFERRED: u32 = 4096;
/// Descriptors of one block status reply. The specification allows 2^20.
pub(crate) const STATUS_DESCRIPTORS_MAX: usize = 8192;
/// What a block status request counts for among the bytes in flight, for each context.
pub(crate) const STATUS_BYTES: u32 = 128 << 10;
/// What zeroes hold in memory at most, in bytes: the engine's longest chunk.
pub(crate) const ZEROES_BYTES: u64 = 4 << 20;
/// Queries of one option, and snapshots an export offers as contexts: the newest.
pub(crate) const QUERIES_MAX: usize = 256;
pub(crate) const POINTS_MAX: usize = 256;
/// Zeros of at least this many bytes inside a read become a hole of the reply.
pub(crate) const HOLE_BYTES_MIN: usize = 32 << 10;
/// What one receive may bring, and what one send may carry: of copied data, and of data that is sent from where it is. In bytes.
pub(crate) const RECEIVE_BYTES: usize = 256 << 10;
pub(crate) const STAGE_BYTES: usize = 256 << 10;
/// A run of a read's data that is longer is sent from where it is; to copy a shorter one costs less than a call of its own.
pub(crate) const COPIED_BYTES_MAX: usize = 32 << 10;
/// What a Unix socket is asked to hold of what its client has not taken yet.
pub(crate) const SEND_BUFFER_BYTES: usize = 512 << 10;
/// Sent without a break before the other connections of the thread get their turn, in bytes.
pub(crate) const UNBROKEN_BYTES_MAX: usize = 1 << 20;
/// Payload in flight of one connection where a processor makes every transfer: what is read long before it is sent has left
/// the processor's cache by then.
pub(crate) const CACHED_BYTES_IN_FLIGHT: u64 = 512 << 10;
/// What one receive of TLS may bring, in bytes: some records of it.
pub(crate) const TLS_RECEIVE_BYTES: usize = 64 << 10;
/// Memory for receiving during the handshake: an option header with its data.
pub(crate) const HANDSHAKE_RECEIVE_BYTES: usize = 32 << 10;

/// Bounds an operator may change.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of the whole server that have an export; one more is refused its export.
    pub connections_max: usize,
    /// Connections of one worker that have none yet; for one more the oldest of them is cut.
    pub handshakes_max: usize,
    /// From accept to the transmission phase.
    pub handshake_deadline: Duration,
    /// How long a client may leave a reply unread.
    pub write_stall: Duration,
    /// How long a shutdown waits for requests in flight.
    pub drain_deadline: Duration,
    /// Requests of one connection between their header and their reply. At the bound the socket is not read.
    pub requests_in_flight: u32,
    /// Payload of those requests, in bytes; at least one request always fits. No more than [`CACHED_BYTES_IN_FLIGHT`] counts where
    /// a processor makes the transfers.
    pub bytes_in_flight: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            handshakes_max: 256,
            handshake_deadline: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            drain_deadline: Duration::from_secs(5),
            requests_in_flight: 128,
            bytes_in_flight: 64 << 20,
        }
    }
}

/// A 32-bit length as a size in memory.
pub(crate) fn bytes(length: u32) -> usize {
    usize::try_from(length).expect("memory sizes have at least 32 bits on every target of this crate")
}

const _: () = assert!(HANDSHAKE_RECEIVE_BYTES >= 16 + OPTION_DATA_BYTES_MAX as usize);
const _: () = assert!(STATUS_BYTES as usize >= 16 * STATUS_DESCRIPTORS_MAX);
const _: () = assert!(STATUS_DESCRIPTORS_MAX <= 1 << 20);
