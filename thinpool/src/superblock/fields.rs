//! Fields at fixed offsets of a fixed structure, little-endian.
//!
//! Each structure lists its fields once, as [`Row`]s; a const assertion proves that they touch each other and fill
//! the structure, and a test that `docs/FORMAT.md` shows the same rows.

/// `BYTES` bytes at a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<const BYTES: usize> {
    at: usize,
}

/// A field as the format document shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) at: usize,
    pub(crate) bytes: usize,
    pub(crate) name: &'static str,
}

impl<const BYTES: usize> Field<BYTES> {
    pub(crate) const fn at(at: usize) -> Self {
        Self { at }
    }

    pub(crate) const fn row(self, name: &'static str) -> Row {
        Row { at: self.at, bytes: BYTES, name }
    }

    pub(crate) fn put(self, structure: &mut [u8], value: [u8; BYTES]) {
        structure[self.at..self.at + BYTES].copy_from_slice(&value);
    }

    pub(crate) fn get(self, structure: &[u8]) -> [u8; BYTES] {
        let mut value = [0; BYTES];
        value.copy_from_slice(&structure[self.at..self.at + BYTES]);
        value
    }
}

impl Field<4> {
    pub(crate) fn put_u32(self, structure: &mut [u8], value: u32) {
        self.put(structure, value.to_le_bytes());
    }

    pub(crate) fn u32(self, structure: &[u8]) -> u32 {
        u32::from_le_bytes(self.get(structure))
    }

    /// CRC-32C of the structure, with this field, which is to hold it, taken as zero.
    pub(crate) fn checksum(self, structure: &[u8]) -> u32 {
        let before = crc32c::crc32c(&structure[..self.at]);
        let zeros = crc32c::crc32c_append(before, &[0; 4]);
        crc32c::crc32c_append(zeros, &structure[self.at + 4..])
    }
}

impl Field<8> {
    pub(crate) fn put_u64(self, structure: &mut [u8], value: u64) {
        self.put(structure, value.to_le_bytes());
    }

    pub(crate) fn u64(self, structure: &[u8]) -> u64 {
        u64::from_le_bytes(self.get(structure))
    }
}

/// Whether the rows, in order, leave no byte of `bytes` out and none in twice.
pub(crate) const fn fills(rows: &[Row], bytes: usize) -> bool {
    let (mut next, mut index) = (0, 0);
    while index < rows.len() {
        if rows[index].at != next {
            return false;
        }
        next += rows[index].bytes;
        index += 1;
    }
    next == bytes
}

/// Text of at most `BYTES` bytes, zero-padded.
pub(crate) fn text_field<const BYTES: usize>(text: &str) -> [u8; BYTES] {
    let mut field = [0; BYTES];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}
