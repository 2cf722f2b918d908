//! Contained QEMUs that serve an image: how what lies nowhere as it is, because it is compressed, is read.
//!
//! Each of them does most of its work in one thread, decompression of VMDK, and copies into its socket, among it. So there are a few,
//! which are asked in turn.

use super::chain::Chain;
use super::source::{Outlet, Piece, Stop, Stopper};
use crate::contained::{Contained, Job, Output};
use crate::failure::{Code, Failure, sentence};
use crate::nbd_client::{Client, NbdError, Ticket};
use crate::qemu::{DAEMON, PACKAGE, limits, serve_arguments};
use crate::rendezvous;
use blockstore::Buffer;
use std::collections::VecDeque;
use std::os::unix::net::UnixStream;

/// As many as pay on a machine that has other things to do.
const SERVERS: usize = 2;

/// A read that was asked for and not handed over yet. The padding makes whole blocks of it.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    offset: u64,
    padding: Buffer,
}

/// QEMUs that serve the same image.
#[derive(Debug)]
pub(super) struct Servers {
    all: Vec<Server>,
    /// Reads since the beginning; the answers are handed over in the same order.
    asked: usize,
    handed_over: usize,
}

impl Servers {
    /// They start side by side.
    pub(super) fn start(chain: &Chain, stopper: &Stopper, what: &str) -> Result<Self, Stop> {
        let begun: Vec<_> =
            (0..SERVERS).map(|_| Begun::start(chain, stopper, what)).collect::<Result<_, _>>()?;
        let all = begun.into_iter().map(|begun| begun.open(chain, what)).collect::<Result<_, _>>()?;
        Ok(Self { all, asked: 0, handed_over: 0 })
    }

    /// Reads that were asked for and not handed over yet.
    pub(super) fn under_way(&self) -> usize {
        self.asked - self.handed_over
    }

    pub(super) fn ask(&mut self, offset: u64, buffer: Buffer, length: u64, what: &str) -> Result<(), Stop> {
        let server = &mut self.all[self.asked % SERVERS];
        self.asked += 1;
        server.ask(offset, buffer, length, what)
    }

    /// The oldest of what was asked for.
    pub(super) fn hand_over(&mut self, outlet: &Outlet, what: &str) -> Result<(), Stop> {
        assert!(self.under_way() > 0, "there is one");
        let server = &mut self.all[self.handed_over % SERVERS];
        self.handed_over += 1;
        server.hand_over(outlet, what)
    }
}

/// One that may not listen yet.
struct Begun {
    stream: UnixStream,
    child: Contained,
}

impl Begun {
    fn start(chain: &Chain, stopper: &Stopper, what: &str) -> Result<Self, Failure> {
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
        stopper.register(&stream);
        Ok(Self { stream, child })
    }

    fn open(self, chain: &Chain, what: &str) -> Result<Server, Failure> {
        let shown = chain.shown().to_owned();
        match Client::open(self.stream) {
            Ok(client) if client.size() == chain.size => {
                Ok(Server { running: Some((client, self.child)), shown, asked: VecDeque::new() })
            }
            Ok(client) => Err(chain.incomplete(client.size(), what)),
            Err(error) => Err(explain(self.child, &shown, 0, &error, what)),
        }
    }
}

#[derive(Debug)]
struct Server {
    /// Both are `None` once it has failed.
    running: Option<(Client, Contained)>,
    shown: String,
    asked: VecDeque<Asked>,
}

impl Server {
    fn ask(&mut self, offset: u64, mut buffer: Buffer, length: u64, what: &str) -> Result<(), Stop> {
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

    fn hand_over(&mut self, outlet: &Outlet, what: &str) -> Result<(), Stop> {
        let Asked { ticket, offset, padding } = self.asked.pop_front().expect("it was asked");
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
