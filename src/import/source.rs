//! Where the bytes of a new version come from: one of several kinds of files. A thread reads ahead and hands over pieces,
//! without gaps and in order; what becomes of them is decided elsewhere.

use super::image::Image;
use super::raw::Raw;
use super::stream::Stream;
use crate::failure::Failure;
use crate::image_format::ImageFormat;
use crate::wire::ImportOrder;
use blockstore::Buffer;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex};

/// Bytes of one piece, at most; buffers of this size are used again.
pub(super) const PIECE_BYTES: u64 = 128 << 10;

/// The next bytes of a disk, in whole blocks.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Buffer),
    /// So many bytes of zeros.
    Hole(u64),
    /// Nothing is missing.
    End,
}

/// A piece and how far the source is with it, in the units of [`Source::total`].
#[derive(Debug)]
pub(super) struct Handover {
    pub(super) piece: Piece,
    pub(super) done: u64,
}

/// Why a source stops in the middle.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(Failure),
    /// Nobody wants more.
    Unwanted,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failed(failure)
    }
}

/// The reader's end.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) pieces: SyncSender<Result<Handover, Failure>>,
    /// Of [`PIECE_BYTES`] each; they come from the thread that will have done with them, whose memory they are.
    pub(super) spares: Receiver<Buffer>,
}

impl Outlet {
    /// An empty buffer for a piece; waits for one.
    pub(super) fn buffer(&self, length: u64) -> Result<Buffer, Stop> {
        let mut buffer = self.spares.recv().map_err(|_| Stop::Unwanted)?;
        drop(buffer.split_off(usize::try_from(length).expect("a piece fits memory")));
        Ok(buffer)
    }

    pub(super) fn give(&self, piece: Piece, done: u64) -> Result<(), Stop> {
        self.pieces.send(Ok(Handover { piece, done })).map_err(|_| Stop::Unwanted)
    }
}

#[derive(Debug)]
pub(super) enum Source {
    Raw(Raw),
    Image(Box<Image>),
    Stream(Stream),
}

/// Ends a reader that waits for others.
#[derive(Debug, Default)]
pub(super) struct Stopper {
    is_stopped: AtomicBool,
    /// What it waits for.
    streams: Mutex<Vec<UnixStream>>,
}

impl Stopper {
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        for stream in self.streams.lock().expect("nobody panics with it").iter() {
            // One that is closed already stops nobody.
            let _closed_is_fine = stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    /// What a stop is to end from now on. Without a copy of it the reader's own patience ends it.
    pub(super) fn register(&self, stream: &UnixStream) {
        self.streams.lock().expect("nobody panics with it").extend(stream.try_clone());
        if self.is_stopped() {
            self.stop();
        }
    }
}

impl Source {
    pub(super) fn open(order: &ImportOrder, what: &str) -> Result<Self, Failure> {
        match order.format {
            ImageFormat::Raw => Raw::open(order, what).map(Source::Raw),
            ImageFormat::Qcow2 | ImageFormat::Vmdk | ImageFormat::Vhdx => {
                Image::open(order, what).map(Box::new).map(Source::Image)
            }
            ImageFormat::RawZst | ImageFormat::RawGz => Stream::open(order, what).map(Source::Stream),
        }
    }

    /// The size of the version, in whole blocks; `None` when only its end will tell.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Source::Raw(raw) => Some(raw.size()),
            Source::Image(image) => Some(image.size()),
            Source::Stream(_) => None,
        }
    }

    /// What the progress is a part of, in bytes: of the disk, or of the file where the disk's size is not known.
    pub(super) fn total(&self) -> u64 {
        match self {
            Source::Raw(raw) => raw.size(),
            Source::Image(image) => image.size(),
            Source::Stream(stream) => stream.file_length(),
        }
    }

    pub(super) fn stopper(&self) -> Arc<Stopper> {
        match self {
            Source::Raw(_) | Source::Stream(_) => Arc::default(),
            Source::Image(image) => image.stopper(),
        }
    }

    /// Hands everything over, and in the end [`Piece::End`] or why there is none.
    pub(super) fn read(&self, outlet: &Outlet, what: &str) {
        let read = match self {
            Source::Raw(raw) => raw.read(outlet, what),
            Source::Image(image) => image.read(outlet, what),
            Source::Stream(stream) => stream.read(outlet, what),
        };
        let last = match read {
            Ok(()) => Ok(Handover { piece: Piece::End, done: self.total() }),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::Unwanted) => return,
        };
        // Whoever went away knows why.
        let _gone_is_fine = outlet.pieces.send(last);
    }

    /// A file that changed while it was read is a mix of two disks.
    pub(super) fn verify_unchanged(&self, what: &str) -> Result<(), Failure> {
        match self {
            Source::Raw(raw) => raw.verify_unchanged(what),
            Source::Image(image) => image.verify_unchanged(what),
            Source::Stream(stream) => stream.verify_unchanged(what),
        }
    }
}
