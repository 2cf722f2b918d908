//! Disks to make images of.

use crate::cli_program::Place;
use crate::path;
use std::fs::File;
use std::os::unix::fs::FileExt;

const MIB: u64 = 1 << 20;

/// Bytes that no compression makes smaller, the same for the same seed.
pub(crate) fn noise(length: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let words = usize::try_from(length.div_ceil(8)).expect("fits memory");
    (0..words).flat_map(|_| next()).take(usize::try_from(length).expect("fits memory")).collect()
}

/// Writes a file mebibyte by mebibyte: what this process holds counts as its children's, too, until they are other programs.
pub(crate) fn large(path: &str, mebibytes: u64, content: impl Fn(u64) -> Vec<u8>) {
    let file = File::create(path).expect("a file");
    for number in 0..mebibytes {
        file.write_all_at(&content(number), number * MIB).expect("written");
    }
}

/// A raw disk with noise, text, single blocks, zeros that were written and holes; gives its path.
pub(crate) fn mixed(place: &Place, name: &str, size: u64, seed: u64) -> String {
    let file_path = place.path(name);
    let file = File::create(&file_path).expect("a file");
    file.set_len(size).expect("a length");
    let write = |bytes: &[u8], offset: u64| file.write_all_at(bytes, offset).expect("written");
    write(&noise(3 * MIB + 512, seed), 0);
    write(&b"all work and no play ".repeat(100_000), 4 * MIB + 4096);
    write(&[0; 1 << 20], 7 * MIB);
    for block in 0..64 {
        write(&noise(512, seed + block), 8 * MIB + block * 36_864);
    }
    write(&noise(1024, seed + 99), size - 1024);
    path(&file_path).to_owned()
}
