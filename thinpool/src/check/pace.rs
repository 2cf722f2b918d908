//! A check takes turns with the keeper's other tasks, says how far it is, and ends when it is told to.

use super::moment::Moment;
use crate::error::Error;
use crate::keeper::{Desk, io};
use crate::ticket::Ticket;

/// Nodes looked at between two turns of the others: commits, which guests wait for, are among them.
const NODES_A_TURN: u32 = 32;
const BLOCK_BYTES: u64 = 4096;

pub(super) struct Pace<'a> {
    desk: &'a Desk,
    ticket: &'a Ticket,
    total_blocks: u64,
    looked: u32,
}

impl<'a> Pace<'a> {
    pub(super) fn new(desk: &'a Desk, ticket: &'a Ticket, moment: &Moment) -> Self {
        Self { desk, ticket, total_blocks: moment.data.held + moment.metadata.held, looked: 0 }
    }

    /// Before each node.
    pub(super) async fn step(&mut self, reached_blocks: u64) -> Result<(), Error> {
        if self.ticket.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.looked += 1;
        if self.looked.is_multiple_of(NODES_A_TURN) {
            self.ticket.tell(reached_blocks * BLOCK_BYTES, self.total_blocks * BLOCK_BYTES);
            self.desk.core.stepped();
            io::yield_now().await;
        }
        Ok(())
    }
}
