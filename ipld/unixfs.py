"""UnixFS: the record in the Data field of a dag-pb node that makes it a file, directory or symlink.

    message Data { Type = 1; Data = 2; filesize = 3; repeated blocksizes = 4; hashType = 5;
                   fanout = 6; mode = 7; mtime = 8 { Seconds = 1; fixed32 Nanoseconds = 2 } }

Fields are written in this order, `blocksizes` unpacked, `mode` and `mtime` only when set; CIDs
depend on it. Reading refuses unknown fields, wrong wire types and wrong order. A file's `filesize`
must be its own content plus its `blocksizes`, and there must be one blocksize for each link.
Source: specs.ipfs.tech/unixfs, version 1.5; where it and Kubo differ, Kubo's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from ipld import varint
from ipld.errors import InvalidParameter, MalformedUnixfs
from ipld.varint import BytesLike

MODE_MASK = 0o7777
NANOSECONDS_MAX = 999_999_999
# Where a mode's upper bits may lie: 32 bits in all, of which the format defines the lowest twelve.
_MODE_MAX = (1 << 32) - 1
_SECONDS_LIMIT = 1 << 63


class Kind(IntEnum):
    """The Type field."""

    RAW = 0
    """Content without a name for it: leaves of trickle files and of very old ones."""
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5


class Attributes(NamedTuple):
    """UnixFS 1.5: `mode` has the twelve permission bits, `mtime` seconds and nanoseconds."""

    mode: int | None = None
    mtime: tuple[int, int] | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to write: a mode of 0 is written as no mode at all."""
        return bool(self.mode) or self.mtime is not None


class Data(NamedTuple):
    """One record. None and 0 are told apart, because a field that is absent has another CID."""

    kind: Kind
    content: bytes | None = None
    """A file's own bytes, a symlink's target, a shard's bitmap."""
    filesize: int | None = None
    blocksizes: Sequence[int] = ()
    hash_type: int | None = None
    fanout: int | None = None
    mode: int | None = None
    """All 32 bits as stored: a rewrite keeps those above the permissions."""
    mtime: tuple[int, int] | None = None

    @property
    def attributes(self) -> Attributes | None:
        """Permissions and time, or None when the record has neither."""
        return Attributes((self.mode or 0) & MODE_MASK or None, self.mtime) or None

    def with_attributes(self, attributes: Attributes | None) -> Data:
        """The same record with these attributes and no others. Raises InvalidParameter."""
        mode, mtime = attributes or Attributes()
        if mode is not None:
            if mode & ~MODE_MASK:
                raise InvalidParameter(f"mode {mode:o} has more than the twelve permission bits")
            mode |= (self.mode or 0) & ~MODE_MASK
        if mtime is not None and not 0 <= mtime[1] <= NANOSECONDS_MAX:
            raise InvalidParameter(f"mtime nanoseconds {mtime[1]} are out of range")
        if mtime is not None and not -_SECONDS_LIMIT <= mtime[0] < _SECONDS_LIMIT:
            raise InvalidParameter(f"mtime seconds {mtime[0]} are out of range")
        # A symlink never has a mode.
        return self._replace(mode=None if self.kind is Kind.SYMLINK else mode or None, mtime=mtime)

    @property
    def is_file(self) -> bool:
        """Whether the node has content that can be read."""
        return self.kind is Kind.FILE or self.kind is Kind.RAW


def file(
    content: bytes,
    blocksizes: Sequence[int] = (),
    attributes: Attributes | None = None,
    kind: Kind = Kind.FILE,
) -> Data:
    """A file node: a leaf with content, or an inner node with the content sizes of its links."""
    record = Data(kind, content or None, len(content) + sum(blocksizes), blocksizes)
    return record.with_attributes(attributes) if attributes else record


def encode(data: Data) -> bytes:
    """The canonical bytes of a record."""
    encode_varint = varint.encode
    pieces = [b"\x08", encode_varint(data.kind)]
    if data.content is not None:
        pieces += (b"\x12", encode_varint(len(data.content)), data.content)
    if data.filesize is not None:
        pieces += (b"\x18", encode_varint(data.filesize))
    if data.blocksizes:
        # Hundreds of links, but only two or three different sizes.
        fields = {size: b"\x20" + encode_varint(size) for size in set(data.blocksizes)}
        pieces += [fields[size] for size in data.blocksizes]
    for tag, value in ((b"\x28", data.hash_type), (b"\x30", data.fanout), (b"\x38", data.mode)):
        if value is not None:
            pieces += (tag, encode_varint(value))
    if data.mtime is not None:
        seconds, nanoseconds = data.mtime
        mtime = b"\x08" + encode_varint(seconds % (1 << 64))
        if nanoseconds:
            mtime += b"\x15" + nanoseconds.to_bytes(4, "little")
        pieces += (b"\x42", encode_varint(len(mtime)), mtime)
    return b"".join(pieces)


def decode(buffer: BytesLike | None) -> Data:
    """The record in a node's Data field; a node without Data has none. Raises MalformedUnixfs."""
    if buffer is None:
        raise MalformedUnixfs("the node has no UnixFS record")
    return decode_span(bytes(buffer), 0, len(buffer))[0]


def decode_file(buffer: BytesLike | None, link_count: int) -> Data:
    """Like `decode`, and a file's sizes are complete and agree with its number of links."""
    return check_file(decode(buffer), link_count)


def check_file(data: Data, link_count: int) -> Data:
    """A file's record with filesize filled in. Raises MalformedUnixfs when sizes disagree."""
    if not data.is_file:
        return data
    if len(data.blocksizes) != link_count:
        raise MalformedUnixfs(f"{len(data.blocksizes)} blocksizes for {link_count} links")
    size = len(data.content or b"") + sum(data.blocksizes)
    if data.filesize is None:
        return data._replace(filesize=size)
    if data.filesize != size:
        raise MalformedUnixfs(f"filesize {data.filesize}, but its parts hold {size} bytes")
    return data


def decode_span(block: bytes, position: int, end: int) -> tuple[Data, int]:
    """The record in block[position:end], and where in `block` its content starts."""
    try:
        return _decode(block, position, end)
    except IndexError:
        raise MalformedUnixfs("record is cut short") from None
    except ValueError as error:
        raise MalformedUnixfs(str(error)) from None


def _decode(block: bytes, position: int, end: int) -> tuple[Data, int]:
    values: dict[int, int] = {}
    blocksizes: list[int] = []
    content: bytes | None = None
    mtime: tuple[int, int] | None = None
    content_start = position
    last_tag = 0
    while position < end:
        start, tag = position, block[position]
        if tag < last_tag or (tag == last_tag and tag != 0x20):
            raise ValueError(f"field with tag byte {tag:#04x} is repeated or out of order")
        last_tag = tag
        if tag not in _KNOWN_TAGS:
            raise ValueError(f"unknown field (tag byte {tag:#04x})")
        value, position = varint.read_protobuf(block, position + 1)
        if tag == 0x12:
            content_start, position = position, position + value
            content = block[content_start:position]
        elif tag == 0x20:
            blocksizes.append(value)
            # Most blocksizes repeat their predecessor: compare halves of the rest, not each.
            field = block[start:position]
            repeats = (end - position) // len(field)
            while repeats:
                if block.startswith(field * repeats, position):
                    blocksizes += [value] * repeats
                    position += repeats * len(field)
                repeats = min(repeats // 2, (end - position) // len(field))
        elif tag == 0x42:
            position += value
            mtime = _decode_mtime(block, position - value, min(position, end))
        else:
            values[tag] = value
    if position != end:
        raise ValueError("record is cut short")
    if values.get(0x38, 0) > _MODE_MAX:
        raise ValueError("mode has more than 32 bits")
    filesize, hash_type, fanout, mode = map(values.get, (0x18, 0x28, 0x30, 0x38))
    if 0x08 not in values:
        raise ValueError("record without a type")
    kind, sizes = Kind(values[0x08]), tuple(blocksizes)
    return Data(kind, content, filesize, sizes, hash_type, fanout, mode, mtime), content_start


_KNOWN_TAGS = frozenset((0x08, 0x12, 0x18, 0x20, 0x28, 0x30, 0x38, 0x42))


def _decode_mtime(block: bytes, position: int, end: int) -> tuple[int, int]:
    if position >= end or block[position] != 0x08:
        raise ValueError("mtime without seconds")
    seconds, position = varint.read_protobuf(block, position + 1)
    if seconds >= _SECONDS_LIMIT:
        seconds -= 1 << 64
    if position == end:
        return seconds, 0
    if block[position] != 0x15 or position + 5 != end:
        raise ValueError("unknown, repeated or misplaced field in mtime")
    nanoseconds = int.from_bytes(block[position + 1 : end], "little")
    if not 1 <= nanoseconds <= NANOSECONDS_MAX:
        raise ValueError(f"mtime nanoseconds {nanoseconds} are out of range")
    return seconds, nanoseconds
