//! Whether a device's flushes can still be believed (B9).
//!
//! After a failed flush the kernel, or the disk, may have dropped what the flush was to write, and will say so only
//! once: the next flush succeeds with the data gone. A failed write is as bad when it was dropped behind a cache that
//! the next flush finds clean. So one device-wide mark is set by the first such failure and never taken back.
//!
//! A write that ran out of space, or whose lent memory its lender took away, is an honest refusal and sets no mark: its
//! range has old or new bytes, its caller knows, and nothing else is touched. A failed read changes nothing.

use crate::error::IoError;
use crate::operation::OperationKind;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by all channels of a device.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    lost: AtomicBool,
}

impl Trust {
    /// Refuses a flush that could not be believed.
    pub(crate) fn check(&self) -> Result<(), IoError> {
        if self.lost.load(Ordering::Acquire) { Err(IoError::FlushFailed) } else { Ok(()) }
    }

    /// What the medium's answer to an operation means to the caller, and to every flush from now on. The trust is
    /// looked at once more for a flush that succeeded, since another one may have failed meanwhile.
    pub(crate) fn settle(&self, kind: OperationKind, answer: Result<(), IoError>) -> Result<(), IoError> {
        match (kind, answer) {
            (OperationKind::Read, _) => answer,
            (OperationKind::Flush, Ok(())) => self.check(),
            (OperationKind::Flush, Err(_)) => self.lose(answer),
            (_, Err(IoError::OutOfSpace | IoError::BadMemory | IoError::Unsupported)) => answer,
            (_, Err(_)) => self.lose(answer),
            (_, Ok(())) => answer,
        }
    }

    fn lose(&self, answer: Result<(), IoError>) -> Result<(), IoError> {
        self.lost.store(true, Ordering::Release);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::Trust;
    use crate::error::IoError;
    use crate::operation::OperationKind;

    #[test]
    fn a_failed_flush_or_write_fails_every_later_flush() {
        for kind in
            [OperationKind::Flush, OperationKind::Write, OperationKind::Discard, OperationKind::Resize]
        {
            let trust = Trust::default();
            assert_eq!(trust.settle(OperationKind::Flush, Ok(())), Ok(()));
            assert_eq!(trust.settle(kind, Err(IoError::EIO)), Err(IoError::EIO));
            for _ in 0..2 {
                assert_eq!(trust.check(), Err(IoError::FlushFailed));
                assert_eq!(trust.settle(OperationKind::Flush, Ok(())), Err(IoError::FlushFailed));
            }
            assert_eq!(trust.settle(OperationKind::Write, Ok(())), Ok(()));
        }
    }

    #[test]
    fn a_flush_that_ran_out_of_space_has_failed_too() {
        let trust = Trust::default();
        assert_eq!(trust.settle(OperationKind::Flush, Err(IoError::OutOfSpace)), Err(IoError::OutOfSpace));
        assert_eq!(trust.check(), Err(IoError::FlushFailed));
    }

    #[test]
    fn reads_and_honest_refusals_leave_the_trust() {
        let trust = Trust::default();
        for (kind, error) in [
            (OperationKind::Read, IoError::EIO),
            (OperationKind::Write, IoError::OutOfSpace),
            (OperationKind::Discard, IoError::Unsupported),
        ] {
            assert_eq!(trust.settle(kind, Err(error)), Err(error));
        }
        assert_eq!(trust.check(), Ok(()));
    }
}
