//! Rules that a test may break on purpose, to prove that the tests would notice.
//!
//! A mutant is chosen per thread, at run time, and only in builds with the `mutants` feature; without the feature
//! [`active`] is a constant `false` and costs nothing. The first thirteen are the wrong readings of the ownership
//! rules; the others break durability, reuse and locking one rule at a time.

/// One broken rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    TrimFreesNow,
    InPlaceBeforeDurable,
    NodesInclusive,
    NodesByUpperBound,
    UnsealOnRollback,
    ReuseEarly,
    AbsorbReceiving,
    NoBorrowEdge,
    SweepFollowsLive,
    NoInherit,
    PruneNoRewrite,
    TransferSealedMid,
    AbsorbOneOfTwo,
    /// A1: the batch takes records staged after the device flush was submitted.
    CutAfterFlush,
    /// A2: the mapping is published before its record is staged.
    PublishBeforeStage,
    /// A4: a freed block is reused while requests that looked it up are in flight.
    ReuseBeforeDrained,
    /// A5: a node stays in the cache after its block was freed, and is found by address alone.
    StaleCache,
    /// A7: a failed flush is tried again and believed.
    BelieveSecondFlush,
    /// A9: partial writes do not lock their range.
    NoRangeLock,
    /// The superblock is written without a flush before it.
    NoFlushBeforeSuperblock,
    /// The journal batch is written without a flush of the data before it.
    NoFlushBeforeJournal,
    /// Nodes freed since the last checkpoint are reused before the next superblock.
    ReuseNodesEarly,
    /// A batch that is not the next one ends the journal quietly.
    JournalHoleIgnored,
    /// The tail of another incarnation is replayed.
    TailUnbound,
    /// A flush joins a commit whose device flush was submitted before it arrived.
    FlushJoinsLate,
    /// FUA is treated as an ordinary write.
    FuaIgnored,
    /// A new block is published without zeroing the part the guest did not write.
    PartialNotFilled,
    /// The snapshot does not wait for writes in flight.
    SnapshotWithoutDrain,
}

#[cfg(feature = "mutants")]
mod chosen {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Breaks one rule for everything this thread does from now on; `None` mends all.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.with(|cell| cell.set(mutant));
    }

    /// Whether this thread breaks the rule.
    pub(crate) fn active(mutant: Mutant) -> bool {
        CHOSEN.with(|cell| cell.get() == Some(mutant))
    }
}

#[cfg(feature = "mutants")]
pub(crate) use chosen::active;
#[cfg(feature = "mutants")]
pub use chosen::choose;

/// Whether this thread breaks the rule: never, in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn active(_mutant: Mutant) -> bool {
    false
}
