//! One request in flight.

use super::changes::Changes;
use super::extents::Extents;
use super::flush::Flush;
use super::overwrite::Overwrite;
use super::read::Read;
use super::update::Update;
use crate::attachment::Attachment;
use crate::epoch::Epoch;
use crate::request::{Payload, RequestError};
use cow_tree::Pointer;

pub(super) struct Slot {
    pub(super) tag: u64,
    pub(super) attachment: Attachment,
    pub(super) work: Work,
    pub(super) epoch: Option<Epoch>,
    /// Device operations in flight.
    pub(super) pending: u32,
    /// The first failure among them.
    pub(super) failed: Option<RequestError>,
    /// The node being read.
    pub(super) node: Option<Pointer>,
    /// A node that did not verify: the same pointer again is damage, not a race with reuse.
    pub(super) suspect: Option<Pointer>,
}

pub(super) enum Work {
    Read(Read),
    Overwrite(Overwrite),
    /// The slow way; apart, so that all others stay small.
    Update(Box<Update>),
    Flush(Flush),
    Extents(Extents),
    Changes(Box<Changes>),
}

/// What a step leaves behind.
pub(super) enum Flow {
    /// The work changed its kind or phase: step again.
    Again,
    /// The device works; its completion drives on.
    Device,
    /// Something else must happen first.
    Parked,
    /// The same, and it may take long: it gives up its place on the channel.
    Aside,
    /// Others on the channel have their turn first.
    Rest,
    Done(Result<Payload, RequestError>),
}

impl Slot {
    pub(super) fn new(tag: u64, attachment: Attachment, work: Work) -> Self {
        Self { tag, attachment, work, epoch: None, pending: 0, failed: None, node: None, suspect: None }
    }
}
