"""Plain files and block devices. With `direct.py` all that makes system calls in the engine.

Invariants
- Maps are PROT_READ: nothing is ever written through one, so a stray pointer cannot damage the
  store, and no page of the device is dirty that `write` did not make so.
- A mapped page is touched only after MADV_POPULATE_READ succeeded on it: a read error is then an
  OSError instead of SIGBUS, and the I/O happens with the interpreter lock released. A page may be
  evicted between the two; where the C helper was built, an error then is a count (`fault_count`).
- No map reaches beyond the device's end.
- An exclusive flock is held from open to close (a shared one when read-only).
- `_windows_lock` guards the table of maps and is held for no I/O.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import stat
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from struct import unpack
from typing import TYPE_CHECKING, Any

from blkdev.devices.direct import DirectWriter
from blkdev.errors import DeviceBusy, DeviceReadOnly
from blkdev.format import PAGE_SIZE_BYTES, BytesLike

_BLKGETSIZE64 = 0x8008_1272 if sys.maxsize > 1 << 32 else 0x8004_1272
_BLKROGET = 0x125E
_MADV_POPULATE_READ = 22
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
_LOCK_TRIES = 6
_LOCK_PAUSE_S = 0.05
_WINDOW_SIZE_BYTES = (256 << 20) if sys.maxsize > 1 << 32 else (16 << 20)
_WINDOW_COUNT = 4096 if sys.maxsize > 1 << 32 else 32
_POPULATED_MAX_BYTES = 64 << 20
"""What maps may hold of the device before they are dropped and made anew. The pages stay cached;
but those in a map count as this process's memory and look like a leak."""

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap64 if hasattr(_libc, "mmap64") else _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64,
)  # fmt: skip
_munmap = _libc.munmap
_munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_madvise = _libc.madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_fallocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_sync_file_range = _libc.sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_MAP_FAILED = ctypes.c_void_p(-1).value


if TYPE_CHECKING:
    from blkdev import _native as native
else:
    try:
        from blkdev import _native as native
    except ImportError:
        native = None


class _Window:
    """One read-only map of part of the device; unmapped when its last view is gone."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        address = _mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, offset)
        if address == _MAP_FAILED:
            raise OSError(ctypes.get_errno(), "cannot map the device")
        memory = (ctypes.c_ubyte * length).from_address(address)
        if native is not None:
            native.guard(address, length)
        self.end = offset + length
        self.unmapping = weakref.finalize(memory, _unmap, address, length)
        self.address: int = address
        # The view owns `memory`, and every slice owns the view.
        self.bytes = memoryview(memory).cast("B").toreadonly()


def _unmap(address: int, length: int) -> None:
    if native is not None:
        native.unguard(address)
    _munmap(address, length)


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
        self._window_count, self._window_size_bytes = windows
        self._windows: OrderedDict[int, _Window] = OrderedDict()
        self._windows_lock = threading.Lock()
        self._mapped: list[tuple[int, weakref.finalize[..., Any]]] = []
        self._populated_bytes = 0
        self._faults_seen = self.fault_count
        self._can_populate = True
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
        try:
            self._lock()
            self.size_bytes = self._prepare(create_size_bytes)
            if not read_only:
                # A failure of the last owner's writes is reported once, to whoever syncs first.
                os.fsync(self._descriptor)
            # Reads are of one record, whose length is known: what lies behind it is another's.
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)
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
        number, skip = divmod(offset, self._window_size_bytes)
        if skip + length > self._window_size_bytes or not self._can_populate:
            return memoryview(self.read(offset, length))
        if self._faults_seen != self.fault_count:
            # A window may have zeros where the device has something else.
            self._faults_seen = self.fault_count
            self._drop_windows()
        try:
            window = self._windows.get(number) or self._map(number)
        except OSError:
            # No address space is left for a map: no fault of the device.
            return memoryview(self.read(offset, length))
        begin = skip & -PAGE_SIZE_BYTES
        if _madvise(window.address + begin, skip + length - begin, _MADV_POPULATE_READ):
            # EINVAL: a kernel before 5.14. Anything else is a read error: let pread name it.
            self._can_populate = ctypes.get_errno() != 22
            # The traceback of a read error must not keep the map, and with it the device.
            del window
            return memoryview(self.read(offset, length))
        view = window.bytes[skip : skip + length]
        self._populated_bytes += length
        if self._populated_bytes > _POPULATED_MAX_BYTES:
            self._drop_windows()
        return view

    @property
    def fault_count(self) -> int:
        """Of all devices of the process."""
        return 0 if native is None else native.fault_count()

    def _drop_windows(self) -> None:
        """Maps that views are open on stay until the last of those is gone."""
        with self._windows_lock:
            self._windows.clear()
            self._populated_bytes = 0

    def _map(self, number: int) -> _Window:
        offset = number * self._window_size_bytes
        with self._windows_lock:
            length = min(self._window_size_bytes, self.size_bytes - offset)
            if length <= 0:
                raise OSError(22, "view beyond the end of the device")
            window = self._windows.get(number)
            if window is None:
                window = self._windows[number] = _Window(self._descriptor, offset, length)
                self._mapped = [each for each in self._mapped if each[1].alive]
                self._mapped.append((window.end, window.unmapping))
                while len(self._windows) > self._window_count:
                    self._windows.popitem(last=False)
            return window

    def write(self, offset: int, buffers: Sequence[BytesLike]) -> None:
        size_bytes = sum(map(len, buffers))
        if self._streams(size_bytes):
            written = self._direct.write(offset, buffers)
            if written == size_bytes:
                return
            offset, buffers = offset + written, [b"".join(buffers)[written:]]
        self._write_cached(offset, buffers)

    def _streams(self, size_bytes: int) -> bool:
        """Count a write; whether it is a large one of a stream. A count that a sync of another
        thread overtakes is a little wrong, which harms nobody."""
        if size_bytes < _LARGE_WRITE_BYTES:
            return False
        self._unsynced_large = True
        self._streamed_bytes = min(self._streamed_bytes + size_bytes, 2 * _STREAM_BYTES)
        return self._streamed_bytes > _STREAM_BYTES

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
        with self._windows_lock:
            self.size_bytes = size_bytes
            self._windows.clear()

    def _is_mapped_beyond(self, size_bytes: int) -> bool:
        """Whether, after a while, a view still keeps a map of the end: whoever touches a page of
        it that was cut off would be killed.
        """
        for _ in range(_LOCK_TRIES):
            with self._windows_lock:
                ends = [end for end, unmapping in self._mapped if unmapping.alive]
            if all(end <= size_bytes for end in ends):
                return False
            time.sleep(_LOCK_PAUSE_S)
        return True

    def close(self) -> None:
        # No lock: in a fork nobody might be left to release it.
        self._windows = OrderedDict()
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
