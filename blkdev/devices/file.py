"""Plain files and block devices. With `direct.py` all that makes system calls in the engine.

Invariants
- Maps exist only where the C helper was built (`native/maps.c`): it turns a read error under a map
  into zeros and a count (`fault_count`). Without it a view is a copy.
- Maps are PROT_READ: nothing is ever written through one, so a stray pointer cannot damage the
  store, and no page of the device is dirty that `write` did not make so.
- The I/O for a mapped page happens with the interpreter lock released, before the page is handed
  out, and reads that page only. The system may take it back between the two.
- No map reaches beyond the device's end.
- An exclusive flock is held from open to close (a shared one when read-only).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import stat
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from struct import pack, unpack
from typing import TYPE_CHECKING

from blkdev.device import Writing, Written
from blkdev.devices.behind import ThreadedWriting
from blkdev.devices.direct import DirectWriter
from blkdev.errors import DeviceBusy, DeviceReadOnly
from blkdev.format import PAGE_SIZE_BYTES, BytesLike

_BLKGETSIZE64 = 0x8008_1272 if sys.maxsize > 1 << 32 else 0x8004_1272
_BLKROGET = 0x125E
_BLKDISCARD = 0x1277
_FALLOC_KEEP_SIZE = 1
_FALLOC_PUNCH_HOLE_KEEP_SIZE = 3
_NO_ROOM = (28, 122)
"""ENOSPC, EDQUOT."""
_BACKING_AGE_MAX_S = 0.05
_IOV_MAX = 1024
_SYNC_FILE_RANGE_WRITE = 2
_LARGE_WRITE_BYTES = 1 << 20
"""From this size on a write is started at once, so that the device works while the next one is
being hashed, and the sync at the end finds little left to do."""
_STREAM_BYTES = 16 << 20
"""More than this in large writes is a stream: they go past the page cache, until many syncs came
that had no large write before them. Each of those takes `_LARGE_WRITE_BYTES` off what counts."""
_READ_AHEAD_BYTES = 128 << 10
"""The system may cut what is asked for at once to as much as this."""
_LOCK_TRIES = 6
_LOCK_PAUSE_S = 0.05
_WINDOW_SIZE_BYTES = (256 << 20) if sys.maxsize > 1 << 32 else (16 << 20)
_WINDOW_COUNT = 4096 if sys.maxsize > 1 << 32 else 32
_MAPPED_MAX_BYTES = 64 << 20
"""What maps may hold of the device before they are dropped and made anew. The pages stay cached;
but those in a map count as this process's memory and look like a leak."""

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_sync_file_range = _libc.sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


if TYPE_CHECKING:
    from blkdev._native import Maps, fault_count
else:
    try:
        from blkdev._native import Maps, fault_count
    except ImportError:
        Maps = None


class FileDevice:
    """A plain file, sparse where nothing was written.

    `windows` bounds the address space that maps use (count, size in bytes).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        read_only: bool = False,
        create_size_bytes: int | None = None,
        windows: tuple[int, int] = (_WINDOW_COUNT, _WINDOW_SIZE_BYTES),
    ) -> None:
        """Open and lock. `create_size_bytes` creates the file or grows it (for format only).

        Raises DeviceBusy, DeviceReadOnly, OSError.
        """
        self.name = str(path)
        self.read_only = read_only
        self._streamed_bytes = 0
        self._unsynced_large = False
        self._backing_bytes = 0
        self._backing_until_s = 0.0
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
        if create_size_bytes is not None:
            flags |= os.O_CREAT
        self.descriptor: int | None = self._open(flags)
        self._descriptor = self.descriptor
        self._direct = DirectWriter(self._descriptor)
        self._behind: list[ThreadedWriting] = []
        try:
            self._lock()
            self.size_bytes = self._prepare(create_size_bytes)
            if not read_only:
                # A failure of the last owner's writes is reported once, to whoever syncs first.
                os.fsync(self._descriptor)
            # Reads are of one record, whose length is known: what lies behind it is another's.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
            self.maps: Maps | None = None
            if Maps is not None:
                self.maps = Maps(self._descriptor, self.size_bytes, *windows, _MAPPED_MAX_BYTES)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _open(self, flags: int) -> int:
        try:
            return os.open(self.name, flags, 0o600)
        except OSError as error:
            if isinstance(error, PermissionError) or error.errno == 30:
                why = f"{self.name}: {error.strerror} (check its permissions)"
                raise DeviceReadOnly(why) from error
            raise

    def _prepare(self, create_size_bytes: int | None) -> int:
        """Check the kind of file; the usable size in bytes."""
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(22, f"{self.name} is neither a plain file nor a block device")
        if create_size_bytes is not None and create_size_bytes > status.st_size:
            os.ftruncate(self._descriptor, create_size_bytes)
            return create_size_bytes
        return status.st_size

    def _lock(self) -> None:
        mode = fcntl.LOCK_SH if self.read_only else fcntl.LOCK_EX
        for remaining in reversed(range(_LOCK_TRIES)):
            try:
                fcntl.flock(self._descriptor, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                if not remaining:
                    raise DeviceBusy(self.name, _lock_owner(self._descriptor)) from None
                time.sleep(_LOCK_PAUSE_S)
            else:
                return

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._descriptor, length, offset)
        while len(data) < length:
            at = offset + len(data)
            part = os.pread(self._descriptor, length - len(data), at)
            if not part:
                raise OSError(5, f"{self.name} ends at byte {at}")
            data += part
        return data

    def view(self, offset: int, length: int) -> memoryview:
        view = None if self.maps is None else self.maps.view(offset, length)
        # What cannot be mapped may be read, and a read error is named by a read.
        return memoryview(self.read(offset, length)) if view is None else view

    def read_ahead(self, offset: int, length: int) -> None:
        # Whole pages: what is cut off is a page at the end.
        end = offset + length
        for at in range(offset & -PAGE_SIZE_BYTES, end, _READ_AHEAD_BYTES):
            size_bytes = min(_READ_AHEAD_BYTES, end - at)
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._descriptor, at, size_bytes, os.POSIX_FADV_WILLNEED)

    @property
    def fault_count(self) -> int:
        """Of all devices of the process."""
        return 0 if self.maps is None else fault_count()

    def write(self, offset: int, buffers: Sequence[BytesLike]) -> None:
        size_bytes = sum(map(len, buffers))
        if self._streams(size_bytes):
            written = self._direct.write(offset, buffers)
            if written == size_bytes:
                return
            if written:
                offset, buffers = offset + written, [b"".join(buffers)[written:]]
        self._write_cached(offset, buffers)

    def write_behind(self, offset: int, buffers: Sequence[BytesLike]) -> Writing:
        if self._is_of_stream(sum(map(len, buffers))):
            # Without a thread to be had it is written here.
            with contextlib.suppress(RuntimeError):
                writing = ThreadedWriting(partial(self.write, offset, buffers))
                self._behind = [each for each in self._behind if not each.is_over()] + [writing]
                return writing
        self.write(offset, buffers)
        return Written()

    def _streams(self, size_bytes: int) -> bool:
        """Count a write; whether it is a large one of a stream. A count that a sync of another
        thread overtakes is a little wrong, which harms nobody."""
        streams = self._is_of_stream(size_bytes)
        if size_bytes >= _LARGE_WRITE_BYTES:
            self._unsynced_large = True
            self._streamed_bytes = min(self._streamed_bytes + size_bytes, 2 * _STREAM_BYTES)
        return streams

    def _is_of_stream(self, size_bytes: int) -> bool:
        large = size_bytes >= _LARGE_WRITE_BYTES
        return large and self._streamed_bytes + size_bytes > _STREAM_BYTES

    def _write_cached(self, offset: int, buffers: Sequence[BytesLike]) -> None:
        for first in range(0, len(buffers), _IOV_MAX):
            batch = list(buffers[first : first + _IOV_MAX])
            total = sum(len(buffer) for buffer in batch)
            written = os.pwritev(self._descriptor, batch, offset)
            while written < total:
                rest = b"".join(batch)[written:]
                written += os.pwrite(self._descriptor, rest, offset + written)
            if total >= _LARGE_WRITE_BYTES:
                # The result does not matter: what fails here fails again in `sync`, and says so.
                _sync_file_range(self._descriptor, offset, total, _SYNC_FILE_RANGE_WRITE)
            offset += total

    def sync(self) -> None:
        if not self._unsynced_large:
            self._streamed_bytes = max(0, self._streamed_bytes - _LARGE_WRITE_BYTES)
        self._unsynced_large = False
        os.fdatasync(self._descriptor)

    def discard(self, offset: int, length: int) -> None:
        # Best effort: a result that says it cannot be done changes nothing.
        _fallocate(self._descriptor, _FALLOC_PUNCH_HOLE_KEEP_SIZE, offset, length)

    def reserve(self, offset: int, length: int) -> bool:
        if not _fallocate(self._descriptor, _FALLOC_KEEP_SIZE, offset, length):
            return True
        # Where a file system cannot allocate ahead, only the write itself can tell.
        return ctypes.get_errno() not in _NO_ROOM

    def backing_bytes(self) -> int:
        """Looked up at most every _BACKING_AGE_MAX_S: whoever writes asks each time."""
        now_s = time.monotonic()
        if now_s > self._backing_until_s:
            space = os.fstatvfs(self._descriptor)
            allocated = os.fstat(self._descriptor).st_blocks * 512
            self._backing_bytes = allocated + space.f_bavail * space.f_frsize
            self._backing_until_s = now_s + _BACKING_AGE_MAX_S
        return min(self.size_bytes, self._backing_bytes)

    def measure(self) -> int:
        return os.fstat(self._descriptor).st_size

    def set_size(self, size_bytes: int) -> bool:
        present = self.measure()
        if size_bytes > present:
            os.ftruncate(self._descriptor, size_bytes)
        self._use(size_bytes)
        if size_bytes < present:
            if self._is_mapped_beyond(size_bytes):
                return False
            os.ftruncate(self._descriptor, size_bytes)
        return True

    def _use(self, size_bytes: int) -> None:
        """From here on maps are made for this size, and none is used that is too short for it."""
        self.size_bytes = size_bytes
        if self.maps is not None:
            self.maps.resize(size_bytes)

    def _is_mapped_beyond(self, size_bytes: int) -> bool:
        """Whether, after a while, a view still keeps a map of the end: whoever touches a page of
        it that was cut off would see zeros.
        """
        for _ in range(_LOCK_TRIES):
            if self.maps is None or self.maps.end() <= size_bytes:
                return False
            time.sleep(_LOCK_PAUSE_S)
        return True

    def close(self) -> None:
        # No lock: in a fork nobody might be left to release it.
        if self.maps is not None:
            self.maps.close()
        for writing in self._behind:
            writing.end()
        # Forgotten before it is closed: its number may be another file's at once.
        self._direct.close()
        closing, self._descriptor, self.descriptor = self._descriptor, -1, None
        if closing >= 0:
            os.close(closing)


class BlockDevice(FileDevice):
    """A raw block device, opened exclusively: neither mounted nor open by another store."""

    def _open(self, flags: int) -> int:
        try:
            return super()._open(flags if self.read_only else flags | os.O_EXCL)
        except OSError as error:
            if error.errno == 16:
                raise DeviceBusy(self.name, _owner_of_path(self.name)) from error
            raise

    def _prepare(self, _create_size_bytes: int | None) -> int:
        if not stat.S_ISBLK(os.fstat(self._descriptor).st_mode):
            raise OSError(22, f"{self.name} is not a block device")
        refused = bytearray(4)
        fcntl.ioctl(self._descriptor, _BLKROGET, refused)
        if not self.read_only and any(refused):
            raise DeviceReadOnly(f"{self.name} is set read-only (blockdev --setrw changes that)")
        return self.measure()

    def discard(self, offset: int, length: int) -> None:
        # Not a hole: on a device that is a promise of zeros, which most disks and cards cannot give
        # without writing them. They are refused it, and would never be told.
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._descriptor, _BLKDISCARD, pack("=QQ", offset, length))

    def reserve(self, _offset: int, _length: int) -> bool:
        # fallocate on a device would make its bytes zeros.
        return True

    def backing_bytes(self) -> int:
        return self.size_bytes

    def measure(self) -> int:
        size = bytearray(8)
        fcntl.ioctl(self._descriptor, _BLKGETSIZE64, size)
        return int(unpack("<Q", size)[0])

    def set_size(self, size_bytes: int) -> bool:
        if size_bytes > (present := self.measure()):
            raise OSError(28, f"{self.name} has only {present} bytes")
        self._use(size_bytes)
        return True


def _owner_of_path(path: str) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _lock_owner(descriptor)
    finally:
        os.close(descriptor)


def _lock_owner(descriptor: int) -> int | None:
    """Process id of whoever holds the flock on this file, as the kernel lists it."""
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if len(words) > 5 and words[1] == "FLOCK" and words[5] == device and int(words[4]) > 0:
                return int(words[4])
    return None
