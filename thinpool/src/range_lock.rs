//! Ranges of a volume that somebody is changing.

use cow_tree::units::LogicalBlock;
use std::ops::Range;

/// Names one held range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeTicket(u64);

/// Held ranges; there are at most as many as requests in flight on one volume.
#[derive(Debug, Default)]
pub(crate) struct RangeLocks {
    held: Vec<(RangeTicket, Range<LogicalBlock>)>,
    next: u64,
    /// Somebody was refused since the last release.
    pub(crate) contended: bool,
}

impl RangeLocks {
    /// Takes a range unless it overlaps a held one.
    pub(crate) fn try_lock(&mut self, range: Range<LogicalBlock>) -> Option<RangeTicket> {
        if self.held.iter().any(|(_, other)| other.start < range.end && range.start < other.end) {
            self.contended = true;
            return None;
        }
        let ticket = RangeTicket(self.next);
        self.next += 1;
        self.held.push((ticket, range));
        Some(ticket)
    }

    /// Gives a range back; tells whether somebody was waiting.
    pub(crate) fn unlock(&mut self, ticket: RangeTicket) -> bool {
        self.held.retain(|(held, _)| *held != ticket);
        std::mem::take(&mut self.contended)
    }
}

#[cfg(test)]
mod tests {
    use super::RangeLocks;
    use cow_tree::units::LogicalBlock;

    #[test]
    fn overlapping_ranges_exclude_each_other_until_unlocked() {
        let mut locks = RangeLocks::default();
        let first = locks.try_lock(LogicalBlock(0)..LogicalBlock(4)).expect("nothing is held");
        assert!(locks.try_lock(LogicalBlock(3)..LogicalBlock(5)).is_none());
        assert!(locks.try_lock(LogicalBlock(4)..LogicalBlock(5)).is_some());
        assert!(locks.unlock(first), "the refused range is waiting");
        assert!(locks.try_lock(LogicalBlock(3)..LogicalBlock(4)).is_some());
    }
}
