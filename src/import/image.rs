//! An image in a format of QEMU's: its header is checked here, its inside is read by a contained QEMU.
//!
//! Every file of a chain is named by the operator and opened here, once. QEMU is told each of them by the number of its
//! descriptor and each format by its name, so that nothing that is written in an image is opened or guessed by.

use super::header::{self, Backing};
use super::source::{Outlet, PIECE_BYTES, Piece, Stop};
use super::source_file::SourceFile;
use crate::contained::{Contained, FILES_MAX, Job, path_in_child};
use crate::failure::{Code, Failure, sentence};
use crate::image_format::ImageFormat;
use crate::nbd_client::{Client, Extent, NbdError, Ticket};
use crate::qemu::{DAEMON, PACKAGE, limits, serve_arguments};
use crate::rendezvous;
use crate::size::GRAIN_BYTES;
use crate::wire::ImportOrder;
use blockstore::Buffer;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Reads that QEMU has at a time.
const DEPTH: usize = 16;
/// One question for extents covers so much.
const SURVEY_BYTES: u64 = 1 << 30;
/// Zeros shorter than this between data are read like data, in bytes.
const GAP_BYTES: u64 = 64 << 10;
const SECTOR_BYTES: u64 = 512;
/// What qemu-img ends with when clusters are taken that nobody uses, and all else is well.
const LEAKS_ONLY: i32 = 3;
/// A look at all tables of an image may take so long.
const CHECK_PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Image {
    files: Vec<SourceFile>,
    size: u64,
    /// `None` once it has failed.
    reader: Option<Reader>,
}

#[derive(Debug)]
struct Reader {
    client: Client,
    child: Contained,
}

impl Image {
    pub(super) fn open(order: &ImportOrder, what: &str) -> Result<Self, Failure> {
        let chain = Chain::open(order, what)?;
        (0..chain.files.len()).try_for_each(|index| check_inside(&chain, index, what))?;
        let reader = start(&chain, what)?;
        let told = chain.size.next_multiple_of(SECTOR_BYTES);
        if reader.client.size() != told {
            let why = format!(
                "{} says that its disk has {told} bytes, and {DAEMON} reads {}",
                chain.files[0].shown(),
                reader.client.size()
            );
            return Err(Failure::new(Code::Failed, what, why, "a copy of the image that is whole"));
        }
        Ok(Self { files: chain.files, size: told, reader: Some(reader) })
    }

    /// In whole blocks; what is missing reads as zeros.
    pub(super) fn size(&self) -> u64 {
        self.size.next_multiple_of(GRAIN_BYTES)
    }

    pub(super) fn stopper(&self) -> io::Result<UnixStream> {
        let reader = self.reader.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        reader.client.stopper()
    }

    pub(super) fn verify_unchanged(&self, what: &str) -> Result<(), Failure> {
        self.files.iter().try_for_each(|file| file.verify_unchanged(what))
    }

    pub(super) fn read(&mut self, outlet: &Outlet, what: &str) -> Result<(), Stop> {
        let mut reader = self.reader.take().expect("an image is read once");
        match Survey::new(self.size, outlet).run(&mut reader.client) {
            Ok(()) => Ok(()),
            Err(Broken::Unwanted) => Err(Stop::Unwanted),
            Err(Broken::At(offset, error)) => {
                let failure = explain(reader.child, self.files[0].shown(), &error, what);
                let why = format!("{}, at byte {offset} of its disk", failure.why);
                Err(Stop::Failed(Failure { why, ..failure }))
            }
        }
    }
}

/// The files an image consists of, the image itself first.
struct Chain {
    files: Vec<SourceFile>,
    formats: Vec<ImageFormat>,
    /// Bytes of the disk.
    size: u64,
}

impl Chain {
    /// Each file's header says whether another belongs beneath it; that one has to be named.
    fn open(order: &ImportOrder, what: &str) -> Result<Self, Failure> {
        if order.backing.len() >= FILES_MAX {
            let why = format!("{} backing files are named; {} are the most", order.backing.len(), FILES_MAX - 1);
            return Err(Failure::new(Code::Usage, what, why, "qemu-img convert, which makes one file of them"));
        }
        let mut named = order.backing.iter();
        let file = open_image(&order.file, order.format, what)?;
        let header = header::check(&file, order.format, order.size_max, what)?;
        let mut chain = Self { files: vec![file], formats: vec![order.format], size: header.size };
        let mut beneath = header.backing;
        while let Some(backing) = beneath {
            let above = chain.files.last().expect("the image at least").shown().to_owned();
            let path = named.next().ok_or_else(|| unnamed(&above, &backing, what))?;
            if path.file_name() != Some(OsStr::from_bytes(backing.file_name())) {
                return Err(misnamed(&above, &backing, path, what));
            }
            let file = open_image(path, backing.format, what)?;
            let header = header::check(&file, backing.format, order.size_max, what)?;
            chain.files.push(file);
            chain.formats.push(backing.format);
            beneath = header.backing;
        }
        match named.next() {
            None => Ok(chain),
            Some(path) => {
                let last = chain.files.last().expect("the image at least").shown();
                let why = format!("{last} has no backing file, and {} is named as one", path.display());
                Err(Failure::new(Code::Usage, what, why, "fewer --backing"))
            }
        }
    }

    /// The image with all that is beneath it.
    fn node(&self) -> Value {
        let files = self.formats.iter().enumerate().rev();
        let whole = files.fold(None, |beneath, (index, format)| Some(node(*format, index, beneath)));
        whole.expect("the image at least")
    }
}

/// What QEMU is told of a handed file: its format, and what is beneath it. It finds out nothing by itself.
fn node(format: ImageFormat, index: usize, beneath: Option<Value>) -> Value {
    let file = json!({ "driver": "file", "filename": path_in_child(index) });
    let mut node = json!({ "driver": format.word(), "file": file, "read-only": true });
    if beneath.is_some() || matches!(format, ImageFormat::Qcow2 | ImageFormat::Vmdk) {
        node["backing"] = beneath.unwrap_or(Value::Null);
    }
    node
}

fn open_image(path: &Path, format: ImageFormat, what: &str) -> Result<SourceFile, Failure> {
    let file = SourceFile::open(path, what)?;
    if file.is_block_device() {
        let why = format!("{} is a block device, and {format} is read from files", file.shown());
        return Err(Failure::new(Code::Usage, what, why, "a copy of it in a file"));
    }
    Ok(file)
}

/// Files in another order than the image has them make a disk of nonsense.
fn misnamed(above: &str, backing: &Backing, path: &Path, what: &str) -> Failure {
    let why = format!("{above} stores what differs from {}, and {} is named", backing.shown(), path.display());
    Failure::new(Code::Usage, what, why, "--backing in the order of the chain; of another name, qemu-img rebase -u")
}

fn unnamed(above: &str, backing: &Backing, what: &str) -> Failure {
    let why = format!("{above} stores what differs from {}, which is not named", backing.shown());
    Failure::new(Code::Usage, what, why, "--backing FILE, once for each file of the chain, if you trust what they name")
}

/// An image that lacks its end reads as zeros there, and one whose tables are wrong reads as anything: qemu-img finds both.
fn check_inside(chain: &Chain, index: usize, what: &str) -> Result<(), Failure> {
    let (file, format) = (&chain.files[index], chain.formats[index]);
    if format == ImageFormat::Raw {
        return Ok(());
    }
    let job = Job {
        program: "qemu-img",
        package: PACKAGE,
        arguments: vec!["check".to_owned(), "-q".to_owned(), format!("json:{}", node(format, 0, None))],
        files: &[file.file()],
        limits: limits(chain.size),
        socket: None,
    };
    Contained::start(job, what)?.finish(&[0, LEAKS_ONLY], CHECK_PATIENCE).map_err(|why| {
        let next = format!("qemu-img check -f {format} {}", file.shown());
        Failure::new(Code::Failed, what, format!("{} is not whole: {why}", file.shown()), next)
    })
}

fn start(chain: &Chain, what: &str) -> Result<Reader, Failure> {
    let handed: Vec<&File> = chain.files.iter().map(SourceFile::file).collect();
    let (socket, stream) = rendezvous::make(what)?;
    let job = Job {
        program: DAEMON,
        package: PACKAGE,
        arguments: serve_arguments(chain.node()),
        files: &handed,
        limits: limits(chain.size),
        socket: Some(socket),
    };
    let child = Contained::start(job, what)?;
    match Client::open(stream) {
        Ok(client) => Ok(Reader { client, child }),
        Err(error) => Err(explain(child, chain.files[0].shown(), &error, what)),
    }
}

/// What it said itself counts for more than that its connection broke.
fn explain(child: Contained, shown: &str, error: &NbdError, what: &str) -> Failure {
    let why = match error {
        NbdError::Ended => child.abort(),
        other => {
            drop(child);
            sentence(other)
        }
    };
    let why = format!("{DAEMON}, confined, cannot read {shown}: {why}");
    Failure::new(Code::Failed, what, why, "qemu-img check on a copy of the image")
}

enum Broken {
    At(u64, NbdError),
    Unwanted,
}

/// What was asked for and not handed over yet, in the order of the disk.
enum Asked {
    Hole(u64),
    /// The padding makes whole blocks of it.
    Data { ticket: Ticket, offset: u64, padding: Buffer },
}

/// Goes through a disk from its start to its end, with several reads under way.
struct Survey<'a> {
    size: u64,
    outlet: &'a Outlet,
    asked: VecDeque<Asked>,
    reads: usize,
    handed: u64,
}

impl<'a> Survey<'a> {
    fn new(size: u64, outlet: &'a Outlet) -> Self {
        Self { size, outlet, asked: VecDeque::new(), reads: 0, handed: 0 }
    }

    fn run(mut self, client: &mut Client) -> Result<(), Broken> {
        let mut at = 0;
        while at < self.size {
            let length = u32::try_from(SURVEY_BYTES.min(self.size - at)).expect("a gibibyte at most");
            let extents = client.extents(at, length).map_err(|error| Broken::At(at, error))?;
            for run in runs(&extents, u64::from(length)) {
                match run.is_zero {
                    true => self.skip(run.length)?,
                    false => self.ask(client, at, run.length)?,
                }
                at += run.length;
            }
        }
        while !self.asked.is_empty() {
            self.hand_over(client)?;
        }
        let rest = self.size.next_multiple_of(GRAIN_BYTES) - self.handed;
        if rest > 0 { self.give(Piece::Hole(rest), rest) } else { Ok(()) }
    }

    /// Zeros need not be read; they have their turn behind what has to be.
    fn skip(&mut self, length: u64) -> Result<(), Broken> {
        match self.asked.back_mut() {
            None => return self.give(Piece::Hole(length), length),
            Some(Asked::Hole(last)) => *last += length,
            Some(Asked::Data { .. }) => self.asked.push_back(Asked::Hole(length)),
        }
        Ok(())
    }

    fn ask(&mut self, client: &mut Client, start: u64, length: u64) -> Result<(), Broken> {
        let mut at = start;
        while at < start + length {
            while self.reads >= DEPTH {
                self.hand_over(client)?;
            }
            let length = PIECE_BYTES.min(start + length - at);
            let whole = length.next_multiple_of(GRAIN_BYTES);
            let mut buffer = self.outlet.buffer(whole).map_err(|_| Broken::Unwanted)?;
            let padding = buffer.split_off(usize::try_from(length).expect("a piece fits memory"));
            let ticket = client.read(at, buffer).map_err(|error| Broken::At(at, error))?;
            self.asked.push_back(Asked::Data { ticket, offset: at, padding });
            self.reads += 1;
            at += length;
        }
        Ok(())
    }

    /// Takes the oldest of what was asked for.
    fn hand_over(&mut self, client: &mut Client) -> Result<(), Broken> {
        match self.asked.pop_front() {
            None => Ok(()),
            Some(Asked::Hole(length)) => self.give(Piece::Hole(length), length),
            Some(Asked::Data { ticket, offset, padding }) => {
                self.reads -= 1;
                let mut bytes = client.bytes(&ticket).map_err(|error| Broken::At(offset, error))?;
                bytes.unsplit(padding);
                let length = u64::try_from(bytes.len()).expect("a piece");
                self.give(Piece::Data(bytes), length)
            }
        }
    }

    fn give(&mut self, piece: Piece, length: u64) -> Result<(), Broken> {
        self.handed += length;
        self.outlet.give(piece, self.handed).map_err(|_| Broken::Unwanted)
    }
}

/// Extents as runs of whole blocks that alternate, none beyond `length`; only the disk's end may be inside of a block.
/// What is not zeros for sure, or too short to be worth a turn, counts as data.
fn runs(extents: &[Extent], length: u64) -> Vec<Extent> {
    let mut runs = Vec::new();
    let (mut told, mut covered) = (0, 0);
    for extent in joined(extents) {
        let start = told;
        told = length.min(told + extent.length);
        let end = if told == length { length } else { told - told % GRAIN_BYTES };
        let start = start.next_multiple_of(GRAIN_BYTES);
        if extent.is_zero && end.saturating_sub(start) >= GAP_BYTES {
            runs.push(Extent { length: start - covered, is_zero: false });
            runs.push(Extent { length: end - start, is_zero: true });
            covered = end;
        }
    }
    let end = length.min(told.next_multiple_of(GRAIN_BYTES));
    runs.push(Extent { length: end - covered, is_zero: false });
    runs.retain(|run| run.length > 0);
    runs
}

fn joined(extents: &[Extent]) -> Vec<Extent> {
    let mut joined: Vec<Extent> = Vec::new();
    for extent in extents {
        match joined.last_mut() {
            Some(last) if last.is_zero == extent.is_zero => last.length += extent.length,
            _ => joined.push(*extent),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::runs;
    use crate::nbd_client::Extent;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    fn shape(extents: &[(u64, bool)], length: u64) -> Vec<(u64, bool)> {
        let extents: Vec<_> = extents.iter().map(|&(length, is_zero)| Extent { length, is_zero }).collect();
        runs(&extents, length).into_iter().map(|run| (run.length, run.is_zero)).collect()
    }

    #[test]
    fn zeros_are_cut_to_whole_blocks_and_short_ones_are_data() {
        assert_eq!(shape(&[(4096, false), (4096, true), (8192, false)], 1 << 30), [(16_384, false)]);
        let odd = [(512, false), (1 << 20, true), (512, false)];
        assert_eq!(shape(&odd, 1 << 30), [(4096, false), ((1 << 20) - 4096, true), (4096, false)]);
        assert_eq!(shape(&[(1 << 40, true)], 1 << 30), [(1 << 30, true)]);
        assert_eq!(shape(&[(100_352, true)], 100_352), [(100_352, true)], "the end of a disk");
    }

    proptest! {
        #[test]
        fn runs_cover_what_was_told_and_zeros_are_only_where_they_were(
            extents in prop::collection::vec((1_u64..400, any::<bool>()), 1..20),
            length in 1_u64..200,
        ) {
            let length = length * 4096;
            let extents: Vec<_> = extents.into_iter().map(|(sectors, zero)| (sectors * 512, zero)).collect();
            let told: u64 = extents.iter().map(|(length, _)| length).sum();
            let runs = shape(&extents, length);
            let covered: u64 = runs.iter().map(|(length, _)| length).sum();
            prop_assert!(covered >= told.min(length) && covered <= length && covered.is_multiple_of(4096));
            prop_assert_eq!(runs.iter().filter(|(length, _)| !length.is_multiple_of(4096)).count(), 0);
            let is_zero = |at: u64| {
                let mut end = 0;
                extents.iter().find(|(length, _)| { end += length; at < end }).is_some_and(|(_, zero)| *zero)
            };
            let mut at = 0;
            for (length, zero) in runs {
                prop_assert!(!zero || (at..at + length).step_by(512).all(is_zero));
                at += length;
            }
        }
    }
}
