//! The two system calls that transfer bytes, to and from memory that may be lent and is therefore never referred to.

use crate::buffer::Buffer;
use crate::operation::Durability;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// pread(2) into `length` bytes of the buffer, from `skip` on. Panics when the buffer does not have them.
pub(super) fn read(
    file: &File,
    buffer: &mut Buffer,
    skip: usize,
    length: usize,
    offset: u64,
) -> Result<usize, Errno> {
    let (into, offset) = (buffer.pointer_to(skip, length), file_offset(offset)?);
    // SAFETY: `length` bytes from `into` are inside the buffer, which is the caller's alone, or lent and referred to by
    // nobody.
    answer(unsafe { libc::pread(file.as_raw_fd(), into.as_ptr().cast(), length, offset) })
}

/// pwritev2(2) of `length` bytes of the buffer, from `skip` on. Panics when the buffer does not have them.
pub(super) fn write(
    file: &File,
    buffer: &Buffer,
    skip: usize,
    length: usize,
    offset: u64,
    durability: Durability,
) -> Result<usize, Errno> {
    let (from, offset) = (buffer.pointer_to(skip, length), file_offset(offset)?);
    let (file, from) = (file.as_raw_fd(), from.as_ptr().cast());
    answer(match durability {
        // SAFETY: `length` bytes from `from` are inside the buffer, and the kernel only reads them.
        Durability::Cached => unsafe { libc::pwrite(file, from, length, offset) },
        Durability::Through => {
            let piece = libc::iovec { iov_base: from, iov_len: length };
            // SAFETY: as above; the one piece is there until the call returns.
            unsafe { libc::pwritev2(file, &raw const piece, 1, offset, libc::RWF_DSYNC) }
        }
    })
}

fn file_offset(offset: u64) -> Result<libc::off_t, Errno> {
    libc::off_t::try_from(offset).map_err(|_| Errno::OVERFLOW)
}

fn answer(count: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(count).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
