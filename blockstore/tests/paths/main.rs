//! Devices from paths: what can be opened and made, who may have it, and what happens when the file system, the
//! kernel or somebody else does not play along.

mod block;
mod changing;
mod child;
mod create;
mod denied;
mod drive;
mod early;
mod kinds;
mod lock;
#[path = "../loop_device/mod.rs"]
mod loop_device;
mod short;
mod space;
mod trust;
