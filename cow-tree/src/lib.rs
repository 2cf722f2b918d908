//! The copy-on-write B+tree of Offshoot.
//!
//! A layer's map of logical to physical blocks is one tree; so are the catalog and the group table. Pure logic over
//! decoded nodes: no I/O, no threads, no clock. A node that is not resident comes back as [`Missing`]; the caller reads
//! its page, decodes it with [`Node::decode`], keeps it where its [`Nodes`] finds it, and asks again.
//!
//! It is not a cache, not an allocator and not a journal: it asks for a block through a closure, hands pages out
//! through a closure, and reports what it stops pointing at as [`Dropped`]. Whether a dropped block is free is decided
//! elsewhere, by the ownership rules.
//!
//! ```text
//!        live tree            sealed layer (fork)
//!            |                    |
//!       [inner, tag 1.2] ...  [inner, tag 1.1 @ 900]       a fork copies the root link, nothing else
//!        /          \           /          \
//!  [leaf, tag 1.2]   \    [leaf 1.1 @ 901]  |              a change copies the way to its leaf, once a checkpoint:
//!                     +----->  [leaf 1.1 @ 902]            after that the copies are changed in place
//!
//!  change -> assign (every new node gets a block) -> encode (pages, children first) -> settle (links become pointers)
//! ```
//!
//! Invariants, cited by number:
//! * T1: keys of a node rise strictly, entries of one leaf never overlap, and all leaves have one depth.
//! * T2: beside each link stands the first key of its subtree, exactly: it is the separator, the pointer's low key
//!   and, for the leaf before, the end of a hole. An entry never reaches over it.
//! * T3: a node is changed in place only if it has no block, bears the writer's tag, and no other tree links to it.
//!   Everything else is copied; the copy bears the writer's tag.
//! * T4: below a node that has a block every node has one.
//! * T5: below a node whose page has been made every page has been made.
//! * T6: in one leaf, neighbours that continue each other with the same owner and flags are one extent.
//! * T7: an empty tree has no root; no other node is ever empty.
//! * T8: a change happens whole, or returns [`Missing`] and has not happened.
//! * T9: what a tree stops pointing at is reported once: data cut exactly at the changed range, nodes if they have a
//!   block. Data mapped again at the same key to the same block is still pointed at.
//!
//! A neighbour that is not resident is not merged with, so a change reads only the ways down to its range; a node may
//! stay thin for that, never empty. [`Pinned`] keeps what a caller prepared resident until it has made its changes.
#![forbid(unsafe_code)]

pub mod units;

mod change;
mod checkpoint;
mod codec;
mod damage;
mod descend;
mod diff;
mod edit;
mod extent_leaf;
mod leaf;
mod limits;
mod lookup;
mod node;
mod page;
mod pinned;
mod pointer;
mod record_leaf;
mod records;
mod search;
mod sweep;
mod thin;
mod tree;
mod walk;

pub use damage::Damage;
pub use diff::{DiffStep, Difference};
pub use extent_leaf::ExtentLeaf;
pub use leaf::Leaf;
pub use limits::Limits;
pub use lookup::Found;
pub use node::{Node, NodeIdentity};
pub use page::{EXTENTS_MAX, INNER_ENTRIES_MAX, LEVEL_MAX, RECORD_BYTES_MAX, RECORDS_MAX};
pub use pinned::Pinned;
pub use pointer::{Dropped, Mapping, Missing, Pointer};
pub use record_leaf::{Record, RecordLeaf};
pub use sweep::SweepStep;
pub use thin::Thinning;
pub use tree::{Nodes, Tree};
pub use walk::{Ahead, Entries, Fault, Visited, Walk};
