//! A contained QEMU that serves an image: how what lies nowhere as it is, because it is compressed, is read.

use super::chain::Chain;
use super::source::{Outlet, Piece, Stop, Stopper};
use crate::contained::{Contained, Job, Output};
use crate::failure::{Code, Failure, sentence};
use crate::nbd_client::{Client, NbdError, Ticket};
use crate::qemu::{DAEMON, PACKAGE, limits, serve_arguments};
use crate::rendezvous;
use blockstore::Buffer;
use std::collections::VecDeque;

/// A read that was asked for and not handed over yet. The padding makes whole blocks of it.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    offset: u64,
    padding: Buffer,
}

/// A QEMU that serves the image.
#[derive(Debug)]
pub(super) struct Server {
    /// Both are `None` once it has failed.
    running: Option<(Client, Contained)>,
    shown: String,
    asked: VecDeque<Asked>,
}

impl Server {
    pub(super) fn start(chain: &Chain, stopper: &Stopper, what: &str) -> Result<Self, Stop> {
        let (socket, stream) = rendezvous::make(what)?;
        let job = Job {
            program: DAEMON,
            package: PACKAGE,
            arguments: serve_arguments(chain.node()),
            files: &chain.handed(),
            limits: limits(chain.size),
            socket: Some(socket),
            output: Output::Dropped,
        };
        let child = Contained::start(job, what)?;
        let shown = chain.shown().to_owned();
        let mut server = Self { running: None, shown, asked: VecDeque::new() };
        stopper.register(&stream);
        match Client::open(stream) {
            Ok(client) if client.size() == chain.size => server.running = Some((client, child)),
            Ok(client) => return Err(chain.incomplete(client.size(), what).into()),
            Err(error) => return Err(explain(child, &server.shown, 0, &error, what).into()),
        }
        Ok(server)
    }

    /// Reads that were asked for and not handed over yet.
    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn ask(
        &mut self,
        offset: u64,
        mut buffer: Buffer,
        length: u64,
        what: &str,
    ) -> Result<(), Stop> {
        let mut padding = buffer.split_off(usize::try_from(length).expect("a piece fits memory"));
        padding.fill(0);
        let (client, _) = self.running.as_mut().expect("it runs until it fails");
        match client.read(offset, buffer) {
            Ok(ticket) => {
                self.asked.push_back(Asked { ticket, offset, padding });
                Ok(())
            }
            Err(error) => Err(self.failed(offset, &error, what)),
        }
    }

    /// The oldest of what was asked for.
    pub(super) fn hand_over(&mut self, outlet: &Outlet, what: &str) -> Result<(), Stop> {
        let Some(Asked { ticket, offset, padding }) = self.asked.pop_front() else { return Ok(()) };
        let (client, _) = self.running.as_mut().expect("it runs until it fails");
        let mut bytes = client.bytes(&ticket).map_err(|error| self.failed(offset, &error, what))?;
        let end = offset + u64::try_from(bytes.len()).expect("a piece");
        bytes.unsplit(padding);
        outlet.give(Piece::Data(bytes), end)
    }

    fn failed(&mut self, offset: u64, error: &NbdError, what: &str) -> Stop {
        let (_, child) = self.running.take().expect("it fails once");
        explain(child, &self.shown, offset, error, what).into()
    }
}

/// What it said itself counts for more than that its connection broke.
fn explain(child: Contained, shown: &str, offset: u64, error: &NbdError, what: &str) -> Failure {
    let why = match error {
        NbdError::Ended => child.abort(),
        other => {
            drop(child);
            sentence(other)
        }
    };
    let why = format!("{DAEMON}, confined, cannot read {shown} at byte {offset} of its disk: {why}");
    Failure::new(Code::Failed, what, why, "qemu-img check on a copy of the image")
}
