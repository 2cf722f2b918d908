//! What of a piece of a source has to be done to a volume. Pure.

use crate::size::GRAIN_BYTES;
use std::ops::Range;

/// What to do with a run of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Write,
    /// Zero in the source, not zero in the base.
    Trim,
    /// Zero in the source, and nothing to clear.
    Zero,
    /// The same in the base.
    Same,
}

/// Runs of one fate each, as byte ranges of the piece, in order. `base` is what the volume holds there already;
/// `None` when it holds nothing. Both are whole blocks, equally long.
pub(crate) fn compare(piece: &[u8], base: Option<&[u8]>) -> Vec<(Fate, Range<usize>)> {
    let grain = usize::try_from(GRAIN_BYTES).expect("4096");
    let mut runs: Vec<(Fate, Range<usize>)> = Vec::new();
    for (number, block) in piece.chunks(grain).enumerate() {
        let range = number * grain..number * grain + block.len();
        let fate = fate(block, base.map(|base| &base[range.clone()]));
        match runs.last_mut() {
            Some((last, run)) if *last == fate => run.end = range.end,
            _ => runs.push((fate, range)),
        }
    }
    runs
}

fn fate(block: &[u8], base: Option<&[u8]>) -> Fate {
    match (is_zero(block), base) {
        (true, None) => Fate::Zero,
        (false, None) => Fate::Write,
        (true, Some(base)) if is_zero(base) => Fate::Zero,
        (_, Some(base)) if block == base => Fate::Same,
        (true, Some(_)) => Fate::Trim,
        (false, Some(_)) => Fate::Write,
    }
}

/// Compares the block with itself, shifted by one byte: that is a memcmp.
fn is_zero(block: &[u8]) -> bool {
    block.first().is_none_or(|first| *first == 0) && block[1..] == block[..block.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::{Fate, compare};

    fn blocks(pattern: &[u8]) -> Vec<u8> {
        pattern.iter().flat_map(|byte| [*byte; 4096]).collect()
    }

    #[test]
    fn zeros_are_not_stored() {
        let mut piece = blocks(&[0, 0, 7, 7, 0]);
        piece[4 * 4096 + 4095] = 1;
        let expected = vec![(Fate::Zero, 0..8192), (Fate::Write, 8192..20480)];
        assert_eq!(compare(&piece, None), expected);
    }

    #[test]
    fn only_what_differs_from_the_base_is_stored() {
        let (piece, base) = (blocks(&[1, 2, 0, 0, 3]), blocks(&[1, 9, 4, 0, 0]));
        let fates: Vec<_> = compare(&piece, Some(&base)).into_iter().map(|(fate, _)| fate).collect();
        assert_eq!(fates, [Fate::Same, Fate::Write, Fate::Trim, Fate::Zero, Fate::Write]);
    }

    #[test]
    fn an_empty_piece_has_no_runs() {
        assert_eq!(compare(&[], None), []);
    }
}
