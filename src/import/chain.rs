//! The files an image is made of: each named by the operator, opened once, and looked at.
//!
//! QEMU is told each of them by a number and each format by its name, so that nothing that is written in an image is opened
//! or guessed by.

use super::blocks::BlockTable;
use super::header::{self, Backing};
use super::source::Stopper;
use super::source_file::SourceFile;
use crate::contained::{Contained, FILES_MAX, Job, Output, path_in_child};
use crate::failure::{Code, Failure};
use crate::image_format::ImageFormat;
use crate::qemu::{PACKAGE, limits};
use crate::wire::ImportOrder;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// What qemu-img ends with when clusters are taken that nobody uses, and all else is well.
const LEAKS_ONLY: i32 = 3;
/// A look at all tables of an image may take so long.
const CHECK_PATIENCE: Duration = Duration::from_secs(300);

/// The files an image consists of, the image itself first.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) files: Vec<SourceFile>,
    formats: Vec<ImageFormat>,
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Of an image that is all there is and tells itself where its bytes lie.
    pub(super) blocks: Option<BlockTable>,
}

impl Chain {
    /// Each file's header says whether another belongs beneath it; that one has to be named.
    pub(super) fn open(order: &ImportOrder, what: &str) -> Result<Self, Failure> {
        if order.backing.len() >= FILES_MAX {
            let why =
                format!("{} backing files are named; {} are the most", order.backing.len(), FILES_MAX - 1);
            return Err(Failure::new(
                Code::Usage,
                what,
                why,
                "qemu-img convert, which makes one file of them",
            ));
        }
        let mut named = order.backing.iter();
        let file = open_image(&order.file, order.format, what)?;
        let header = header::check(&file, order.format, order.size_max, what)?;
        let mut chain =
            Self { files: vec![file], formats: vec![order.format], size: header.size, blocks: header.blocks };
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
            chain.blocks = None;
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

    /// The image itself, for messages.
    pub(super) fn shown(&self) -> &str {
        self.files[0].shown()
    }

    /// What a child is handed, in the order of the chain.
    pub(super) fn handed(&self) -> Vec<&File> {
        self.files.iter().map(SourceFile::file).collect()
    }

    /// Each file by itself: an image that lacks its end reads as zeros there, and one whose tables are wrong reads as anything.
    pub(super) fn check_inside(&self, stopper: &Stopper, what: &str) -> Result<(), Failure> {
        (0..self.files.len()).try_for_each(|index| check_inside(self, index, stopper, what))
    }

    /// Only so much of the disk was found.
    pub(super) fn incomplete(&self, found: u64, what: &str) -> Failure {
        let why = format!(
            "{} says that its disk has {} bytes, and qemu-img finds {found}",
            self.shown(),
            self.size
        );
        Failure::new(Code::Failed, what, why, "a copy of the image that is whole")
    }

    /// The image with all that is beneath it.
    pub(super) fn node(&self) -> Value {
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
    let why =
        format!("{above} stores what differs from {}, and {} is named", backing.shown(), path.display());
    Failure::new(
        Code::Usage,
        what,
        why,
        "--backing in the order of the chain; of another name, qemu-img rebase -u",
    )
}

fn unnamed(above: &str, backing: &Backing, what: &str) -> Failure {
    let why = format!("{above} stores what differs from {}, which is not named", backing.shown());
    Failure::new(
        Code::Usage,
        what,
        why,
        "--backing FILE, once for each file of the chain, if you trust what they name",
    )
}

fn check_inside(chain: &Chain, index: usize, stopper: &Stopper, what: &str) -> Result<(), Failure> {
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
        output: Output::Dropped,
    };
    let child = Contained::start(job, what)?;
    child.finish(&[0, LEAKS_ONLY], CHECK_PATIENCE, &|| stopper.is_stopped()).map_err(|why| {
        let next = format!("qemu-img check -f {format} {}", file.shown());
        Failure::new(Code::Failed, what, format!("{} is not whole: {why}", file.shown()), next)
    })
}
