"""Types of the C helper. `blkdev/index.py`, `log.py`, `reader.py`, `segment.py` and
`recover.py` say what each part does."""

from array import array
from contextlib import AbstractContextManager

from _typeshed import ReadableBuffer

from blkdev.format import BytesLike
from blkdev.reader import Compared, MakeView

def crc32(data: ReadableBuffer, value: int = 0, /) -> int: ...
def fingerprint_of(key: bytes, salt: int, /) -> int: ...
def fault_count() -> int: ...
def stage(
    index: object,
    staged: dict[int, tuple[bytes, bytes | memoryview]],
    chunk: bytearray,
    items: list[tuple[bytes, BytesLike]],
    at: int,
    together: bool,
    salt: int,
    seed: int,
    checksum: int,
    sequence: int,
    place: int,
    segment_end: int,
    pending_bytes: int,
    entry_count: int,
    segment_size_bytes: int,
    staged_size_max_bytes: int,
    value_size_max_bytes: int,
    /,
) -> tuple[int, bytes, int, int]:
    """(next item, summary entries, checksum, bytes staged)."""

def scan(
    group: BytesLike,
    size_bytes: int,
    slot: int,
    offset: int,
    record_count: int,
    records_checksum: int,
    salt: int,
    seed: int,
    verify_values: bool,
    /,
) -> bytes | None:
    """Summary entries of a group that is whole, None when Python has to look."""

def enter(index: object, entries: array[int], at: int, slot: int, /) -> tuple[int, int]:
    """(number of the first entry from `at` on that is not plain, bytes of those before it)."""

class Maps:
    """Read-only maps of a device; a range that turns out unreadable is zeros and a fault."""

    def __init__(
        self,
        descriptor: int,
        end: int,
        window_count: int,
        window_size_bytes: int,
        mapped_max_bytes: int,
        /,
    ) -> None: ...
    def view(self, offset: int, length: int, /) -> memoryview | None:
        """The range, read-only, valid as long as it is referenced; None when it has to be read."""

    def resize(self, end: int, /) -> None:
        """Map up to `end` from now on."""

    def end(self) -> int:
        """Where the last map that is in use ends."""

    def close(self) -> None: ...

class Index:
    count: int
    size_bytes: int

    def locations(self, fingerprint: int, /) -> tuple[int, ...]: ...
    def has(self, fingerprint: int, location: int, /) -> bool: ...
    def add(self, fingerprint: int, location: int, /) -> None: ...
    def replace(self, fingerprint: int, old: int, new: int, /) -> None: ...
    def remove(self, fingerprint: int, location: int, /) -> bool: ...
    def is_there(self, number: int, /) -> bool: ...
    def put_off(self, number: int, homes: int, used: int, /) -> None: ...
    def pin(self, fingerprint: int, location: int, /) -> bool: ...
    def unpin(self, location: int, /) -> None: ...
    def pin_count(self, slot: int, /) -> int: ...
    def shard(self, number: int, /) -> tuple[int, int, bytes]: ...
    def load(self, number: int, homes: int, used: int, slots: BytesLike, /) -> None: ...

class Finder:
    def __init__(
        self,
        reader: object,
        index: object,
        log: object,
        catalog: object,
        maps: Maps,
        descriptor: int,
        verify: bool,
        salt: int,
        seed: int,
        first_offset: int,
        segment_size_bytes: int,
        segments_before_middle: int,
        after_offset: int,
        /,
    ) -> None: ...
    def value(self, key: bytes, /) -> bytes | None:
        """The value, None when it is not there, NotImplemented when Python has to look."""

    def size(self, key: bytes, /) -> int | None:
        """The value's size, otherwise as `value`."""

    def has(self, key: bytes, /) -> bool:
        """Whether it is there, otherwise as `value`."""

    def location(self, key: bytes, limit: int, /) -> int | None:
        """Where its record is, None when that was put after `limit`, otherwise as `value`."""

    def view(self, key: bytes, /) -> AbstractContextManager[memoryview]:
        """As `reader.View`."""

    def checked_view(
        self, name: bytes, key: bytes, compared: Compared, make_slow: MakeView, /
    ) -> AbstractContextManager[memoryview]:
        """As `Reader.checked_view`."""

    def part(self, key: bytes, start: int, length: int, /) -> bytes | None:
        """Part of the value, otherwise as `value`."""

    def close(self) -> None: ...
