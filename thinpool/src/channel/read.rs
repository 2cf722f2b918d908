//! Reading: look the range up, read each piece from where it is, zeros from nowhere.

use super::Channel;
use super::device::Piece;
use super::slot::{Flow, Slot, Work};
use crate::live::Live;
use crate::poison::is_doubtful;
use crate::request::{Payload, RequestError};
use blockstore::Buffer;
use cow_tree::units::{BLOCK_BYTES, LogicalBlock};
use cow_tree::{Found, Missing};

#[derive(Debug)]
pub(super) struct Read {
    offset: u64,
    /// The whole buffer, before the pieces have left and after the last has come back.
    buffer: Option<Buffer>,
    /// What has come back of the first piece, which most reads have alone, and of the others.
    first: Option<Buffer>,
    others: Vec<Option<Buffer>>,
    /// For pieces that the device cannot read as they are, for their place, length or memory: the bytes to skip at the front
    /// of each piece's own buffer, and the part the rest goes to.
    bounced: Vec<Option<(usize, Buffer)>>,
    submitted: bool,
}

impl Read {
    pub(super) fn new(offset: u64, buffer: Buffer) -> Self {
        Self {
            offset,
            buffer: Some(buffer),
            first: None,
            others: Vec::new(),
            bounced: Vec::new(),
            submitted: false,
        }
    }

    /// A piece comes back from the device.
    pub(super) fn accept(&mut self, piece: u32, buffer: Buffer) {
        let index = usize::try_from(piece).expect("an index");
        let bounced = self.bounced.get_mut(index).and_then(Option::take);
        self.keep(
            index,
            match bounced {
                None => buffer,
                Some((skip, mut part)) => {
                    part.copy_from(0, &buffer[skip..skip + part.len()]);
                    part
                }
            },
        );
    }

    fn keep(&mut self, index: usize, part: Buffer) {
        match index.checked_sub(1) {
            None => self.first = Some(part),
            Some(index) => {
                if self.others.len() <= index {
                    self.others.resize_with(index + 1, || None);
                }
                self.others[index] = Some(part);
            }
        }
    }

    fn joined(&mut self) -> Buffer {
        let mut whole = self.first.take().expect("the first piece has come back");
        let others = self.others.drain(..).map(|part| part.expect("every piece has come back"));
        others.for_each(|part| whole.unsplit(part));
        whole
    }
}

impl Channel {
    pub(super) fn step_read(&mut self, index: usize, slot: &mut Slot) -> Flow {
        if let Some(failure) = slot.failed {
            return Flow::Done(Err(failure));
        }
        let read = read_of(slot);
        if read.submitted {
            return Flow::Done(Ok(Payload::Buffer(read.joined())));
        }
        let buffer = read.buffer.take().expect("nothing has been submitted");
        if buffer.is_empty() {
            return Flow::Done(Ok(Payload::Buffer(buffer)));
        }
        let offset = read.offset;
        self.enter_epoch(slot);
        let mut pieces = std::mem::take(&mut self.pieces);
        let looked_up = self.look_up(slot.attachment.live(), offset, buffer.len(), &mut pieces);
        let flow = match looked_up {
            Ok(()) if pieces.iter().any(|piece| self.is_doubtful(piece)) => Flow::Done(Err(RequestError::Io)),
            Ok(()) => self.read_pieces(index, slot, &pieces, buffer),
            Err(Missing(pointer)) => {
                read_of(slot).buffer = Some(buffer);
                self.fetch_node(index, slot, pointer)
            }
        };
        self.pieces = pieces;
        flow
    }

    /// After a failed flush: whether the piece may have lost its data.
    fn is_doubtful(&self, piece: &Piece) -> bool {
        let length = u64::try_from(piece.length).expect("a length");
        piece.at.is_some_and(|at| is_doubtful(&self.core, &(at..at + length)))
    }

    /// Cuts a range of bytes into runs of the device and holes.
    pub(super) fn look_up(
        &self,
        live: &Live,
        offset: u64,
        length: usize,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), Missing> {
        pieces.clear();
        let body = live.read();
        let block_bytes = u64::try_from(BLOCK_BYTES).expect("a small constant");
        let (mut at, end) = (offset, offset + u64::try_from(length).expect("a length"));
        while at < end {
            let block = LogicalBlock(at / block_bytes);
            let (run_end, device) = match body.tree.lookup(&self.nodes, block)? {
                Found::Mapped(mapping) => {
                    let start = mapping.start.0 * block_bytes;
                    let run_end = start + u64::from(mapping.length) * block_bytes;
                    (run_end, Some(mapping.address.byte_offset() + (at - start)))
                }
                Found::Hole { end, .. } => (end.0.saturating_mul(block_bytes), None),
            };
            let upto = run_end.min(end);
            pieces
                .push(Piece { length: usize::try_from(upto - at).expect("within the request"), at: device });
            at = upto;
        }
        Ok(())
    }

    fn read_pieces(&mut self, index: usize, slot: &mut Slot, pieces: &[Piece], mut buffer: Buffer) -> Flow {
        let alignment = self.core.device.alignment();
        read_of(slot).submitted = true;
        for (number, piece) in pieces.iter().enumerate() {
            let rest = (piece.length < buffer.len()).then(|| buffer.split_off(piece.length));
            let mut part = std::mem::replace(&mut buffer, rest.unwrap_or_else(|| Buffer::zeroed(0)));
            let Some(at) = piece.at else {
                part.clear(0, part.len());
                read_of(slot).keep(number, part);
                continue;
            };
            let piece_number = u32::try_from(number).expect("requests are bounded");
            let aligned = at.is_multiple_of(u64::try_from(alignment).expect("small"))
                && part.len().is_multiple_of(alignment)
                && part.is_aligned(alignment);
            if aligned {
                self.push_read(index, slot, piece_number, at, part);
            } else {
                let block_bytes = u64::try_from(BLOCK_BYTES).expect("a small constant");
                let skip = usize::try_from(at % block_bytes).expect("less than a block");
                let covering = Buffer::uncleared((skip + part.len()).next_multiple_of(BLOCK_BYTES));
                let bounced = &mut read_of(slot).bounced;
                bounced.resize_with(number, || None);
                bounced.push(Some((skip, part)));
                self.push_read(index, slot, piece_number, at - at % block_bytes, covering);
            }
        }
        if slot.pending == 0 { Flow::Again } else { Flow::Device }
    }
}

fn read_of(slot: &mut Slot) -> &mut Read {
    let Work::Read(read) = &mut slot.work else { unreachable!("the caller matched on the work") };
    read
}
