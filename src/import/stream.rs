//! A raw disk that is compressed. It is read once, from its start, and its end tells how large the disk is.
//!
//! What a few bytes may become is bounded: the disk by `--size-max`, memory by the decoder's window. Zeros take no space in a
//! pool, so a stream of nothing but zeros costs time alone, which the operator sees pass and may end.

use super::source::{Outlet, PIECE_BYTES, Piece, Stop};
use super::source_file::SourceFile;
use crate::failure::{Code, Failure};
use crate::image_format::ImageFormat;
use crate::size::{GRAIN_BYTES, Iec};
use crate::wire::ImportOrder;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};

/// 128 MiB, what zstd itself decodes without being asked.
const WINDOW_LOG_MAX: u32 = 27;
const BUFFER_BYTES: usize = 128 << 10;

#[derive(Debug)]
pub(super) struct Stream {
    file: SourceFile,
    format: ImageFormat,
    size_max: u64,
}

impl Stream {
    pub(super) fn open(order: &ImportOrder, what: &str) -> Result<Self, Failure> {
        if !order.backing.is_empty() {
            let why = "a raw disk has no backing file";
            return Err(Failure::new(Code::Usage, what, why, "the same command without --backing"));
        }
        let file = SourceFile::open(&order.file, what)?;
        Ok(Self { file, format: order.format, size_max: order.size_max })
    }

    /// Bytes of the compressed file.
    pub(super) fn file_length(&self) -> u64 {
        self.file.length()
    }

    pub(super) fn verify_unchanged(&self, what: &str) -> Result<(), Failure> {
        self.file.verify_unchanged(what)
    }

    pub(super) fn read(&self, outlet: &Outlet, what: &str) -> Result<(), Stop> {
        let mut decoder = self.decoder().map_err(|error| self.undecodable(&error, 0, what))?;
        let mut size = 0;
        loop {
            let mut buffer = outlet.buffer(PIECE_BYTES)?;
            let length =
                fill(&mut *decoder, &mut buffer).map_err(|error| self.undecodable(&error, size, what))?;
            if length == 0 {
                break;
            }
            size += u64::try_from(length).expect("a piece");
            if size > self.size_max {
                return Err(self.too_large(what).into());
            }
            let grain = usize::try_from(GRAIN_BYTES).expect("4096");
            buffer[length..].fill(0);
            drop(buffer.split_off(length.next_multiple_of(grain)));
            outlet.give(Piece::Data(buffer), self.position(what)?)?;
        }
        if size == 0 {
            let why = format!("{} is of 0 bytes, which is no disk", self.file.shown());
            return Err(Failure::new(Code::Usage, what, why, "another file").into());
        }
        Ok(())
    }

    fn decoder(&self) -> io::Result<Box<dyn Read + '_>> {
        let bytes = BufReader::with_capacity(BUFFER_BYTES, self.file.file());
        if self.format == ImageFormat::RawGz {
            return Ok(Box::new(MultiGzDecoder::new(bytes)));
        }
        let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Box::new(decoder))
    }

    /// How much of the file has been read.
    fn position(&self, what: &str) -> Result<u64, Failure> {
        let mut file: &File = self.file.file();
        file.stream_position().map_err(|error| self.file.unreadable(&error, 0, what))
    }

    fn undecodable(&self, error: &io::Error, size: u64, what: &str) -> Failure {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it ends in the middle".to_owned(),
            _ => error.to_string(),
        };
        let why =
            format!("{} is no whole {} after {size} bytes of disk: {reason}", self.file.shown(), self.format);
        Failure::new(Code::Failed, what, why, "a copy of the file that is whole, or another --format")
    }

    fn too_large(&self, what: &str) -> Failure {
        let why = format!("{} holds more than {}", self.file.shown(), Iec(self.size_max));
        Failure::new(Code::Usage, what, why, "--size-max with a larger size, if the disk is that large")
    }
}

/// Fills the buffer, or as much of it as there is.
fn fill(decoder: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match decoder.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
