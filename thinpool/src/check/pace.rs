//! A check takes turns with the keeper's other tasks, says how far it is, and ends when it is told to.

use super::moment::Moment;
use crate::error::Error;
use crate::keeper::{Desk, io};
use crate::ticket::Ticket;
use cow_tree::units::BlockCount;

/// Nodes looked at between two turns of the others: commits, which guests wait for, are among them.
const NODES_A_TURN: u32 = 32;

pub(super) struct Pace<'a> {
    desk: &'a Desk,
    ticket: &'a Ticket,
    total: BlockCount,
    looked: u32,
}

impl<'a> Pace<'a> {
    pub(super) fn new(desk: &'a Desk, ticket: &'a Ticket, moment: &Moment) -> Self {
        Self { desk, ticket, total: BlockCount(moment.data.held + moment.metadata.held), looked: 0 }
    }

    /// Before each node.
    pub(super) async fn step(&mut self, reached: BlockCount) -> Result<(), Error> {
        if self.ticket.is_cancelled() {
            return Err(Error::Cancelled);
        }
        self.looked += 1;
        if self.looked.is_multiple_of(NODES_A_TURN) {
            self.ticket.tell(reached.bytes(), self.total.bytes());
            self.desk.core.stepped();
            io::yield_now().await;
        }
        Ok(())
    }
}
