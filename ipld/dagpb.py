"""dag-pb: a node is a list of named links and a piece of data.

    message PBLink { bytes Hash = 1; string Name = 2; uint64 Tsize = 3; }
    message PBNode { repeated PBLink Links = 2; bytes Data = 1; }

Written as Kubo writes it, because CIDs depend on it: Links before Data, links stably sorted by name
bytes, Name always present even when empty, Tsize always present.

Read strictly: unknown fields, wrong wire types, duplicate fields, and PBLink fields out of order are
refused. Two liberties are the specification's own: Data may come before Links, because such blocks
exist, and links keep whatever order they have. Source: ipld.io/specs/codecs/dag-pb/spec.
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


class Link(NamedTuple):
    """One PBLink. `tsize` is the size of everything below in encoded bytes, duplicates counted."""

    cid: bytes
    name: bytes
    tsize: int


class Node(NamedTuple):
    """One PBNode. `data` is None when the field is absent, which is not the same as empty."""

    links: list[Link]
    data: bytes | None


def encode(links: Sequence[tuple[bytes, bytes, int]], data: bytes | None) -> bytes:
    """The canonical block of these links, sorted by name, and this data."""
    encode_varint = varint.encode
    pieces: list[bytes] = []
    append = pieces.append
    # Neighbours mostly share name, CID length and tsize, so what surrounds the CID is reused.
    last_size, last_name, last_tsize = -1, b"", -1
    head = tail = b""
    for cid, name, tsize in links:
        if tsize != last_tsize or name != last_name or len(cid) != last_size:
            if name < last_name:
                return encode(sorted(links, key=itemgetter(1)), data)
            last_size, last_name, last_tsize = len(cid), name, tsize
            tail = b"\x12%b%b\x18%b" % (encode_varint(len(name)), name, encode_varint(tsize))
            start = b"\x0a" + encode_varint(last_size)
            head = b"\x12" + encode_varint(len(start) + last_size + len(tail)) + start
        append(head)
        append(cid)
        append(tail)
    if data is not None:
        append(b"\x0a" + encode_varint(len(data)))
        append(data)
    return b"".join(pieces)


def decode(buffer: BytesLike) -> Node:
    """Raises MalformedDagPb."""
    block = bytes(buffer)
    try:
        return _decode_node(block)
    except IndexError:
        raise MalformedDagPb("node is cut short") from None
    except (ValueError, InvalidCid, UnsupportedHash, LimitExceeded) as error:
        raise MalformedDagPb(str(error)) from None


def _decode_node(block: bytes) -> Node:
    links: list[Link] = []
    data: bytes | None = None
    # Set when something else follows links: a second run of links would make the order ambiguous.
    links_closed = False
    position, end = 0, len(block)
    while position < end:
        tag = block[position]
        size, start = _read_size(block, position + 1)
        position = start + size
        if position > end:
            raise ValueError("field is cut short")
        if tag == _TAG_LINK:
            if links_closed:
                raise ValueError("links on both sides of the data")
            links.append(_decode_link(block, start, position))
        elif tag == _TAG_DATA:
            if data is not None:
                raise ValueError("data field appears twice")
            data = block[start:position]
            links_closed = bool(links)
        else:
            raise ValueError(f"unknown field (tag byte {tag:#04x})")
    return Node(links, data)


def _decode_link(block: bytes, position: int, end: int) -> Link:
    """The PBLink that fills block[position:end]."""
    if position == end or block[position] != _TAG_HASH:
        raise ValueError("link without a CID")
    size, start = _read_size(block, position + 1)
    position = start + size
    if position > end:
        raise ValueError("CID of a link is cut short")
    cid = block[start:position]
    if not (size == 36 and cid[:4] in _V1_STARTS) and not (size == 34 and cid[:2] == _V0_START):
        cids.decode(cid)
    name, tsize = b"", 0
    if position < end and block[position] == _TAG_NAME:
        size, start = _read_size(block, position + 1)
        position = start + size
        if position > end:
            raise ValueError("name of a link is cut short")
        name = block[start:position]
    if position < end and block[position] == _TAG_TSIZE:
        tsize, position = varint.read_protobuf(block, position + 1)
    if position != end:
        raise ValueError("unknown, repeated or misplaced field in a link")
    return Link(cid, name, tsize)


def _read_size(block: bytes, position: int) -> tuple[int, int]:
    """The length prefix at `position`; IndexError when the block ends before it."""
    size = block[position]
    if size < 0x80:
        return size, position + 1
    return varint.read_protobuf(block, position)
