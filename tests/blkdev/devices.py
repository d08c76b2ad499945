"""Devices that fail on purpose, and small helpers to make and look at stores."""

import functools
import hashlib
import random
from collections.abc import Callable, Sequence

from blkdev.device import RamDevice, Writing
from blkdev.format import BytesLike
from blkdev.store import Store

MIB = 1 << 20
SMALL_SEGMENT_BYTES = 64 << 10
SIZE_BYTES = 20 * MIB
"""Holds 64 segments of 64 KiB or 8 of 512 KiB."""


class _Late:
    """A write that is done by whoever waits for it first, and gives each of them its outcome."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._write: Callable[[], None] | None = write
        self._error: OSError | None = None

    def is_over(self) -> bool:
        return self._write is None

    def wait(self) -> None:
        write, self._write = self._write, None
        try:
            if write is not None:
                write()
        except OSError as error:
            self._error = error
        if self._error is not None:
            raise self._error


class LateDevice(RamDevice):
    """Writes behind as late as it may: who looks at the place before he waited sees what was there,
    and who changes the buffers is found out."""

    def write_behind(self, offset: int, buffers: Sequence[BytesLike]) -> Writing:
        data = b"".join(buffers)

        def write() -> None:
            assert b"".join(buffers) == data, "somebody changed what is being written"
            self.write(offset, buffers)

        return _Late(write)


class FaultyDevice(LateDevice):
    """Counts operations and fails those it is told to fail, with EIO.

    `fail_at` counts all reads, writes and syncs; without `healing` it fails for good from there on;
    `failing` names kinds that always fail; `bad` is
    a set of page numbers that cannot be read.
    """

    def __init__(self, size_bytes: int, *, pages: dict[int, bytes] | None = None) -> None:
        super().__init__(size_bytes, record=True, pages=pages)
        self.counts = {"read": 0, "write": 0, "sync": 0}
        self.fail_at = -1
        self.healing = True
        self.failing: set[str] = set()
        self.bad: set[int] = set()

    def _count(self, kind: str) -> None:
        number = sum(self.counts.values())
        self.counts[kind] += 1
        dead = 0 <= self.fail_at < number and not self.healing
        if number == self.fail_at or dead or kind in self.failing:
            raise OSError(5, f"{kind} failed on purpose")

    def read(self, offset: int, length: int) -> bytes:
        self._count("read")
        if self.bad and self.bad & set(range(offset // 4096, (offset + length - 1) // 4096 + 1)):
            raise OSError(5, "bad sector")
        return super().read(offset, length)

    def write(self, offset: int, buffers: Sequence[BytesLike]) -> None:
        self._count("write")
        super().write(offset, buffers)

    def sync(self) -> None:
        self._count("sync")
        super().sync()


def entropy(count: int) -> bytes:
    """The same identity for every store: images are alike from run to run."""
    return random.Random(7).randbytes(count)


def formatted(
    size_bytes: int = SIZE_BYTES, segment_size_bytes: int = SMALL_SEGMENT_BYTES
) -> dict[int, bytes]:
    """Pages of an empty store."""
    device = RamDevice(size_bytes)
    Store.format(device, segment_size_bytes=segment_size_bytes, entropy=entropy)
    return device.pages


def new_store(
    size_bytes: int = SIZE_BYTES, segment_size_bytes: int = SMALL_SEGMENT_BYTES
) -> tuple[Store, FaultyDevice]:
    """An empty open store and its device."""
    device = FaultyDevice(size_bytes, pages=formatted(size_bytes, segment_size_bytes))
    return Store.open(device), device


def copied(device: RamDevice) -> RamDevice:
    """The device as a killed process leaves it."""
    return RamDevice(device.size_bytes, pages=dict(device.pages))


def digest(value: bytes) -> bytes:
    """The key under which a value is stored."""
    return b"\x12\x20" + hashlib.sha256(value).digest()


@functools.cache
def block(number: int, size_bytes: int = 300) -> tuple[bytes, bytes]:
    """Key and value of the numbered block."""
    value = random.Random(number).randbytes(size_bytes)
    return digest(value), value


def blocks(first: int, count: int, size_bytes: int = 300) -> list[tuple[bytes, bytes]]:
    return [block(number, size_bytes) for number in range(first, first + count)]


def put(store: Store, items: list[tuple[bytes, bytes]]) -> None:
    assert store.put_many(items) == len(items)


def contents(store: Store) -> dict[bytes, bytes]:
    """Every key the store lists, with its value."""
    keys = list(store.keys())
    assert len(keys) == len(set(keys)), "a key is listed twice"
    return {key: store.get(key) for key in keys}


def assert_holds(store: Store, items: list[tuple[bytes, bytes]]) -> None:
    for key, value in items:
        assert store.get(key) == value


def assert_sound(store: Store) -> None:
    """The running counts are those of a full scan."""
    report = store.check()
    assert report.ok, report.findings
    stats = store.stats()
    assert report.live_bytes == stats.live_bytes
    in_use = stats.segments - stats.segments_free - stats.segments_checkpoint
    in_use -= stats.segments_retired
    assert report.segments == in_use
    catalog = store._catalog
    assert stats.keys == sum(1 for _ in catalog.index.entries())
    assert stats.names == len(store.names())
    assert stats.journal_records == sum(len(each.records) for each in catalog.streams.values())
    assert stats.index_bytes == sum(len(slots) for _, _, slots in catalog.index.image())
