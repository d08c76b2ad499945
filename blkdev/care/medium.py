"""Reading from the medium itself, past what the system has cached: what is cached is no proof of
what is on the device, and must not be driven out by a reader of everything.
"""

from __future__ import annotations

import errno
import mmap
import os

from blkdev.device import Device
from blkdev.format import PAGE_SIZE_BYTES, aligned


def read_through(device: Device, offset: int, length: int) -> bytes:
    """As `device.read`. Falls back to it where there is no way past the cache. Raises OSError."""
    descriptor = device.descriptor
    data = b"" if descriptor is None else _direct(descriptor, offset, length)
    # Less than asked for: the end of a file that is not whole pages.
    return data if len(data) == length else device.read(offset, length)


def _direct(descriptor: int, offset: int, length: int) -> bytes:
    begin = offset & -PAGE_SIZE_BYTES
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT
    try:
        # A description of its own: the flag would hold for every other read, too.
        direct = os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        return b""
    try:
        with mmap.mmap(-1, aligned(offset + length - begin)) as buffer:
            count = os.preadv(direct, [buffer], begin)
            return buffer[offset - begin : min(count, offset + length - begin)]
    except OSError as error:
        if error.errno == errno.EINVAL:  # a file system that cannot do it
            return b""
        raise
    finally:
        os.close(direct)
