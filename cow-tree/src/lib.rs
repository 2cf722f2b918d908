//! The copy-on-write B+tree of Offshoot.
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
pub use node::Node;
pub use page::{EXTENTS_MAX, INNER_ENTRIES_MAX, LEVEL_MAX, RECORD_BYTES_MAX, RECORDS_MAX};
pub use pinned::Pinned;
pub use pointer::{Dropped, Mapping, Missing, Pointer};
pub use record_leaf::{Record, RecordLeaf};
pub use sweep::SweepStep;
pub use thin::Thinning;
pub use tree::{Nodes, Tree};
pub use walk::{Ahead, Entries, Fault, Visited, Walk};
