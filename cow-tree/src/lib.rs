//! The copy-on-write B+tree of Offshoot.
#![forbid(unsafe_code)]

pub mod units;

mod damage;
mod limits;
mod page;
mod pointer;

pub use damage::Damage;
pub use limits::Limits;
pub use pointer::{Dropped, Mapping, Missing, Pointer};
