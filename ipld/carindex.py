"""The index of a CARv2 file: where in its data the section of a multihash begins.

    varint(0x0401)  u32 count of functions
    per function    u64 multihash code  u32 count of widths
    per width       u32 width  u64 size in bytes  then records: digest  u64 offset

Little-endian; functions, widths and records ascend; a width is the digest's length plus 8. Offsets
count from the first byte of the inner CARv1. An index is what the author of the file claims: a
reader verifies the block that it finds, and takes a miss for "ask elsewhere", never for absence.
Source: ipld.io/specs/transport/car/carv2, format MultihashIndexSorted.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ipld import multihash, varint
from ipld.errors import MalformedCar, TruncatedCar
from ipld.varint import BytesLike

MULTIHASH_INDEX_SORTED = 0x0401
_MARK = varint.encode(MULTIHASH_INDEX_SORTED)
_COUNT = struct.Struct("<I")
_FUNCTION = struct.Struct("<QI")
_WIDTH = struct.Struct("<IQ")
_OFFSET = struct.Struct("<Q")


class IndexEntry(NamedTuple):
    """One claim: the section of this multihash starts at this offset of the inner CARv1."""

    multihash: bytes
    offset: int


class IndexBuilder:
    """Collects the sections of a file being written; encodes them when all are known."""

    def __init__(self) -> None:
        self._records: dict[tuple[int, int], list[bytes]] = {}

    def add(self, hashed: bytes, offset: int) -> None:
        code, digest = multihash.split(hashed)
        record = digest + _OFFSET.pack(offset)
        self._records.setdefault((code, len(record)), []).append(record)

    def encode(self) -> Iterator[bytes]:
        """The index in pieces. Records of equal digest keep the order of the file."""
        functions: dict[int, list[int]] = {}
        for code, width in sorted(self._records):
            functions.setdefault(code, []).append(width)
        yield _MARK + _COUNT.pack(len(functions))
        for code, widths in functions.items():
            yield _FUNCTION.pack(code, len(widths))
            for width in widths:
                records = self._records[code, width]
                records.sort(key=lambda record: record[:-8])
                yield _WIDTH.pack(width, width * len(records))
                yield b"".join(records)


def decode_index(index: BytesLike) -> Iterator[IndexEntry]:
    """All entries of an index, in its order. Raises MalformedCar for any other index format, and
    for sizes that do not add up; offsets are handed on as they are."""
    view = memoryview(index)
    if bytes(view[:2]) != _MARK:
        raise MalformedCar("index is not a MultihashIndexSorted (rebuild it by reading the file)")
    at = len(_MARK)
    (functions,) = _COUNT.unpack(_cut(view, at, _COUNT.size))
    at += _COUNT.size
    for _ in range(functions):
        code, widths = _FUNCTION.unpack(_cut(view, at, _FUNCTION.size))
        at += _FUNCTION.size
        for _ in range(widths):
            width, size = _WIDTH.unpack(_cut(view, at, _WIDTH.size))
            at += _WIDTH.size
            if not 8 <= width <= 8 + multihash.DIGEST_SIZE_MAX_BYTES or size % width or code >> 63:
                raise MalformedCar(f"index holds {size} bytes in records of {width}")
            prefix = varint.encode(code) + varint.encode(width - 8)
            records = bytes(_cut(view, at, size))
            at += size
            for start in range(0, size, width):
                end = start + width - 8
                (offset,) = _OFFSET.unpack_from(records, end)
                yield IndexEntry(prefix + records[start:end], offset)
    if at != len(view):
        raise MalformedCar(f"{len(view) - at} bytes after the index")


def _cut(view: memoryview, at: int, size: int) -> memoryview:
    if at + size > len(view):
        raise TruncatedCar("index is cut short")
    return view[at : at + size]
