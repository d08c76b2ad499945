"""CAR files: blocks in a row, for carrying DAGs between nodes. Version 1 and 2, read and written.

    v1   varint(length) dag-cbor{roots, version: 1}   then per block   varint(length) CID data
    v2   pragma (11 bytes)  header (40 bytes)  padding?  a whole v1  padding?  index?

Reading streams: memory holds one block and one read-ahead buffer, and nothing is allocated on the
word of a length field before its limit is checked. Every block is hashed before it is handed out.
Writing streams too, except that the version 2 header, which comes first, can be filled in only at
the end, so that its target must be seekable. The index is in `ipld.carindex`.
Source: ipld.io/specs/transport/car.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from ipld import cid as cids
from ipld import dagcbor, varint
from ipld.block import BLOCK_SIZE_MAX_BYTES, Block
from ipld.carindex import IndexBuilder, IndexEntry
from ipld.errors import DataError, MalformedCar, TruncatedCar
from ipld.varint import BytesLike

HEADER_SIZE_MAX_BYTES = 1 << 20
# The longest CID that we accept: version, codec, function and length as varints, 128 digest bytes.
CID_SIZE_MAX_BYTES = 4 * 9 + 128
SECTION_SIZE_MAX_BYTES = BLOCK_SIZE_MAX_BYTES + CID_SIZE_MAX_BYTES

PRAGMA_V2 = bytes.fromhex("0aa16776657273696f6e02")
_HEADER_V2 = struct.Struct("<16sQQQ")
_DATA_OFFSET_MIN = len(PRAGMA_V2) + _HEADER_V2.size
# First bit of the characteristics: the index lists every block.
_FULLY_INDEXED = b"\x80" + bytes(15)
_READ_SIZE_BYTES = 1 << 18
_VARINT_SIZE_MAX_BYTES = 9


class HeaderV2(NamedTuple):
    """Where the parts of a version 2 file are: offsets from its first byte; index 0 for none."""

    characteristics: bytes
    data_offset: int
    data_size: int
    index_offset: int


class CarReader:
    """Iterates over the verified blocks of a CAR file, once.

    `read(n)` returns at most n bytes and b"" at the end of the file; short answers are fine. The
    header is read at once, each block when it is asked for. Raises MalformedCar, TruncatedCar,
    HashMismatch, BlockTooLarge, InvalidCid, UnsupportedHash; after an error the reader is of no
    further use. Roots and index are claims of the file's author: nothing here relies on them.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._source = _Source(read)
        self.header_v2: HeaderV2 | None = None
        header = self._read_header()
        if header == PRAGMA_V2[1:]:
            self.header_v2 = _parse_header_v2(self._source.take(_HEADER_V2.size))
            self._source.skip(self.header_v2.data_offset - _DATA_OFFSET_MIN)
            self._source.limit(self.header_v2.data_size)
            header = self._read_header()
        self.version = 2 if self.header_v2 else 1
        self.roots: tuple[bytes, ...] = _parse_header_v1(header)

    def __iter__(self) -> Iterator[Block]:
        source = self._source
        while not source.at_end():
            size = source.varint("section")
            if size == 0:
                raise MalformedCar("section of length zero (the file is padded or damaged)")
            if size > SECTION_SIZE_MAX_BYTES:
                raise MalformedCar(
                    f"section of {size} bytes (limit {SECTION_SIZE_MAX_BYTES}, a 2 MiB block)"
                )
            section = source.take(size)
            cid, start = cids.read_prefix(section, 0)
            yield Block.verify(cid, memoryview(section)[start:])

    def _read_header(self) -> bytes:
        size = self._source.varint("header")
        if not 0 < size <= HEADER_SIZE_MAX_BYTES:
            raise MalformedCar(f"header of {size} bytes (not a CAR file, or above 1 MiB)")
        return self._source.take(size)


def write_car(
    roots: Sequence[bytes],
    blocks: Iterable[Block],
    write: Callable[[BytesLike], object],
    index: IndexBuilder | None = None,
) -> int:
    """Write a version 1 file as the blocks come; returns its size in bytes.

    Identity CIDs are left out, since they carry their own content. The blocks' data is passed on as
    it is, so `write` must take all of it. An `index` learns where each block is.
    """
    header = dagcbor.encode({"roots": [dagcbor.Link(root) for root in roots], "version": 1})
    head = varint.encode(len(header)) + header
    write(head)
    offset = len(head)
    for block in blocks:
        if cids.is_identity(block.cid):
            continue
        head = varint.encode(len(block.cid) + len(block.data)) + block.cid
        write(head)
        write(block.data)
        if index is not None:
            index.add(cids.multihash_of(block.cid), offset)
        offset += len(head) + len(block.data)
    return offset


def write_car_v2(
    roots: Sequence[bytes], blocks: Iterable[Block], target: BinaryIO, *, index: bool = True
) -> int:
    """Write a version 2 file at the target's present position; returns its size in bytes.

    The target must be seekable: the header's place is filled with zeros first and rewritten last,
    so a file that was cut short is refused by every reader. With `index` memory grows by about 150
    bytes per block.
    """
    start = target.tell()
    target.write(PRAGMA_V2 + bytes(_HEADER_V2.size))
    builder = IndexBuilder() if index else None
    data_size = write_car(roots, blocks, target.write, builder)
    end = _DATA_OFFSET_MIN + data_size
    index_offset = 0
    if builder is not None:
        index_offset = end
        for piece in builder.encode():
            target.write(piece)
            end += len(piece)
    characteristics = _FULLY_INDEXED if index else bytes(16)
    target.seek(start + len(PRAGMA_V2))
    target.write(_HEADER_V2.pack(characteristics, _DATA_OFFSET_MIN, data_size, index_offset))
    target.seek(start + end)
    return end


def read_indexed_block(
    read_at: Callable[[int, int], bytes], data_offset: int, entry: IndexEntry
) -> Block:
    """The block that an entry points to, verified and of the entry's multihash.

    `read_at(offset, n)` reads the file; fewer bytes mean its end. Raises MalformedCar when the
    entry points elsewhere, HashMismatch when the block is damaged.
    """
    start = data_offset + entry.offset
    raw = read_at(start, _VARINT_SIZE_MAX_BYTES)
    try:
        size, prefix_size = varint.read(raw, 0)
    except ValueError as error:
        raise MalformedCar(f"index points to no section at {start}: {error}") from None
    if not 0 < size <= SECTION_SIZE_MAX_BYTES:
        raise MalformedCar(f"index points to a section of {size} bytes at {start}")
    section = read_at(start + prefix_size, size)
    if len(section) != size:
        raise TruncatedCar(f"file ends inside the section at {start}")
    cid, at = cids.read_prefix(section, 0)
    if cids.multihash_of(cid) != entry.multihash:
        raise MalformedCar(f"index names another block than the one at {start}")
    return Block.verify(cid, memoryview(section)[at:])


def _parse_header_v1(header: bytes) -> tuple[bytes, ...]:
    try:
        value = dagcbor.decode(header)
    except DataError as error:
        raise MalformedCar(f"header is not dag-cbor: {error}") from error
    version = value.get("version") if isinstance(value, dict) else None
    if type(version) is not int or version != 1:
        raise MalformedCar(f"header of CAR version {version!r} (known: 1, or 1 inside 2)")
    roots = value.get("roots")
    if not isinstance(roots, list) or not all(isinstance(root, dagcbor.Link) for root in roots):
        raise MalformedCar("header without a list of roots")
    return tuple(root.cid for root in roots)


def _parse_header_v2(raw: bytes) -> HeaderV2:
    header = HeaderV2(*_HEADER_V2.unpack(raw))
    end = header.data_offset + header.data_size
    if header.data_offset < _DATA_OFFSET_MIN or header.data_size == 0 or end >= 1 << 63:
        raise MalformedCar(
            f"data of {header.data_size} bytes at offset {header.data_offset} cannot be"
            " (the file was cut short while it was written, or is damaged)"
        )
    if header.index_offset and header.index_offset < end:
        raise MalformedCar(f"index at offset {header.index_offset} lies inside the data")
    return header


class _Source:
    """Exact reads over a callable that may answer short, with one buffer of read-ahead."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._buffer = b""
        self._at = 0
        # Bytes left before the end that the version 2 header states; None: up to the end of file.
        self._left: int | None = None

    def limit(self, size_bytes: int) -> None:
        """From here on the file counts as ending after `size_bytes`."""
        self._left = size_bytes

    def at_end(self) -> bool:
        """Whether a section may start here; the end of file before a stated end is an error."""
        if self._left is not None:
            return self._left == 0
        return self._at == len(self._buffer) and not self._fill()

    def take(self, size_bytes: int) -> bytes:
        """Exactly this many bytes; TruncatedCar when the file ends before."""
        if self._left is not None:
            if size_bytes > self._left:
                raise TruncatedCar("section runs past the end of the data that the header states")
            self._left -= size_bytes
        end = self._at + size_bytes
        if end <= len(self._buffer):
            taken = self._buffer[self._at : end]
            self._at = end
            return taken
        parts = [self._buffer[self._at :]]
        missing = size_bytes - len(parts[0])
        while missing:
            if not self._fill():
                raise TruncatedCar(f"file ends {missing} bytes before the end of a section")
            self._at = min(missing, len(self._buffer))
            missing -= self._at
            parts.append(self._buffer[: self._at])
        return b"".join(parts)

    def skip(self, size_bytes: int) -> None:
        """Pass over padding, in pieces: a lying offset must not cost memory."""
        while size_bytes:
            size_bytes -= len(self.take(min(size_bytes, _READ_SIZE_BYTES)))

    def varint(self, what: str) -> int:
        """A length prefix: at most nine bytes, in its shortest form."""
        raw = self.take(1)
        while raw[-1] & 0x80 and len(raw) < _VARINT_SIZE_MAX_BYTES:
            raw += self.take(1)
        try:
            return varint.read(raw, 0)[0]
        except ValueError as error:
            raise MalformedCar(f"length of a {what}: {error}") from None

    def _fill(self) -> bool:
        """Replace a spent buffer; False at the end of the file."""
        self._buffer = self._read(_READ_SIZE_BYTES)
        self._at = 0
        return bool(self._buffer)
