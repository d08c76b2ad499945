"""Types of the C helper. `blkdev/index.py`, `log.py` and `reader.py` say what each part does."""

from _typeshed import ReadableBuffer

from blkdev.format import BytesLike

def crc32(data: ReadableBuffer, value: int = 0, /) -> int: ...
def fingerprint_of(key: bytes, salt: int, /) -> int: ...
def guard(address: int, length: int, /) -> bool:
    """Turn read errors in this range of memory into zeros and a count."""

def unguard(address: int, /) -> None: ...
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

class Index:
    count: int
    size_bytes: int

    def locations(self, fingerprint: int, /) -> tuple[int, ...]: ...
    def has(self, fingerprint: int, location: int, /) -> bool: ...
    def add(self, fingerprint: int, location: int, /) -> None: ...
    def replace(self, fingerprint: int, old: int, new: int, /) -> None: ...
    def remove(self, fingerprint: int, location: int, /) -> bool: ...
    def shard(self, number: int, /) -> tuple[int, int, bytes]: ...
    def load(self, number: int, homes: int, used: int, slots: BytesLike, /) -> None: ...

class Finder:
    def __init__(
        self,
        index: object,
        log: object,
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

    def part(self, key: bytes, start: int, length: int, /) -> bytes | None:
        """Part of the value, otherwise as `value`."""

    def close(self) -> None: ...
