"""Records on their way into the log: what callers hand to it, in runs of a bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from blkdev import format as fmt
from blkdev.catalog import Catalog
from blkdev.checksum import crc32

_RUN_SIZE_BYTES = 1 << 20
_RUN_COUNT = 256

Item = tuple[bytes, fmt.BytesLike]
"""A key and its value."""


def runs(items: Iterable[Item]) -> Iterator[list[Item]]:
    """The items in lists, none of which holds many bytes; a list is taken as it is.

    What came before an error of `items` is handed out first.
    """
    if isinstance(items, list):
        yield items
        return
    run: list[Item] = []
    size_bytes = 0
    try:
        for item in items:
            run.append(item)
            size_bytes += len(item[1])
            if size_bytes >= _RUN_SIZE_BYTES or len(run) == _RUN_COUNT:
                yield run
                run, size_bytes = [], 0
    except Exception:
        yield run
        raise
    yield run


class Draft(NamedTuple):
    """A record to append. `value` must not change until the log has written it. A copy keeps its
    record's `sequence`, and a block's copy says where it was (`moved_from`).
    """

    kind: int
    key: bytes
    value: bytes | memoryview
    value_checksum: int
    fingerprint: int = fmt.NO_FINGERPRINT
    sequence: int = -1
    moved_from: int = 0


def tombstones_of(dead: Mapping[int, int], catalog: Catalog) -> list[Draft]:
    """Records that delete what is at these locations (location -> fingerprint)."""
    packed = [
        fmt.TOMBSTONE.struct.pack(
            fingerprint, location, catalog.segments[fmt.location_slot(location)].sequence
        )
        for location, fingerprint in dead.items()
    ]
    most = fmt.TOMBSTONES_PER_RECORD_MAX
    values = [b"".join(packed[at : at + most]) for at in range(0, len(packed), most)]
    return [Draft(fmt.KIND_TOMBSTONES, b"", value, crc32(value)) for value in values]
