//! What the simulated guests write: every sector names its writer, its place and its writer's counter, so that a byte
//! from anywhere else is recognised.

pub(crate) const SECTOR: usize = 512;
pub(crate) const SECTORS_PER_BLOCK: usize = 8;

const MAGIC: u64 = 0x706d_6174_7364_7367;
const ZERO: u64 = 1 << 63;

/// What one write stores in the sectors it covers. Zeroes and trims are values too, told apart by their counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Value(u64);

impl Value {
    /// What a sector holds that nobody has written.
    pub(crate) const NEVER: Self = Self(ZERO);

    pub(crate) fn written(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn zeroed(number: u64) -> Self {
        Self(number | ZERO)
    }

    fn is_zero(self) -> bool {
        self.0 & ZERO != 0
    }
}

/// What was found in a sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Zeros,
    Stamp { value: Value, lba: u64 },
    Garbage { first: u64 },
}

impl Seen {
    pub(crate) fn is(self, expected: Value, at: usize) -> bool {
        match self {
            Self::Zeros => expected.is_zero(),
            Self::Stamp { value, lba } => value == expected && lba == lba_of(at),
            Self::Garbage { .. } => false,
        }
    }
}

/// The bytes of a run of sectors that begins with sector `first` of its volume.
pub(crate) fn bytes(value: Value, first: usize, sectors: usize) -> Vec<u8> {
    let mut bytes = vec![0; sectors * SECTOR];
    for (number, sector) in bytes.chunks_exact_mut(SECTOR).enumerate() {
        stamp(sector, value, lba_of(first + number));
    }
    bytes
}

fn stamp(sector: &mut [u8], value: Value, lba: u64) {
    for (word, place) in (0_u64..).zip(sector.chunks_exact_mut(8)) {
        place.copy_from_slice(&word_of(value, lba, word).to_le_bytes());
    }
}

fn word_of(value: Value, lba: u64, word: u64) -> u64 {
    match word {
        0 => MAGIC,
        1 => value.0,
        2 => lba,
        _ => filling(value, lba) ^ word,
    }
}

fn filling(value: Value, lba: u64) -> u64 {
    (value.0 ^ lba.rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

pub(crate) fn look(sector: &[u8]) -> Seen {
    let (words, _) = sector.as_chunks::<8>();
    let [first, second, third, rest @ ..] = words else { return Seen::Garbage { first: 0 } };
    let [first, second, third] = [first, second, third].map(|bytes| u64::from_le_bytes(*bytes));
    if first == MAGIC {
        let (value, lba) = (Value(second), third);
        if differences(rest, filling(value, lba), 3) == 0 {
            return Seen::Stamp { value, lba };
        }
    } else if sector.iter().fold(0, |any, byte| any | byte) == 0 {
        return Seen::Zeros;
    }
    Seen::Garbage { first }
}

/// The bits in which words differ from what they should be. All words are looked at: that is faster than to stop.
fn differences(words: &[[u8; 8]], filling: u64, first: u64) -> u64 {
    let expected = (first..).map(|word| filling ^ word);
    words.iter().zip(expected).fold(0, |any, (found, word)| any | (u64::from_le_bytes(*found) ^ word))
}

fn lba_of(sector: usize) -> u64 {
    u64::try_from(sector).expect("a sector number")
}

#[test]
fn a_stamp_is_seen_as_itself_and_anything_else_is_not() {
    let value = Value::written(7);
    let mut bytes = bytes(value, 3, 2);
    assert!(look(&bytes[..SECTOR]).is(value, 3) && look(&bytes[SECTOR..]).is(value, 4));
    assert!(!look(&bytes[..SECTOR]).is(value, 4) && !look(&bytes[..SECTOR]).is(Value::written(8), 3));
    bytes[300] ^= 1;
    assert!(matches!(look(&bytes[..SECTOR]), Seen::Garbage { .. }));
    assert!(look(&[0; SECTOR]).is(Value::zeroed(9), 5) && look(&[0; SECTOR]).is(Value::NEVER, 5));
}
