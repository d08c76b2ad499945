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


class DirectWriter:
    """Writes to the file that `descriptor` is open on. `_lock` guards the memory, and is held for
    one write."""

    def __init__(self, descriptor: int) -> None:
        self._lock = threading.Lock()
        self._memory: memoryview | None = None
        self._descriptor = -1
        self._source_descriptor = descriptor
        self._can = hasattr(os, "O_DIRECT")

    def write(self, offset: int, buffers: Sequence[BytesLike]) -> int:
        """Bytes from the beginning that were written; fewer than all, down to none, where this
        file, or its file system, takes no direct writes. Whole pages. Raises OSError.
        """
        with self._lock:
            done = 0
            for piece in self._gathered(buffers) if self._prepare() else ():
                written = self._write(piece, offset + done)
                done += written
                if written < len(piece):
                    break
            return done

    def close(self) -> None:
        # No lock: in a fork nobody might be left to release it.
        closing, self._descriptor = self._descriptor, -1
        self._can = False
        if closing >= 0:
            os.close(closing)

    def _prepare(self) -> bool:
        """Open the file once more, whatever its path leads to by now."""
        if self._can and self._descriptor < 0:
            path = f"/proc/self/fd/{self._source_descriptor}"
            try:
                self._descriptor = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
                self._memory = memoryview(mmap.mmap(-1, MEMORY_SIZE_BYTES))
            except OSError:
                self._can = False
        return self._can

    def _gathered(self, buffers: Sequence[BytesLike]) -> Iterator[memoryview]:
        """The buffers' bytes in as few pieces as there can be, which are about as large: a small
        one at the end would take its turn at the device like the others.
        """
        assert self._memory is not None
        total = sum(map(len, buffers))
        size_bytes = aligned(-(-total // max(1, -(-total // MEMORY_SIZE_BYTES))))
        memory = self._memory[:size_bytes]
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

    def _write(self, piece: memoryview, offset: int) -> int:
        try:
            return os.pwrite(self._descriptor, piece, offset)
        except OSError as error:
            if error.errno != _EINVAL:
                raise
            # Larger blocks than a page, or a file system that says no only now.
            self._can = False
            return 0
