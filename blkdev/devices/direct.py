"""Large writes past the kernel's page cache.

What streams in is not read again soon: through the cache it would cost a copy into fresh pages and
somebody else's pages their place. A direct write needs memory, offset and length that are whole
blocks of the device (open(2), O_DIRECT), so the buffers are gathered in memory of our own first.

Reads and maps of the same file stay right: the kernel writes back what is dirty of the range before
a direct write, and drops what is cached of it before and after.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Iterator, Sequence

from blkdev.format import BytesLike, aligned

MEMORY_SIZE_BYTES = (2 << 20) + (64 << 10)
"""A little more than half of a full group with its headers, which goes in two writes."""
_EINVAL = 22
_WRITES_MAX = 2


class DirectWriter:
    """Writes to the file that `descriptor` is open on. Two writes at a time, each with memory of
    its own: while one is on its way to the device, the next is gathered. `_lock` guards the opening
    of the file, and is never held during a write.
    """

    def __init__(self, descriptor: int) -> None:
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(_WRITES_MAX)
        self._free: list[memoryview] = []
        self._descriptor = -1
        self._source_descriptor = descriptor
        self._can = hasattr(os, "O_DIRECT")

    def write(self, offset: int, buffers: Sequence[BytesLike]) -> int:
        """Bytes from the beginning that were written; fewer than all, down to none, where this
        file, or its file system, takes no direct writes. Whole pages. Raises OSError.
        """
        with self._turns:
            if not self._prepare():
                return 0
            memory = self._free.pop()
            try:
                return self._write_all(memory, offset, buffers)
            finally:
                self._free.append(memory)

    def close(self) -> None:
        # No lock: in a fork nobody might be left to release it.
        closing, self._descriptor = self._descriptor, -1
        self._can = False
        if closing >= 0:
            os.close(closing)

    def _prepare(self) -> bool:
        """Open the file once more, whatever its path leads to by now."""
        with self._lock:
            if self._can and self._descriptor < 0:
                path = f"/proc/self/fd/{self._source_descriptor}"
                try:
                    self._descriptor = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
                    self._free = [
                        memoryview(mmap.mmap(-1, MEMORY_SIZE_BYTES)) for _ in range(_WRITES_MAX)
                    ]
                except OSError:
                    self._can = False
            return self._can

    def _write_all(self, memory: memoryview, offset: int, buffers: Sequence[BytesLike]) -> int:
        done = 0
        for piece in _gathered(memory, buffers):
            written = self._write(piece, offset + done)
            done += written
            if written < len(piece):
                break
        return done

    def _write(self, piece: memoryview, offset: int) -> int:
        try:
            return os.pwrite(self._descriptor, piece, offset)
        except OSError as error:
            if error.errno != _EINVAL:
                raise
            # Larger blocks than a page, or a file system that says no only now.
            self._can = False
            return 0


def _gathered(memory: memoryview, buffers: Sequence[BytesLike]) -> Iterator[memoryview]:
    """The buffers' bytes in as few pieces as there can be, which are about as large: a small one
    at the end would take its turn at the device like the others.
    """
    total = sum(map(len, buffers))
    size_bytes = aligned(-(-total // max(1, -(-total // MEMORY_SIZE_BYTES))))
    memory = memory[:size_bytes]
    filled = 0
    for buffer in buffers:
        left = memoryview(buffer)
        while left:
            count = min(len(left), size_bytes - filled)
            memory[filled : filled + count] = left[:count]
            filled += count
            left = left[count:]
            if filled == size_bytes:
                yield memory
                filled = 0
    if filled:
        yield memory[:filled]
