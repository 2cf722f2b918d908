"""One cell of the client matrix: libnbd against an export, strict about nothing, so that the server has to be.

matrix.py URI MODE DIALECT: MODE is rw or ro; DIALECT is simple or structured. Ends with 0 when everything was as it should be.
"""

import errno
import sys

import nbd

uri, mode, dialect = sys.argv[1:]
MIB = 1 << 20


def connect():
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.set_request_structured_replies(dialect == "structured")
    if dialect == "structured":
        for context in ("base:allocation", "qemu:allocation-depth"):
            handle.add_meta_context(context)
    handle.set_uri_allow_local_file(True)
    handle.connect_uri(uri)
    return handle


def refused(number, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        assert error.errnum == number, (call, arguments, error)
    else:
        raise AssertionError(f"{call} {arguments[1:]} was not refused")


handle = connect()
size = handle.get_size()
assert handle.get_structured_replies_negotiated() == (dialect == "structured")
assert handle.is_read_only() == (mode == "ro")
assert handle.can_flush() and handle.can_fua() and handle.can_multi_conn() and handle.can_cache()
assert handle.can_zero() == handle.can_trim() == handle.can_fast_zero() == (mode == "rw")
assert handle.can_df() == (dialect == "structured")

# What is wrong is refused by its own name, and the connection goes on.
refused(errno.EINVAL, handle.pread, 512, size)
refused(errno.EINVAL, handle.pread, 0, 0)
refused(errno.EINVAL, handle.pread, 512, 0, 1 << 15)
refused(errno.EINVAL, handle.cache, 512, size)
if mode == "ro":
    refused(errno.EPERM, handle.pwrite, b"x" * 512, 0)
    refused(errno.EPERM, handle.zero, 512, 0)
    refused(errno.EPERM, handle.trim, 512, 0)
else:
    refused(errno.ENOSPC, handle.pwrite, b"x" * 512, size)
    refused(errno.ENOSPC, handle.zero, 512, size)
    refused(errno.EINVAL, handle.trim, 512, size)
    refused(errno.EINVAL, handle.pwrite, b"x" * 512, 0, 1 << 15)
    refused(errno.ENOTSUP, handle.zero, 512, 0, nbd.CMD_FLAG_FAST_ZERO)
if dialect == "simple":
    refused(errno.EINVAL, handle.block_status, 512, 0, lambda *_: 0)
    refused(errno.EINVAL, handle.pread, 512, 0, nbd.CMD_FLAG_DF)

if mode == "rw":
    # Bytes of any place, beside each other and over each other, with and without FUA.
    expected = bytearray(4 * MIB)
    handle.zero(4 * MIB, 0)
    for step in range(200):
        start, length = step * 7919 % (3 * MIB), step * 131 % 9000 + 1
        data = bytes([step % 255 + 1]) * length
        handle.pwrite(data, start, nbd.CMD_FLAG_FUA if step % 9 == 0 else 0)
        expected[start : start + length] = data
        if step % 5 == 0:
            handle.zero(777, start + 13, nbd.CMD_FLAG_NO_HOLE if step % 2 else 0)
            expected[start + 13 : start + 790] = bytes(777)
    assert handle.pread(4 * MIB, 0) == expected
    handle.flush()
    handle.cache(4 * MIB, 0)
    handle.trim(MIB, MIB)
    expected[MIB : 2 * MIB] = bytes(MIB)
    handle.zero(MIB, 2 * MIB, nbd.CMD_FLAG_FAST_ZERO)
    expected[2 * MIB : 3 * MIB] = bytes(MIB)
    assert handle.pread(4 * MIB, 0) == expected
    largest = bytes(range(256)) * (32 * MIB // 256)
    handle.pwrite(largest, 8 * MIB)
    assert handle.pread(32 * MIB, 8 * MIB) == largest

    # A flush of one connection covers the writes of the others.
    others = [connect() for _ in range(3)]
    for number, other in enumerate(others):
        other.pwrite(bytes([number + 1]) * 1000, number * 1000)
    handle.flush()
    assert handle.pread(3000, 0) == b"".join(bytes([number + 1]) * 1000 for number in range(3))
    for other in others:
        other.shutdown()

if dialect == "structured":
    chunks = []
    whole = handle.pread_structured(MIB, 0, lambda data, start, status, error: chunks.append((start, len(data), status)))
    assert len(whole) == MIB == sum(length for _, length, _ in chunks), chunks
    handle.pread_structured(MIB, 0, lambda *_: 0, nbd.CMD_FLAG_DF)
    told = {}
    handle.block_status(size, 0, lambda name, start, entries, error: told.update({name: entries}) or 0)
    assert set(told) == {"base:allocation", "qemu:allocation-depth"}, told
    assert all(sum(entries[::2]) <= size for entries in told.values())
    one = {}
    handle.block_status(size, 0, lambda name, start, entries, error: one.update({name: entries}) or 0, nbd.CMD_FLAG_REQ_ONE)
    assert all(len(entries) == 2 for entries in one.values()), one

handle.shutdown()
