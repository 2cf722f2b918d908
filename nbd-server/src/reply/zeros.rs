//! Runs of zeros in the data of a read.

use crate::limits::HOLE_BYTES_MIN;

/// Data is looked at in pieces of this size.
const PIECE_BYTES: usize = 4096;
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// A run that begins where it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) end: usize,
    pub(super) is_zero: bool,
}

/// The runs of a buffer, in pieces counted from its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs<'a>(&'a [u8]);

impl<'a> Runs<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The run at `start`, which is 0 or the end of another run. Zeros count as data unless there are
    /// [`HOLE_BYTES_MIN`] of them or they fill the buffer.
    pub(super) fn next(self, start: usize) -> Run {
        let zeros_end = self.zeros_end(start);
        if self.is_hole(start, zeros_end) {
            return Run { end: zeros_end, is_zero: true };
        }
        let mut end = zeros_end;
        while end < self.0.len() {
            let zeros_end = self.zeros_end(end);
            if self.is_hole(end, zeros_end) {
                break;
            }
            end = zeros_end.max(self.0.len().min(end + PIECE_BYTES));
        }
        Run { end, is_zero: false }
    }

    fn is_hole(self, start: usize, end: usize) -> bool {
        end - start >= HOLE_BYTES_MIN || (start == 0 && end == self.0.len() && end > 0)
    }

    fn zeros_end(self, start: usize) -> usize {
        let zeros = self.0[start..].chunks(PIECE_BYTES).take_while(|piece| **piece == ZEROS[..piece.len()]);
        start + zeros.map(<[u8]>::len).sum::<usize>()
    }
}

/// The buffer as one run.
pub(super) fn whole(data: &[u8]) -> Run {
    let is_zero = Runs(data).zeros_end(0) == data.len();
    Run { end: data.len(), is_zero }
}
