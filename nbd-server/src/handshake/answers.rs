//! The bytes of option replies ("Option reply types" of the specification).

use super::{Description, Dialect, Listed};
use crate::fields::clip;
use crate::limits::{
    BLOCK_BYTES_MIN, BLOCK_BYTES_PREFERRED, NAME_BYTES_MAX, PAYLOAD_BYTES_MAX, TEXT_BYTES_MAX,
};
use crate::proto::{
    CAN_MULTI_CONN, EXPORT_NAME_PADDING_BYTES, HAS_FLAGS, INFO_BLOCK_SIZE, INFO_DESCRIPTION, INFO_EXPORT,
    INFO_NAME, OPT_LIST, OPTION_REPLY_MAGIC, READ_ONLY, REP_ACK, REP_INFO, REP_META_CONTEXT, REP_SERVER,
    SEND_CACHE, SEND_DF, SEND_FAST_ZERO, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES,
};

/// What a client may do with an export. Flushes of a pool are per volume, not per connection, so several
/// connections to one export are always sound (W7).
fn transmission_flags(export: &Description, dialect: Dialect) -> u16 {
    let mut flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | CAN_MULTI_CONN | SEND_CACHE;
    flags |= if export.read_only { READ_ONLY } else { SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO };
    if dialect != Dialect::Simple {
        flags |= SEND_DF;
    }
    flags
}

fn reply(out: &mut Vec<u8>, option: u32, kind: u32, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend(OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend(option.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(u32::try_from(length).expect("replies are made of bounded strings").to_be_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

pub(super) fn acknowledge(out: &mut Vec<u8>, option: u32) {
    reply(out, option, REP_ACK, &[]);
}

/// A refusal with its sentence, cut to a bound (CVE-2020-10761).
pub(super) fn error(out: &mut Vec<u8>, option: u32, kind: u32, text: &str) {
    reply(out, option, kind, &[clip(text, TEXT_BYTES_MAX).as_bytes()]);
}

pub(super) fn information(out: &mut Vec<u8>, option: u32, export: &Description, dialect: Dialect) {
    let flags = transmission_flags(export, dialect);
    reply(
        out,
        option,
        REP_INFO,
        &[&INFO_EXPORT.to_be_bytes(), &export.size.to_be_bytes(), &flags.to_be_bytes()],
    );
    let name = clip(&export.name, NAME_BYTES_MAX);
    reply(out, option, REP_INFO, &[&INFO_NAME.to_be_bytes(), name.as_bytes()]);
    let text = clip(&export.text, NAME_BYTES_MAX);
    reply(out, option, REP_INFO, &[&INFO_DESCRIPTION.to_be_bytes(), text.as_bytes()]);
    reply(
        out,
        option,
        REP_INFO,
        &[
            &INFO_BLOCK_SIZE.to_be_bytes(),
            &BLOCK_BYTES_MIN.to_be_bytes(),
            &BLOCK_BYTES_PREFERRED.to_be_bytes(),
            &PAYLOAD_BYTES_MAX.to_be_bytes(),
        ],
    );
    acknowledge(out, option);
}

pub(super) fn export_name(out: &mut Vec<u8>, export: &Description, dialect: Dialect, padded: bool) {
    out.extend(export.size.to_be_bytes());
    out.extend(transmission_flags(export, dialect).to_be_bytes());
    if padded {
        out.extend([0; EXPORT_NAME_PADDING_BYTES]);
    }
}

pub(super) fn list(out: &mut Vec<u8>, exports: &[Listed]) {
    for Listed { name, text } in exports {
        let (name, text) = (clip(name, NAME_BYTES_MAX), clip(text, NAME_BYTES_MAX));
        let length = u32::try_from(name.len()).expect("clipped");
        reply(out, OPT_LIST, REP_SERVER, &[&length.to_be_bytes(), name.as_bytes(), text.as_bytes()]);
    }
    acknowledge(out, OPT_LIST);
}

/// One context with its number on the connection, which is zero where contexts are only listed.
pub(super) fn context(out: &mut Vec<u8>, option: u32, id: u32, name: &str) {
    reply(out, option, REP_META_CONTEXT, &[&id.to_be_bytes(), name.as_bytes()]);
}
