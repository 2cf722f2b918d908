//! Between a request's state machine and the device: tokens, nodes to be read, completions.

use super::Channel;
use super::slot::{Flow, Slot, Work};
use crate::request::RequestError;
use blockstore::{Buffer, Completion, Durability, IoError, Operation, Submission, Token};
use cow_tree::units::BLOCK_BYTES;
use cow_tree::{Node, Pointer};
use std::sync::Arc;

/// A run of a request's bytes: where they are on the device, or that they are zeros. Lengths in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) length: usize,
    /// Device offset; `None` for a hole.
    pub(super) at: Option<u64>,
}

/// Which operation of a request a completion is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Node,
    Piece(u32),
}

const NODE_PART: u64 = 0xFFFF_FFFF;

fn token(index: usize, part: Part) -> Token {
    let part = match part {
        Part::Node => NODE_PART,
        Part::Piece(piece) => u64::from(piece),
    };
    Token(u64::try_from(index).expect("a slot index") << 32 | part)
}

fn from_token(token: Token) -> (usize, Part) {
    let part = match u32::try_from(token.0 & NODE_PART).expect("the low half") {
        u32::MAX => Part::Node,
        piece => Part::Piece(piece),
    };
    (usize::try_from(token.0 >> 32).expect("a slot index"), part)
}

impl Channel {
    pub(super) fn push(&mut self, index: usize, slot: &mut Slot, part: Part, operation: Operation) {
        slot.pending += 1;
        self.outbox.push_back(Submission { token: token(index, part), operation });
    }

    pub(super) fn push_read(&mut self, index: usize, slot: &mut Slot, piece: u32, at: u64, buffer: Buffer) {
        self.push(index, slot, Part::Piece(piece), Operation::Read { offset: at, buffer });
    }

    pub(super) fn push_write(
        &mut self,
        index: usize,
        slot: &mut Slot,
        at: u64,
        buffer: Buffer,
        durability: Durability,
    ) {
        self.push(index, slot, Part::Piece(0), Operation::Write { offset: at, buffer, durability });
    }

    /// Reads a missing node; the request is driven again when it is there.
    pub(super) fn fetch_node(&mut self, index: usize, slot: &mut Slot, pointer: Pointer) -> Flow {
        slot.node = Some(pointer);
        let buffer = Buffer::uncleared(BLOCK_BYTES);
        let offset = pointer.address.byte_offset();
        self.push(index, slot, Part::Node, Operation::Read { offset, buffer });
        Flow::Device
    }

    pub(super) fn complete(&mut self, completion: Completion) {
        let (index, part) = from_token(completion.token);
        let slot =
            self.slots[index].as_mut().expect("a request stays until its last operation has completed");
        slot.pending -= 1;
        match part {
            Part::Node => self.complete_node(index, completion),
            Part::Piece(piece) => {
                if let Err(error) = &completion.result {
                    let failure = request_error(error);
                    slot.failed.get_or_insert(failure);
                }
                // What a read has brought only in part is nobody's: the buffer may hold what others had in it before.
                let is_whole = completion.result.is_ok();
                match (&mut slot.work, completion.buffer.filter(|_| is_whole)) {
                    (Work::Read(read), Some(buffer)) => read.accept(piece, buffer),
                    (Work::Update(update), Some(buffer)) => update.accept(piece, buffer),
                    _ => {}
                }
                if slot.pending == 0 {
                    self.drive(index);
                }
            }
        }
    }

    /// A node that does not verify may have been freed and overwritten since it was looked up: the lookup is done
    /// again, and only the same pointer a second time is damage.
    fn complete_node(&mut self, index: usize, completion: Completion) {
        let slot = self.slots[index].as_mut().expect("the slot was just used");
        let pointer = slot.node.take().expect("a node read names its node");
        let page = completion.buffer.filter(|_| completion.result.is_ok());
        let node = page.and_then(|page| Node::decode(&page, &pointer, self.core.id).ok());
        match node {
            Some(node) => self.nodes.put(&pointer, Arc::new(node)),
            None if slot.suspect == Some(pointer) => slot.failed = Some(RequestError::Io),
            None => slot.suspect = Some(pointer),
        }
        self.drive(index);
    }
}

pub(super) fn request_error(error: &IoError) -> RequestError {
    match error {
        IoError::OutOfSpace => RequestError::OutOfSpace,
        _ => RequestError::Io,
    }
}
