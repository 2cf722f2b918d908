//! Records within a batch's payload: length (u32), sequence (u64), bytes; one behind the other.

use crate::superblock::fields::{Field, Row, fills};
use cow_tree::units::index_of;
use thiserror::Error;

/// Bytes in front of a record's own.
pub(crate) const FRAME_BYTES: usize = 12;
const LENGTH: Field<4> = Field::at(0);
const SEQUENCE: Field<8> = Field::at(4);

pub(crate) const LAYOUT: &[Row] = &[LENGTH.row("length"), SEQUENCE.row("sequence")];
const _: () = assert!(fills(LAYOUT, FRAME_BYTES));

/// A payload whose checksum is right and whose frames are not: made by a faulty build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the records of a journal batch do not end where it does")]
pub struct FrameDamage;

/// Bytes a record takes in a payload.
#[must_use]
pub(crate) fn framed_len(record_bytes: usize) -> usize {
    FRAME_BYTES + record_bytes
}

/// Appends a record to a payload.
///
/// # Panics
/// If the record has 4 GiB or more.
pub(crate) fn frame(payload: &mut Vec<u8>, sequence: u64, record: &[u8]) {
    let length = u32::try_from(record.len()).expect("a record is shorter than the journal");
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(&sequence.to_le_bytes());
    payload.extend_from_slice(record);
}

/// The records of a payload, in the order they were framed.
#[must_use]
pub(crate) fn frames(payload: &[u8]) -> Frames<'_> {
    Frames { rest: payload }
}

/// See [`frames`]; ends after the first damage.
#[derive(Debug, Clone)]
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<(u64, &'a [u8]), FrameDamage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = self.rest.split_at_checked(FRAME_BYTES).and_then(|(head, rest)| {
            let (record, rest) = rest.split_at_checked(index_of(LENGTH.u32(head)))?;
            Some(((SEQUENCE.u64(head), record), rest))
        });
        let (item, rest) = split.map_or((Err(FrameDamage), &[][..]), |(item, rest)| (Ok(item), rest));
        self.rest = rest;
        Some(item)
    }
}
