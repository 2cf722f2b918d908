//! Thin pools: layers, the allocator, the journal, checkpoints, recovery, volumes, snapshots and clones.
//!
//! What it is: everything that decides. A pool is opened with [`open`], which recovers it and returns a [`Pool`] to
//! ask things of and a [`Keeper`] that does the background work; doors send guest requests through a [`Channel`] each.
//! What it is not: it does no I/O but through a [`blockstore::Device`], knows no clock, makes no threads except the one
//! a [`Service`] is, and speaks no protocol.
//!
//! ```text
//!   door            Pool::run(Command)                       one thread, or the simulation
//!     | Request          |                                          |
//!  Channel ----+------ Core ------------------------------------- Keeper
//!   slots,     |   catalog: names, layers, who depends on whom       commit      cut -> flush -> journal -> flush
//!   lookups,   |   groups: which block is free                       checkpoint  freeze -> trees -> superblock
//!   own I/O    |   staging + crash tail: what a restart replays      reclaim     free, absorb, thin
//!              +-- Live: one open layer, its lock, its ranges        quarantine  freed -> durable -> drained -> free
//! ```
//!
//! Invariants, cited by number; P1 to P4 in `core`, G1 to G7 in `groups`, J1 to J4 in `journal`, L1 to L4 in `tail`,
//! S1 to S4 in `superblock`, M1 in `mark`, C1 to C4 in `catalog`:
//! * R1 Ownership: a block is owned by the layer that allocated it; a layer's tree reaches its own blocks and blocks its
//!   direct dependencies reach, nothing else; whatever a layer owns it reaches. `check` proves it.
//! * R2 A tag is never reused while a block bears it: lines and layers are numbered for the life of the pool.
//! * R3 A block is mapped at one logical address only, the one it was allocated for.
//! * R4 Recovery writes nothing that a second crash would not find harmless: it replays in memory, then checkpoints.

mod attachment;
mod body;
mod catalog;
mod channel;
mod check;
mod codec;
mod command;
mod core;
mod create;
mod devices;
mod epoch;
mod error;
mod geometry;
mod grace;
mod groups;
mod ids;
mod join;
mod journal;
mod keeper;
mod label;
mod limits;
mod live;
mod mark;
mod members;
mod meta;
mod mutants;
mod name;
mod node_cache;
mod opening;
mod ownership;
mod poison;
mod pool;
mod range_lock;
mod record;
mod recovery;
#[cfg(feature = "fuzzing")]
pub mod rehearsal;
mod replay;
mod request;
mod root;
mod service;
mod space_waits;
mod staging;
mod superblock;
mod tail;
mod ticket;
mod wake;
mod whereabouts;
mod windows;

pub use attachment::{Access, Attachment};
pub use channel::Channel;
pub use check::CheckReport;
pub use command::{Command, DeviceStatus, Entry, EntryKind, Outcome, Status};
pub use create::{CreateOptions, create, create_all};
pub use error::Error;
pub use geometry::{DEVICES_MAX, GeometryError, GeometryOptions};
pub use ids::DeviceId;
pub use join::NewDevice;
pub use keeper::Keeper;
pub use label::{FORMAT_VERSION, Foreign, Label, LabelError, POOL_NAME_BYTES_MAX};
pub use limits::Limits;
pub use members::{Member, MemberError, Roster, roster};
pub use mutants::Mutant;
#[cfg(feature = "mutants")]
pub use mutants::choose as choose_mutant;
pub use name::{NAME_BYTES_MAX, Name, NameError};
pub use opening::{Opening, open, open_all};
pub use pool::Pool;
pub use request::{
    Action, ChangeStatus, Depths, ExtentKind, ExtentStatus, Payload, Reply, Request, RequestError, ZeroSpace,
};
pub use service::Service;
pub use tail::{
    Incarnation, LANE_BYTES_MAX, LANE_BYTES_MIN, LANES_MAX, Shape, Tail, TailContents, TailError, TailImage,
};
pub use ticket::Ticket;
pub use whereabouts::remember_paths;
