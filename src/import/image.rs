//! An image in a format of QEMU's. Where in which file the bytes of its disk lie is told by a contained qemu-img, or by the
//! image's own table of blocks, and they are read from there; what lies nowhere as it is, because it is compressed, is read by a
//! contained QEMU that serves it.

use super::blocks::Blocks;
use super::chain::Chain;
use super::map::{Map, Place, Run, Runs};
use super::server::Servers;
use super::source::{Outlet, PIECE_BYTES, Piece, Stop, Stopper};
use super::source_file::SourceFile;
use crate::failure::{Code, Failure};
use crate::size::GRAIN_BYTES;
use crate::wire::ImportOrder;
use std::io;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

/// Reads that QEMUs have at a time, all together.
const DEPTH: usize = 16;
const SECTOR_BYTES: u64 = 512;
/// Bytes of the disk that are read before it is known whether the image is whole, at most: one that is not may tell of more than
/// it has, and what was read of it is thrown away.
const AHEAD_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug)]
pub(super) struct Image {
    chain: Chain,
    stopper: Arc<Stopper>,
}

impl Image {
    pub(super) fn open(order: &ImportOrder, what: &str) -> Result<Self, Failure> {
        let mut chain = Chain::open(order, what)?;
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

    /// Reads while the image is being checked; what the check finds counts for more than what it led to.
    pub(super) fn read(&self, outlet: &Outlet, what: &str) -> Result<(), Stop> {
        std::thread::scope(|scope| {
            let unchecked = |error: io::Error| {
                Failure::new(Code::Failed, what, error.to_string(), "the same command again")
            };
            let check = std::thread::Builder::new()
                .name("check".to_owned())
                .spawn_scoped(scope, || self.check(what))
                .map_err(unchecked)?;
            let mut reader = Reader { image: self, outlet, what, check: Some(check), servers: None, at: 0 };
            let read = self.feed(&mut reader, what);
            reader.finish_check()?;
            read
        })
    }

    fn check(&self, what: &str) -> Result<(), Failure> {
        let checked = self.chain.check_inside(&self.stopper, what);
        if checked.is_err() {
            // Whatever a damaged image has the reader wait for.
            self.stopper.stop();
        }
        checked
    }

    fn feed(&self, reader: &mut Reader<'_, '_>, what: &str) -> Result<(), Stop> {
        let lengths = self.chain.files.iter().map(SourceFile::length).collect();
        let mut runs = Runs::new(self.chain.size, lengths);
        let mut extents = Extents::start(self, what)?;
        while let Some(extent) = extents.next()? {
            for run in runs.add(extent) {
                reader.read(run)?;
            }
        }
        match runs.last() {
            Some(run) => reader.read(run)?,
            None if reader.at == self.chain.size => {}
            None => return Err(self.chain.incomplete(reader.at, what).into()),
        }
        reader.catch_up()
    }
}

/// Who tells where the bytes of the disk lie.
enum Extents<'a> {
    Told(Map<'a>),
    Read(Blocks<'a>),
}

impl<'a> Extents<'a> {
    fn start(image: &'a Image, what: &'a str) -> Result<Self, Failure> {
        match &image.chain.blocks {
            Some(table) => Ok(Extents::Read(Blocks::new(&image.chain.files[0], table, what))),
            None => Map::start(&image.chain, &image.stopper, what).map(Extents::Told),
        }
    }

    fn next(&mut self) -> Result<Option<Run>, Stop> {
        match self {
            Extents::Told(map) => map.next(),
            Extents::Read(blocks) => Ok(blocks.next()?),
        }
    }
}

/// Hands over the disk from its start to its end.
struct Reader<'scope, 'a> {
    image: &'a Image,
    outlet: &'a Outlet,
    what: &'a str,
    /// `None` once it has ended well.
    check: Option<ScopedJoinHandle<'scope, Result<(), Failure>>>,
    /// Only for images that need it.
    servers: Option<Servers>,
    /// Bytes of the disk that were handed over or asked for.
    at: u64,
}

impl Reader<'_, '_> {
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

    fn finish_check(&mut self) -> Result<(), Failure> {
        self.check.take().map_or(Ok(()), |check| check.join().expect("a check does not panic"))
    }

    /// Before more of the disk is asked for.
    fn heed_check(&mut self) -> Result<(), Failure> {
        let is_due = |check: &ScopedJoinHandle<'_, _>| check.is_finished() || self.at >= AHEAD_BYTES_MAX;
        if self.check.as_ref().is_some_and(is_due) { self.finish_check() } else { Ok(()) }
    }

    fn read_file(&mut self, index: usize, offset: u64, length: u64) -> Result<(), Stop> {
        let file = &self.image.chain.files[index];
        let mut done = 0;
        while done < length {
            self.heed_check()?;
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
        if self.servers.is_none() {
            self.servers = Some(Servers::start(&self.image.chain, &self.image.stopper, self.what)?);
        }
        let end = self.at + length;
        while self.at < end {
            self.heed_check()?;
            let servers = self.servers.as_mut().expect("they were started");
            if servers.under_way() >= DEPTH {
                servers.hand_over(self.outlet, self.what)?;
            }
            let now = PIECE_BYTES.min(end - self.at);
            let buffer = self.outlet.buffer(now.next_multiple_of(GRAIN_BYTES))?;
            servers.ask(self.at, buffer, now, self.what)?;
            self.at += now;
        }
        Ok(())
    }

    /// What was asked for comes before what follows it.
    fn catch_up(&mut self) -> Result<(), Stop> {
        let Some(servers) = &mut self.servers else { return Ok(()) };
        while servers.under_way() > 0 {
            servers.hand_over(self.outlet, self.what)?;
        }
        Ok(())
    }
}
