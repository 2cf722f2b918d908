//! What a verifying load writes: bytes that follow from the seed, the block and the generation, so that any block that is
//! found can be named.

use super::state::Generation;

const WORD_BYTES: usize = 8;

/// What is written to one block by one write. The first two words say block and generation, as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) seed: u64,
    pub(crate) block: u64,
    pub(crate) generation: Generation,
}

impl Stamp {
    /// What a block that came from this load says that it is.
    pub(crate) fn claimed_by(bytes: &[u8], seed: u64) -> Self {
        let mut words = bytes.chunks_exact(WORD_BYTES).map(word);
        let mut next = || words.next().expect("a block has two words at least");
        Self { seed, block: next(), generation: Generation(next()) }
    }

    pub(crate) fn write(self, bytes: &mut [u8]) {
        for (index, chunk) in bytes.chunks_exact_mut(WORD_BYTES).enumerate() {
            chunk.copy_from_slice(&self.word(index).to_le_bytes());
        }
    }

    pub(crate) fn is_in(self, bytes: &[u8]) -> bool {
        self.first_difference(bytes).is_none()
    }

    /// The first byte that is not this write's.
    pub(crate) fn first_difference(self, bytes: &[u8]) -> Option<usize> {
        let differs = |(index, chunk)| self.word(index) != word(chunk);
        let index = bytes.chunks_exact(WORD_BYTES).enumerate().position(differs)?;
        let difference = self.word(index) ^ word(&bytes[index * WORD_BYTES..][..WORD_BYTES]);
        Some(index * WORD_BYTES + usize::try_from(difference.trailing_zeros() / 8).expect("small"))
    }

    fn word(self, index: usize) -> u64 {
        match index {
            0 => self.block,
            1 => self.generation.0,
            _ => {
                let key = self.seed ^ self.block.rotate_left(40) ^ self.generation.0;
                mixed(
                    key.wrapping_add(
                        u64::try_from(index).expect("a usize").wrapping_mul(0x9E37_79B9_7F4A_7C15),
                    ),
                )
            }
        }
    }
}

fn word(chunk: &[u8]) -> u64 {
    u64::from_le_bytes(chunk.try_into().expect("a chunk is a word"))
}

/// Of what others wrote. Never 0, which means that there is none.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    u64::from(crc32c::crc32c(bytes)) + 1
}

/// The finalizer of splitmix64: any two inputs that differ have outputs without a relation.
pub(crate) fn mixed(input: u64) -> u64 {
    let input = (input ^ input >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let input = (input ^ input >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    input ^ input >> 31
}
