//! The first words between client and server: fixed newstyle, and the export without a name.

use super::{NbdError, u16_at, u32_at, u64_at};
use std::io::{Read, Write};

const GREETING: &[u8; 16] = b"NBDMAGICIHAVEOPT";
const FIXED_NEWSTYLE: u16 = 1;
/// Fixed newstyle, and no padding after the handshake.
const CLIENT_FLAGS: u32 = 3;
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const GO: u32 = 7;
const ACK: u32 = 1;
const INFO: u32 = 3;
const ERRORS: u32 = 1 << 31;
/// Bytes of one reply, and replies, at most.
const REPLY_BYTES_MAX: usize = 64 << 10;
const REPLIES_MAX: usize = 64;

/// Gives the size of the export.
pub(super) fn run(stream: &mut (impl Read + Write)) -> Result<u64, NbdError> {
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    if greeting[..16] != GREETING[..] || u16_at(&greeting, 16)? & FIXED_NEWSTYLE == 0 {
        return Err(NbdError::Nonsense("its greeting"));
    }
    stream.write_all(&CLIENT_FLAGS.to_be_bytes())?;
    // A name of no bytes, and no questions.
    let words = [&OPTION_MAGIC[..], &GO.to_be_bytes(), &6_u32.to_be_bytes(), &[0; 6]].concat();
    stream.write_all(&words)?;
    let mut size = None;
    for _ in 0..REPLIES_MAX {
        let (kind, data) = reply(stream)?;
        match kind {
            ACK => return size.ok_or(NbdError::Nonsense("it does not say how large the export is")),
            INFO if u16_at(&data, 0)? == 0 => size = Some(u64_at(&data, 2)?),
            kind if kind & ERRORS != 0 => return Err(NbdError::Refused(kind)),
            _ => {}
        }
    }
    Err(NbdError::Nonsense("replies without an end"))
}

/// One reply to the option: its kind and its data.
fn reply(stream: &mut impl Read) -> Result<(u32, Vec<u8>), NbdError> {
    let mut header = [0; 20];
    stream.read_exact(&mut header)?;
    let length = usize::try_from(u32_at(&header, 16)?).unwrap_or(usize::MAX);
    if u64_at(&header, 0)? != REPLY_MAGIC || u32_at(&header, 8)? != GO || length > REPLY_BYTES_MAX {
        return Err(NbdError::Nonsense("its reply to an option"));
    }
    let mut data = vec![0; length];
    stream.read_exact(&mut data)?;
    Ok((u32_at(&header, 12)?, data))
}
