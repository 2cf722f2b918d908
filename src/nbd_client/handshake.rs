//! The first words between client and server: fixed newstyle, structured replies, `base:allocation`, and the export.

use super::NbdError;
use std::io::{Read, Write};

const GREETING: &[u8; 16] = b"NBDMAGICIHAVEOPT";
const FIXED_NEWSTYLE: u16 = 1;
/// Fixed newstyle, and no padding after the handshake.
const CLIENT_FLAGS: u32 = 3;
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const GO: u32 = 7;
const STRUCTURED_REPLY: u32 = 8;
const SET_META_CONTEXT: u32 = 10;
const ACK: u32 = 1;
const INFO: u32 = 3;
const META_CONTEXT: u32 = 4;
const ERRORS: u32 = 1 << 31;
const CONTEXT: &[u8] = b"base:allocation";
/// Bytes of one option's reply, at most.
const REPLY_BYTES_MAX: usize = 64 << 10;
/// Replies to one option, at most.
const REPLIES_MAX: usize = 64;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) size: u64,
    pub(super) context: u32,
}

pub(super) fn run(stream: &mut (impl Read + Write)) -> Result<Agreed, NbdError> {
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    if greeting[..16] != GREETING[..] || u16_at(&greeting, 16)? & FIXED_NEWSTYLE == 0 {
        return Err(NbdError::Nonsense("its greeting"));
    }
    stream.write_all(&CLIENT_FLAGS.to_be_bytes())?;
    option(stream, STRUCTURED_REPLY, &[], |_, _| Ok(()))?;
    Ok(Agreed { context: choose_context(stream)?, size: go(stream)? })
}

fn choose_context(stream: &mut (impl Read + Write)) -> Result<u32, NbdError> {
    let mut data = vec![0; 4];
    data.extend(1_u32.to_be_bytes());
    data.extend(15_u32.to_be_bytes());
    data.extend(CONTEXT);
    let mut context = None;
    option(stream, SET_META_CONTEXT, &data, |kind, data| {
        if kind == META_CONTEXT && data.get(4..) == Some(CONTEXT) {
            context = Some(u32_at(data, 0)?);
        }
        Ok(())
    })?;
    context.ok_or(NbdError::Nonsense("it knows no base:allocation"))
}

fn go(stream: &mut (impl Read + Write)) -> Result<u64, NbdError> {
    let mut size = None;
    option(stream, GO, &[0; 6], |kind, data| {
        if kind == INFO && u16_at(data, 0)? == 0 {
            size = Some(u64_at(data, 2)?);
        }
        Ok(())
    })?;
    size.ok_or(NbdError::Nonsense("it does not say how large the export is"))
}

/// Sends an option and hears its replies, until it is acknowledged.
fn option(
    stream: &mut (impl Read + Write),
    option: u32,
    data: &[u8],
    mut hear: impl FnMut(u32, &[u8]) -> Result<(), NbdError>,
) -> Result<(), NbdError> {
    let length = u32::try_from(data.len()).expect("short");
    let words = [&OPTION_MAGIC[..], &option.to_be_bytes(), &length.to_be_bytes(), data].concat();
    stream.write_all(&words)?;
    for _ in 0..REPLIES_MAX {
        let mut header = [0; 20];
        stream.read_exact(&mut header)?;
        let length = usize::try_from(u32_at(&header, 16)?).unwrap_or(usize::MAX);
        if u64_at(&header, 0)? != REPLY_MAGIC || u32_at(&header, 8)? != option || length > REPLY_BYTES_MAX {
            return Err(NbdError::Nonsense("its reply to an option"));
        }
        let mut data = vec![0; length];
        stream.read_exact(&mut data)?;
        match u32_at(&header, 12)? {
            ACK => return Ok(()),
            kind if kind & ERRORS != 0 => {
                let message = String::from_utf8_lossy(&data[..length.min(200)]).into_owned();
                return Err(NbdError::Refused { number: kind & !ERRORS, message });
            }
            kind => hear(kind, &data)?,
        }
    }
    Err(NbdError::Nonsense("replies without an end"))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, NbdError> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, NbdError> {
    array_at(bytes, at).map(u32::from_be_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Result<u64, NbdError> {
    array_at(bytes, at).map(u64::from_be_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], NbdError> {
    let rest = bytes.get(at..).and_then(<[u8]>::first_chunk);
    rest.copied().ok_or(NbdError::Nonsense("a message that is too short"))
}
