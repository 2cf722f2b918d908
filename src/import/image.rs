//! An image in a format of QEMU's. A contained qemu-img tells where in which file the bytes of its disk lie, and they are read
//! from there; what lies nowhere as it is, because it is compressed, is read by a contained QEMU that serves it.

use super::chain::Chain;
use super::map::{Map, Place, Run, Runs};
use super::source::{Outlet, PIECE_BYTES, Piece, Stop, Stopper};
use super::source_file::SourceFile;
use crate::contained::{Contained, Job, Output};
use crate::failure::{Code, Failure, sentence};
use crate::nbd_client::{Client, NbdError, Ticket};
use crate::qemu::{DAEMON, PACKAGE, limits, serve_arguments};
use crate::rendezvous;
use crate::size::GRAIN_BYTES;
use crate::wire::ImportOrder;
use blockstore::Buffer;
use std::collections::VecDeque;
use std::sync::Arc;

/// Reads that QEMU has at a time.
const DEPTH: usize = 16;
const SECTOR_BYTES: u64 = 512;

#[derive(Debug)]
pub(super) struct Image {
    chain: Chain,
    stopper: Arc<Stopper>,
}

impl Image {
    pub(super) fn open(order: &ImportOrder, what: &str) -> Result<Self, Failure> {
        let mut chain = Chain::open(order, what)?;
        chain.check_inside(what)?;
        // So QEMU has it.
        chain.size = chain.size.next_multiple_of(SECTOR_BYTES);
        Ok(Self { chain, stopper: Arc::default() })
    }

    /// In whole blocks; what is missing reads as zeros.
    pub(super) fn size(&self) -> u64 {
        self.chain.size.next_multiple_of(GRAIN_BYTES)
    }

    pub(super) fn stopper(&self) -> Arc<Stopper> {
        self.stopper.clone()
    }

    pub(super) fn verify_unchanged(&self, what: &str) -> Result<(), Failure> {
        self.chain.files.iter().try_for_each(|file| file.verify_unchanged(what))
    }

    pub(super) fn read(&self, outlet: &Outlet, what: &str) -> Result<(), Stop> {
        let lengths = self.chain.files.iter().map(SourceFile::length).collect();
        let mut map = Map::start(&self.chain, &self.stopper, what)?;
        let mut runs = Runs::new(self.chain.size, lengths);
        let mut reader = Reader { image: self, outlet, what, server: None, at: 0 };
        while let Some(extent) = map.next()? {
            for run in runs.add(extent) {
                reader.read(run)?;
            }
        }
        match runs.last() {
            Some(run) => reader.read(run)?,
            None if reader.at == self.chain.size => {}
            None => return Err(self.incomplete(reader.at, what).into()),
        }
        reader.finish()
    }

    fn incomplete(&self, at: u64, what: &str) -> Failure {
        let why = format!(
            "{} says that its disk has {} bytes, and qemu-img finds {at}",
            self.chain.shown(),
            self.chain.size
        );
        Failure::new(Code::Failed, what, why, "a copy of the image that is whole")
    }
}

/// Hands over the disk from its start to its end.
struct Reader<'a> {
    image: &'a Image,
    outlet: &'a Outlet,
    what: &'a str,
    /// Only for images that need it.
    server: Option<Server>,
    /// Bytes of the disk that were handed over or asked for.
    at: u64,
}

impl Reader<'_> {
    fn read(&mut self, run: Run) -> Result<(), Stop> {
        match run.place {
            Place::Zero => {
                self.catch_up()?;
                self.at += run.length;
                self.outlet.give(Piece::Hole(run.length.next_multiple_of(GRAIN_BYTES)), self.at)
            }
            Place::File { index, offset } => {
                self.catch_up()?;
                self.read_file(index, offset, run.length)
            }
            Place::Inside => self.ask(run.length),
        }
    }

    fn read_file(&mut self, index: usize, offset: u64, length: u64) -> Result<(), Stop> {
        let file = &self.image.chain.files[index];
        let mut done = 0;
        while done < length {
            let now = PIECE_BYTES.min(length - done);
            let mut buffer = self.outlet.buffer(now.next_multiple_of(GRAIN_BYTES))?;
            let wanted = usize::try_from(now).expect("a piece fits memory");
            buffer[wanted..].fill(0);
            file.read(&mut buffer[..wanted], offset + done, self.what)?;
            done += now;
            self.at += now;
            self.outlet.give(Piece::Data(buffer), self.at)?;
        }
        Ok(())
    }

    fn ask(&mut self, length: u64) -> Result<(), Stop> {
        if self.server.is_none() {
            self.server = Some(Server::start(self.image, self.what)?);
        }
        let end = self.at + length;
        while self.at < end {
            let server = self.server.as_mut().expect("it was started");
            if server.asked.len() >= DEPTH {
                server.hand_over(self.outlet, self.what)?;
            }
            let now = PIECE_BYTES.min(end - self.at);
            let buffer = self.outlet.buffer(now.next_multiple_of(GRAIN_BYTES))?;
            server.ask(self.at, buffer, now, self.what)?;
            self.at += now;
        }
        Ok(())
    }

    /// What was asked for comes before what follows it.
    fn catch_up(&mut self) -> Result<(), Stop> {
        let Some(server) = &mut self.server else { return Ok(()) };
        while !server.asked.is_empty() {
            server.hand_over(self.outlet, self.what)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Stop> {
        self.catch_up()
    }
}

/// A read that was asked for and not handed over yet. The padding makes whole blocks of it.
struct Asked {
    ticket: Ticket,
    offset: u64,
    padding: Buffer,
}

/// A QEMU that serves the image.
struct Server {
    /// Both are `None` once it has failed.
    running: Option<(Client, Contained)>,
    shown: String,
    asked: VecDeque<Asked>,
}

impl Server {
    fn start(image: &Image, what: &str) -> Result<Self, Stop> {
        let chain = &image.chain;
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
        image.stopper.register(&stream);
        match Client::open(stream) {
            Ok(client) if client.size() == chain.size => server.running = Some((client, child)),
            Ok(client) => return Err(image.incomplete(client.size(), what).into()),
            Err(error) => return Err(explain(child, &server.shown, 0, &error, what).into()),
        }
        Ok(server)
    }

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

    /// The oldest of what was asked for.
    fn hand_over(&mut self, outlet: &Outlet, what: &str) -> Result<(), Stop> {
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
