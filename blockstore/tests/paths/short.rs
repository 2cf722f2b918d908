//! Somebody cuts the file while it is in use: errors, never zeros, and never a signal.

use crate::drive::{channel, directory_in_memory, directory_on_disk, file_of, open, read, write};
use blockstore::{Access, Engine, IoError};
use std::fs::File;

const SIZE: u64 = 1 << 20;

#[test]
fn what_was_cut_off_gives_errors() {
    for (directory, engine) in [
        (directory_on_disk(), Engine::Inline),
        (directory_on_disk(), Engine::Uring),
        (directory_in_memory(), Engine::Inline),
        (directory_in_memory(), Engine::Uring),
        (directory_in_memory(), Engine::Mapped),
    ] {
        let path = file_of(&directory, SIZE);
        let device = open(&path, Access::ReadWrite, engine).expect("a device");
        let mut channel = channel(&*device);
        for offset in (0..SIZE).step_by(65536) {
            write(&mut *channel, offset, &[0x44; 65536]).expect("writing");
        }
        let outsider = File::options().write(true).open(&path).expect("locks bind only those who ask");
        // Inside a sector, to make the transfer's end ragged.
        outsider.set_len(SIZE / 2 + 700).expect("cutting");
        let gone = Err(IoError::ShortTransfer);
        for offset in [SIZE / 2 + 4096, SIZE - 4096] {
            assert_eq!(read(&mut *channel, offset, 4096), gone, "{engine:?}");
        }
        assert_eq!(read(&mut *channel, SIZE / 2 - 4096, 65536), gone, "{engine:?}");
        if engine != Engine::Mapped {
            assert_eq!(read(&mut *channel, 0, 1 << 19), Ok(vec![0x44; 1 << 19]), "{engine:?}");
        }
    }
}
