//! The only module that names bincode: variable records of the journal, and values of the catalog.
//!
//! bincode has no maintainer, so it is pinned exactly and confined here, with a limit on what it may decode and
//! golden bytes in the tests; replacing it is a change of this file.

use crate::catalog::stored::{StoredEntry, StoredLayer};
use crate::record::Record;
use bincode::config::{self, Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};
use std::collections::BTreeMap;

/// Largest record or catalog value, in bytes: a batch of 10,000 clones stays below it.
const BYTES_MAX: usize = 16 << 20;

type Settings = Configuration<LittleEndian, Varint, Limit<BYTES_MAX>>;

/// Bytes that are not what they should be, although their checksum is right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} does not decode: {why}")]
pub struct CodecError {
    what: &'static str,
    why: String,
}

impl CodecError {
    pub(crate) fn new(what: &'static str, why: String) -> Self {
        Self { what, why }
    }
}

fn settings() -> Settings {
    config::standard().with_limit::<BYTES_MAX>()
}

fn encode(what: &'static str, value: &impl Encode) -> Vec<u8> {
    match bincode::encode_to_vec(value, settings()) {
        Ok(bytes) => bytes,
        Err(error) => panic!("{what} within its bound encodes: {error}"),
    }
}

fn decode<T: Decode<()>>(what: &'static str, bytes: &[u8]) -> Result<T, CodecError> {
    let wrong = |why: String| CodecError { what, why };
    let (value, used) =
        bincode::decode_from_slice(bytes, settings()).map_err(|error| wrong(error.to_string()))?;
    if used != bytes.len() {
        return Err(wrong(format!("{} bytes are left over", bytes.len() - used)));
    }
    Ok(value)
}

pub(crate) fn encode_record(record: &Record) -> Vec<u8> {
    encode("a record", record)
}

pub(crate) fn decode_record(bytes: &[u8]) -> Result<Record, CodecError> {
    decode("a record", bytes)
}

pub(crate) fn encode_entry(entry: &StoredEntry) -> Vec<u8> {
    encode("a catalog entry", entry)
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Result<StoredEntry, CodecError> {
    decode("a catalog entry", bytes)
}

pub(crate) fn encode_properties(properties: &BTreeMap<String, String>) -> Vec<u8> {
    encode("the pool's properties", properties)
}

pub(crate) fn decode_properties(bytes: &[u8]) -> Result<BTreeMap<String, String>, CodecError> {
    decode("the pool's properties", bytes)
}

pub(crate) fn encode_layer(layer: &StoredLayer) -> Vec<u8> {
    encode("a layer", layer)
}

pub(crate) fn decode_layer(bytes: &[u8]) -> Result<StoredLayer, CodecError> {
    decode("a layer", bytes)
}
