"""What the engine stores on: the Device interface, and a device in memory.

Invariants
- A device fails with OSError only; who calls it says what that means.
- A write is not durable before a later `sync` returned; a failed sync may have lost any of them.
- Offsets and lengths of writes are whole pages; reads may be of any range inside the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from blkdev.format import PAGE_SIZE_BYTES, BytesLike

if TYPE_CHECKING:
    from blkdev._native import Maps


class Device(Protocol):
    """`size_bytes` bytes. Safe to use from many threads; writers never overlap."""

    name: str
    size_bytes: int
    read_only: bool
    descriptor: int | None
    """What `pread` reads the same bytes from, until `close`; None when nothing does."""
    maps: Maps | None
    """What maps the same bytes; None when nothing does."""

    @property
    def fault_count(self) -> int:
        """Rises when a view that was handed out turned out unreadable, and has zeros now."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes, or OSError. Does not hold the interpreter lock during I/O."""

    def view(self, offset: int, length: int) -> memoryview:
        """As `read`, without a copy where the device can; valid as long as it is referenced.

        Later writes to the range show through.
        """

    def read_ahead(self, offset: int, length: int) -> None:
        """The range will be read soon. Best effort, and waits for nothing."""

    def write(self, offset: int, buffers: Sequence[BytesLike]) -> None:
        """All buffers, one after the other, or OSError; visible to readers when it returns."""

    def write_behind(self, offset: int, buffers: Sequence[BytesLike]) -> Writing:
        """Begin a `write`, which may go on after this returned: until it is waited for, readers
        may see anything there, and the buffers must not change. Not for what overlaps. Raises
        OSError here or from `Writing.wait`.
        """

    def sync(self) -> None:
        """Make all earlier writes survive a power cut. Never call again after an OSError."""

    def discard(self, offset: int, length: int) -> None:
        """The range's content is no longer needed and may become zeros. Best effort."""

    def reserve(self, offset: int, length: int, /) -> bool:
        """See to it that writes to the range find room below this device: a sparse file on a full
        file system has none for what it has not allocated. False when there is none now.
        """

    def backing_bytes(self) -> int:
        """How many of `size_bytes` there is room for below, what is allocated included. May be a
        moment old."""

    def measure(self) -> int:
        """Bytes that are there now: a device may have grown since it was opened."""

    def set_size(self, size_bytes: int) -> bool:
        """Use so many bytes from now on. A plain file grows or is cut to that, durable with the
        next `sync`; False when it could not be cut, because maps of it are in use, and only
        `size_bytes` changed. Raises OSError where there are not so many.
        """

    def close(self) -> None:
        """Release the device and its lock. Makes nothing durable."""


class Writing(Protocol):
    """A write that was begun."""

    def is_over(self) -> bool:
        """Whether `wait` returns at once."""

    def wait(self) -> None:
        """Returns when readers see it. Raises OSError, each time, if it failed."""


class Written:
    """A write that is over."""

    def is_over(self) -> bool:
        return True

    def wait(self) -> None:
        """It is."""


class Event(NamedTuple):
    """One thing done to a recording RamDevice."""

    kind: str
    offset: int
    data: bytes


_ZERO_PAGE = bytes(PAGE_SIZE_BYTES)


class RamDevice:
    """A sparse device in memory, as a plain file is. With `record`, `events` lists every write,
    sync, discard and change of size.

    `pages` may be shared copy-on-write with another RamDevice: pages are immutable bytes.
    """

    def __init__(
        self,
        size_bytes: int,
        *,
        name: str = "memory",
        record: bool = False,
        read_only: bool = False,
        pages: dict[int, bytes] | None = None,
    ) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self.read_only = read_only
        self.descriptor: int | None = None
        self.maps: Maps | None = None
        self.fault_count = 0
        self.pages: dict[int, bytes] = {} if pages is None else pages
        self.events: list[Event] = []
        self._record = record

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self.size_bytes:
            raise OSError(22, "read beyond the end of the device")
        first, skip = divmod(offset, PAGE_SIZE_BYTES)
        if skip + length <= PAGE_SIZE_BYTES:
            return self.pages.get(first, _ZERO_PAGE)[skip : skip + length]
        last = (offset + length - 1) // PAGE_SIZE_BYTES
        get = self.pages.get
        joined = b"".join([get(page, _ZERO_PAGE) for page in range(first, last + 1)])
        return joined[skip : skip + length]

    def view(self, offset: int, length: int) -> memoryview:
        return memoryview(self.read(offset, length))

    def read_ahead(self, offset: int, length: int) -> None:
        """All is in memory."""

    def write(self, offset: int, buffers: Sequence[BytesLike]) -> None:
        data = b"".join(buffers)
        if offset % PAGE_SIZE_BYTES or len(data) % PAGE_SIZE_BYTES:
            raise OSError(22, "write of less than whole pages")
        if self.read_only or offset + len(data) > self.size_bytes:
            raise OSError(22, "write beyond the end of the device, or to a read-only one")
        if self._record:
            self.events.append(Event("write", offset, data))
        self.poke(offset, data)

    def write_behind(self, offset: int, buffers: Sequence[BytesLike]) -> Writing:
        self.write(offset, buffers)
        return Written()

    def poke(self, offset: int, data: bytes) -> None:
        """Store whole pages without recording it."""
        first = offset // PAGE_SIZE_BYTES
        for at in range(0, len(data), PAGE_SIZE_BYTES):
            self.pages[first + at // PAGE_SIZE_BYTES] = data[at : at + PAGE_SIZE_BYTES]

    def sync(self) -> None:
        if self._record:
            self.events.append(Event("sync", 0, b""))

    def discard(self, offset: int, length: int) -> None:
        first, last = offset // PAGE_SIZE_BYTES, (offset + length) // PAGE_SIZE_BYTES
        if self._record:
            self.events.append(Event("discard", offset, length.to_bytes(8, "little")))
        for page in [page for page in tuple(self.pages) if first <= page < last]:
            del self.pages[page]

    def reserve(self, _offset: int, _length: int) -> bool:
        return True

    def backing_bytes(self) -> int:
        return self.size_bytes

    def measure(self) -> int:
        return self.size_bytes

    def set_size(self, size_bytes: int) -> bool:
        if self._record:
            self.events.append(Event("resize", size_bytes, b""))
        self.size_bytes = size_bytes
        for page in [page for page in tuple(self.pages) if page * PAGE_SIZE_BYTES >= size_bytes]:
            del self.pages[page]
        return True

    def close(self) -> None:
        """Nothing to release; the pages stay, so that a test can open the device again."""


def open_device(path: str | Path, *, read_only: bool = False) -> Device:
    """The device or plain file at `path`. Raises DeviceBusy, DeviceReadOnly, OSError."""
    # The import of the system-call side waits until it is needed: tools that only describe a
    # store stay quick to start.
    from blkdev.devices.file import BlockDevice, FileDevice

    target = Path(path)
    if target.is_block_device():
        return BlockDevice(target, read_only=read_only)
    return FileDevice(target, read_only=read_only)
