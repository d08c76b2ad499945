"""dag-pb: a node is a list of named links and a piece of data.

    message PBLink { bytes Hash = 1; string Name = 2; uint64 Tsize = 3; }
    message PBNode { repeated PBLink Links = 2; bytes Data = 1; }

Written as Kubo writes it, because CIDs depend on it: Links before Data, links stably sorted by name
bytes, Name always present even when empty, Tsize always present.

Read strictly: unknown fields, wrong wire types, duplicate fields, and PBLink fields out of order
are refused. Two liberties are the specification's own: Data may come before Links, because such
blocks exist, and links keep whatever order they have. Source: ipld.io/specs/codecs/dag-pb/spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from ipld import cid as cids
from ipld import varint
from ipld.errors import InvalidCid, LimitExceeded, MalformedDagPb, UnsupportedHash
from ipld.varint import BytesLike

_TAG_DATA = 0x0A
_TAG_LINK = 0x12
_TAG_HASH = 0x0A
_TAG_NAME = 0x12
_TAG_TSIZE = 0x18
# CIDs whose first four bytes and length prove them valid: no need to take each one apart.
_V0_START = b"\x12\x20"
_V1_STARTS = frozenset(bytes((1, codec, 0x12, 0x20)) for codec in (0x55, 0x70, 0x71))
_V0_HASH_FIELD = b"\x0a\x22" + _V0_START
_V1_HASH_FIELDS = frozenset(b"\x0a\x24" + start for start in _V1_STARTS)
_new_tuple = tuple.__new__


class Link(NamedTuple):
    """One PBLink. `tsize` is the size of everything below in encoded bytes, duplicates counted."""

    cid: bytes
    name: bytes
    tsize: int


class Node(NamedTuple):
    """One PBNode. `data` is None when the field is absent, which is not the same as empty."""

    links: list[Link]
    data: bytes | None


class NamedLinks(NamedTuple):
    """Links in columns, with where each ends: enough to splice others in between."""

    cids: list[bytes]
    names: list[bytes]
    tsizes: list[int]
    ends: list[int]
    """Offset after each link; each begins where the one before it ends."""


def encode(links: Sequence[tuple[bytes, bytes, int]], data: bytes | None) -> bytes:
    """The canonical block of these links, sorted by name, and this data."""
    pieces = _encode_file_links(links)
    rest = links[-1:] if pieces else links
    last_name = b""
    for cid, name, tsize in rest:
        if name < last_name:
            return encode(sorted(links, key=itemgetter(1)), data)
        last_name = name
        pieces.append(_encode_link(cid, name, tsize))
    if data is not None:
        pieces += (b"\x0a", varint.encode(len(data)), data)
    return b"".join(pieces)


def _encode_link(cid: bytes, name: bytes, tsize: int) -> bytes:
    size = varint.encode(tsize)
    cid_size, name_size = len(cid), len(name)
    link_size = 5 + cid_size + name_size + len(size)
    if link_size < 0x80:
        fields = (link_size, cid_size, cid, name_size, name, size)
        return b"\x12%c\x0a%c%b\x12%c%b\x18%b" % fields
    head, tail = _around_cid(cid_size, name, tsize)
    return b"%b%b%b" % (head, cid, tail)


def _encode_file_links(links: Sequence[tuple[bytes, bytes, int]]) -> list[bytes]:
    """All links but the last when they differ in the CID's digest only, else nothing.

    That is the shape of every node of a file DAG but the rightmost ones: no loop in Python over the
    174 or 1024 links.
    """
    count = len(links) - 1
    if count < 2 or links[0][1] or links[0][2] != links[count - 1][2]:
        return []
    link_cids, names, tsizes = zip(*links[:-1], strict=True)
    if any(names) or tsizes.count(tsizes[0]) != count or len(set(map(len, link_cids))) != 1:
        return []
    head, tail = _around_cid(len(link_cids[0]), b"", tsizes[0])
    return [head, (tail + head).join(link_cids), tail]


def _around_cid(cid_size: int, name: bytes, tsize: int) -> tuple[bytes, bytes]:
    """The bytes of one link before and after its CID."""
    tail = b"\x12%b%b\x18%b" % (varint.encode(len(name)), name, varint.encode(tsize))
    start = b"\x0a" + varint.encode(cid_size)
    return b"\x12" + varint.encode(len(start) + cid_size + len(tail)) + start, tail


def decode(buffer: BytesLike) -> Node:
    """Raises MalformedDagPb."""
    block = bytes(buffer)
    try:
        return _decode_node(block)
    except IndexError:
        raise MalformedDagPb("node is cut short") from None
    except (ValueError, InvalidCid, UnsupportedHash, LimitExceeded) as error:
        raise MalformedDagPb(str(error)) from None


def only_data(block: bytes) -> tuple[int, int] | None:
    """Where the data starts and ends in a block that holds nothing else: a leaf, without a copy."""
    if not block or block[0] != _TAG_DATA:
        return None
    try:
        size, start = _read_size(block, 1)
    except (IndexError, ValueError):
        return None
    return (start, start + size) if start + size == len(block) else None


def _decode_node(block: bytes) -> Node:
    found = named_links(block)
    links = [_new_tuple(Link, fields) for fields in zip(*found[:3], strict=True)]
    position = found.ends[-1] if found.ends else 0
    data: bytes | None = None
    # Set when data follows links: a second run of links would make the order ambiguous.
    links_closed = False
    end = len(block)
    while position < end:
        first, tag = position, block[position]
        size, start = _read_size(block, position + 1)
        position = start + size
        if position > end:
            raise ValueError("field is cut short")
        if tag == _TAG_LINK:
            if links_closed:
                raise ValueError("links on both sides of the data")
            link = _decode_link(block, start, position)
            links.append(link)
            if not link.name and size < 0x80 and len(link.cid) in (34, 36):
                position += _take_run(block, first, position - first, links)
        elif tag == _TAG_DATA:
            if data is not None:
                raise ValueError("data field appears twice")
            data = block[start:position]
            links_closed = bool(links)
        else:
            raise ValueError(f"unknown field (tag byte {tag:#04x})")
    return Node(links, data)


def _take_run(block: bytes, first: int, size: int, links: list[Link]) -> int:
    """Append the links after links[-1], found at `first`, that differ from it in the digest only.

    All but the last links of a file node do: byte columns are compared instead of parsing each.
    A long run is only looked for when a short one was found, or unlike neighbours would cost most.
    Returns the size of what was taken.
    """
    cid, name, tsize = links[-1]
    digest = range(len(cid) - 28, len(cid) + 4)
    fixed = [offset for offset in range(size) if offset not in digest]
    longest = (len(block) - first) // size
    for count in (16, longest):
        count = min(count, longest)
        for offset in fixed:
            column = block[first + offset : first + count * size : size]
            count -= len(column.lstrip(column[:1]))
        if count < 16:
            break
    cid_start, cid_size = first + 4, len(cid)
    links += [
        _new_tuple(Link, (block[start : start + cid_size], name, tsize))
        for start in range(cid_start + size, cid_start + count * size, size)
    ]
    return (count - 1) * size


def named_links(block: bytes) -> NamedLinks:
    """The links that open a directory or shard, up to the first that is not ordinary.

    Ordinary: all three fields, a name, a well-known kind of CID, less than 128 bytes. What stands
    where the last one ends is for `decode` to read or to refuse.
    """
    position = 0
    link_cids, names, tsizes, ends = found = NamedLinks([], [], [], [])
    try:
        while block[position] == _TAG_LINK:
            start, size = position + 2, block[position + 1]
            if block[start : start + 6] in _V1_HASH_FIELDS:
                cid_end = start + 38
            elif block[start : start + 4] == _V0_HASH_FIELD:
                cid_end = start + 36
            else:
                break
            name_end = cid_end + 2 + block[cid_end + 1]
            tsize, stop = block[name_end + 1], name_end + 2
            if tsize >= 0x80:
                high = block[stop]
                if high < 0x80:
                    tsize, stop = tsize + (high << 7) - 0x80, stop + 1
                else:
                    tsize, stop = varint.read_protobuf(block, name_end + 1)
            name = block[cid_end + 2 : name_end]
            if (
                stop != start + size
                or size >= 0x80
                or not name
                or block[cid_end] != _TAG_NAME
                or block[name_end] != _TAG_TSIZE
            ):
                break
            link_cids.append(block[start + 2 : cid_end])
            names.append(name)
            tsizes.append(tsize)
            ends.append(stop)
            position = stop
    except (IndexError, ValueError):
        # The block ends here, or does not go on as expected.
        pass
    return found


def _decode_link(block: bytes, position: int, end: int) -> Link:
    """The PBLink that fills block[position:end]."""
    if position == end or block[position] != _TAG_HASH:
        raise ValueError("link without a CID")
    size, start = _read_size(block, position + 1)
    position = start + size
    cid = block[start:position]
    if not (size == 36 and cid[:4] in _V1_STARTS) and not (size == 34 and cid[:2] == _V0_START):
        cids.decode(cid)
    name, tsize = b"", 0
    if position < end and block[position] == _TAG_NAME:
        size, start = _read_size(block, position + 1)
        position = start + size
        name = block[start:position]
    if position < end and block[position] == _TAG_TSIZE:
        tsize, position = varint.read_protobuf(block, position + 1)
    if position != end:
        raise ValueError("unknown, repeated, misplaced or cut field in a link")
    return _new_tuple(Link, (cid, name, tsize))


def _read_size(block: bytes, position: int) -> tuple[int, int]:
    """The length prefix at `position`; IndexError when the block ends before it."""
    size = block[position]
    if size < 0x80:
        return size, position + 1
    return varint.read_protobuf(block, position)
