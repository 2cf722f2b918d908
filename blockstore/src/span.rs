//! Several devices as one: member i begins at byte i << [`MEMBER_BITS`], and is as long as it is. Between the end of one
//! and the beginning of the next there is nothing, so no operation reaches two members, and each may become longer.
//!
//! ```text
//!   0            size of 0      1 << 52          size of 1      2 << 52
//!   +--- member 0 ---+  nothing   +---- member 1 ----+  nothing   + ...
//! ```
//! A flush goes to every member that something was done to since its last flush. The members are given once and for all;
//! each is locked by whoever opened it, so all are before anything is read.

mod alarm;
mod channel;
mod ledger;

use crate::device::{Device, IoChannel};
use crate::error::DeviceError;
use crate::legality::Geometry;
use crate::operation::Operation;
use channel::SpanChannel;
use ledger::Ledger;
use std::fmt;
use std::sync::Arc;

/// Bits of an offset that count bytes within one member; those above are the member's number.
pub const MEMBER_BITS: u32 = 52;
/// Most members: offsets stay below 2^63.
pub const MEMBERS_MAX: usize = 256;

const WITHIN_MEMBER: u64 = (1 << MEMBER_BITS) - 1;

/// Several devices in one space of offsets. A new size is told as the offset of a member's new end.
pub struct Span {
    members: Arc<[Member]>,
    alignment: usize,
}

/// One of the devices, and what a flush must know of it.
struct Member {
    device: Arc<dyn Device>,
    ledger: Ledger,
}

impl Span {
    /// Panics without a device, and with more than [`MEMBERS_MAX`].
    pub fn new(devices: Vec<Arc<dyn Device>>) -> Self {
        assert!((1..=MEMBERS_MAX).contains(&devices.len()), "a span has 1 to {MEMBERS_MAX} devices");
        let alignment = devices.iter().map(|device| device.alignment()).max().expect("asserted above");
        let members = devices.into_iter().map(|device| Member { device, ledger: Ledger::default() });
        Self { members: members.collect(), alignment }
    }
}

impl Member {
    /// What an operation must keep to; the alignment is the whole span's.
    fn geometry(&self, alignment: usize) -> Geometry {
        Geometry {
            size: self.device.size(),
            alignment,
            read_only: self.device.is_read_only(),
            can_discard: self.device.discard_granularity().is_some(),
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.members.iter().map(|member| &member.device)).finish()
    }
}

impl Device for Span {
    /// The end of the last member.
    fn size(&self) -> u64 {
        let last = self.members.len() - 1;
        let start = u64::try_from(last).expect("at most MEMBERS_MAX") << MEMBER_BITS;
        start + self.members[last].device.size()
    }

    fn alignment(&self) -> usize {
        self.alignment
    }

    /// The coarsest of those that can discard.
    fn discard_granularity(&self) -> Option<u64> {
        self.members.iter().filter_map(|member| member.device.discard_granularity()).max()
    }

    fn description(&self) -> String {
        let all: Vec<String> = self.members.iter().map(|member| member.device.description()).collect();
        all.join(", ")
    }

    fn is_read_only(&self) -> bool {
        self.members.iter().any(|member| member.device.is_read_only())
    }

    fn bears_changing_memory(&self) -> bool {
        self.members.iter().all(|member| member.device.bears_changing_memory())
    }

    fn works_alone(&self) -> bool {
        self.members.iter().all(|member| member.device.works_alone())
    }

    fn open_channel(&self, depth: usize) -> Result<Box<dyn IoChannel>, DeviceError> {
        Ok(Box::new(SpanChannel::new(self.members.clone(), self.alignment, depth)?))
    }
}

/// The member an operation is for, with the operation's place made one within that member; `None` for a flush, which is
/// for all of them.
fn localize(operation: &mut Operation) -> Option<usize> {
    let place = match operation {
        Operation::Read { offset, .. }
        | Operation::Write { offset, .. }
        | Operation::Discard { offset, .. }
        | Operation::WriteZeroes { offset, .. }
        | Operation::Allocate { offset, .. } => offset,
        Operation::Resize { length } => length,
        Operation::Flush => return None,
    };
    let number = *place >> MEMBER_BITS;
    *place &= WITHIN_MEMBER;
    Some(usize::try_from(number).expect("twelve bits"))
}

#[cfg(test)]
mod tests;
