//! Replies of a server: simple ones, and chunks of structured ones.

use super::handshake::{u16_at, u32_at, u64_at};
use super::{Answer, Extent, NbdError};
use blockstore::Buffer;
use std::collections::BTreeMap;
use std::io::Read;

const SIMPLE_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;
const LAST: u16 = 1;
const NONE: u16 = 0;
const OFFSET_DATA: u16 = 1;
const OFFSET_HOLE: u16 = 2;
const BLOCK_STATUS: u16 = 5;
const ERRORS: u16 = 1 << 15;
const READS_AS_ZEROS: u32 = 2;
/// Bytes of a chunk that carries no data of a disk: a mebibyte of extents, a message.
const CHUNK_BYTES_MAX: usize = (1 << 20) + 4;
/// Of a server's message, so much is kept.
const MESSAGE_BYTES_MAX: usize = 200;

/// What an answer has to be, and what has come of it.
#[derive(Debug)]
pub(super) enum Pending {
    Read { offset: u64, buffer: Buffer, filled: usize },
    Extents { context: u32 },
    Listed(Vec<Extent>),
    Failed(NbdError),
}

/// Takes one reply or chunk; gives the answer of a request when that was the last.
pub(super) fn receive(
    stream: &mut impl Read,
    pending: &mut BTreeMap<u64, Pending>,
) -> Result<Option<(u64, Result<Answer, NbdError>)>, NbdError> {
    let mut magic = [0; 4];
    stream.read_exact(&mut magic)?;
    match u32::from_be_bytes(magic) {
        SIMPLE_MAGIC => simple(stream, pending).map(Some),
        CHUNK_MAGIC => chunk(stream, pending),
        _ => Err(NbdError::Nonsense("a reply that is none")),
    }
}

fn simple(
    stream: &mut impl Read,
    pending: &mut BTreeMap<u64, Pending>,
) -> Result<(u64, Result<Answer, NbdError>), NbdError> {
    let mut rest = [0; 12];
    stream.read_exact(&mut rest)?;
    let (number, cookie) = (u32_at(&rest, 0)?, u64_at(&rest, 4)?);
    match (pending.remove(&cookie), number) {
        (None, _) => Err(NbdError::Nonsense("a reply to nothing")),
        (Some(_), 0) => Err(NbdError::Nonsense("a reply without what was asked for")),
        (Some(_), number) => Ok((cookie, Err(NbdError::Refused { number, message: String::new() }))),
    }
}

fn chunk(
    stream: &mut impl Read,
    pending: &mut BTreeMap<u64, Pending>,
) -> Result<Option<(u64, Result<Answer, NbdError>)>, NbdError> {
    let mut header = [0; 16];
    stream.read_exact(&mut header)?;
    let (flags, kind, cookie) = (u16_at(&header, 0)?, u16_at(&header, 2)?, u64_at(&header, 4)?);
    let length = usize::try_from(u32_at(&header, 12)?).unwrap_or(usize::MAX);
    let state = pending.get_mut(&cookie).ok_or(NbdError::Nonsense("a chunk of nothing"))?;
    match kind {
        NONE if length == 0 => {}
        OFFSET_DATA => data(stream, state, length)?,
        OFFSET_HOLE if length == 12 => hole(stream, state)?,
        BLOCK_STATUS => extents(&content(stream, length)?, state)?,
        kind if kind & ERRORS != 0 => *state = Pending::Failed(refusal(&content(stream, length)?)?),
        _ => return Err(NbdError::Nonsense("a chunk of an unknown kind")),
    }
    if flags & LAST == 0 {
        return Ok(None);
    }
    let state = pending.remove(&cookie).ok_or(NbdError::Nonsense("a chunk of nothing"))?;
    Ok(Some((cookie, finished(state)?)))
}

fn finished(state: Pending) -> Result<Result<Answer, NbdError>, NbdError> {
    match state {
        Pending::Read { buffer, filled, .. } if filled == buffer.len() => Ok(Ok(Answer::Bytes(buffer))),
        Pending::Read { .. } => Err(NbdError::Nonsense("a read without all of its bytes")),
        Pending::Extents { .. } => Err(NbdError::Nonsense("no extents where they were asked for")),
        Pending::Listed(extents) => Ok(Ok(Answer::Extents(extents))),
        Pending::Failed(error) => Ok(Err(error)),
    }
}

fn content(stream: &mut impl Read, length: usize) -> Result<Vec<u8>, NbdError> {
    if length > CHUNK_BYTES_MAX {
        return Err(NbdError::Nonsense("a chunk that is too long"));
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content)?;
    Ok(content)
}

/// Data go straight to where they belong.
fn data(stream: &mut impl Read, state: &mut Pending, length: usize) -> Result<(), NbdError> {
    let length = length.checked_sub(8).ok_or(NbdError::Nonsense("a chunk that is too short"))?;
    let mut at = [0; 8];
    stream.read_exact(&mut at)?;
    let part = place(state, u64::from_be_bytes(at), length)?;
    stream.read_exact(part)?;
    Ok(())
}

fn hole(stream: &mut impl Read, state: &mut Pending) -> Result<(), NbdError> {
    let mut range = [0; 12];
    stream.read_exact(&mut range)?;
    let length = usize::try_from(u32_at(&range, 8)?).unwrap_or(usize::MAX);
    place(state, u64_at(&range, 0)?, length)?.fill(0);
    Ok(())
}

/// Where bytes of a read go. They come in order, so that none comes twice.
fn place(state: &mut Pending, at: u64, length: usize) -> Result<&mut [u8], NbdError> {
    let Pending::Read { offset, buffer, filled } = state else {
        return Err(NbdError::Nonsense("data that nobody asked for"));
    };
    let start = at.checked_sub(*offset).and_then(|start| usize::try_from(start).ok());
    let end = filled.checked_add(length).filter(|end| *end <= buffer.len());
    match (start, end) {
        (Some(start), Some(end)) if start == *filled => {
            *filled = end;
            Ok(&mut buffer[start..end])
        }
        _ => Err(NbdError::Nonsense("data outside of what was asked for")),
    }
}

fn extents(content: &[u8], state: &mut Pending) -> Result<(), NbdError> {
    let Pending::Extents { context } = state else {
        return Err(NbdError::Nonsense("extents that nobody asked for"));
    };
    if u32_at(content, 0)? != *context {
        return Err(NbdError::Nonsense("extents of another context"));
    }
    let (pairs, rest) = content[4..].as_chunks::<8>();
    let extent = |pair: &[u8; 8]| {
        let (length, flags) = (u32_at(pair, 0)?, u32_at(pair, 4)?);
        Ok(Extent { length: u64::from(length), is_zero: flags & READS_AS_ZEROS != 0 })
    };
    let extents = pairs.iter().map(extent).collect::<Result<Vec<_>, NbdError>>()?;
    if !rest.is_empty() || extents.is_empty() || extents.iter().any(|extent| extent.length == 0) {
        return Err(NbdError::Nonsense("extents without a length"));
    }
    *state = Pending::Listed(extents);
    Ok(())
}

fn refusal(content: &[u8]) -> Result<NbdError, NbdError> {
    let number = u32_at(content, 0)?;
    let length = usize::from(u16_at(content, 4)?).min(MESSAGE_BYTES_MAX);
    let message = content.get(6..).unwrap_or_default();
    let message = String::from_utf8_lossy(&message[..length.min(message.len())]).into_owned();
    Ok(NbdError::Refused { number, message })
}
