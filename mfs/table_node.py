"""One node of a table as a dag-cbor block. Format: `docs/formats/table.md`.

    node  := [version, level, packed, links]
    level := 0 for a leaf, else one more than the level of every child
    leaf  := count u32be, key lengths u16be * count, value lengths u32be * count, keys, values
    inner := count u32be, key lengths u16be * count, keys          (links: one per key)

Keys ascend strictly. In an inner node, key i is the smallest key that may occur below child i.

Keys and values are packed into one byte string, because a C call that splits it is several times
faster than decoding hundreds of dag-cbor items, and a node is decoded on every cache miss. The
children are real dag-cbor links, so that gc and CAR export follow a table without knowing it.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, pairwise
from operator import lt

from ipld import cid as cids
from ipld import dagcbor
from ipld import multihash as multihashes
from ipld.block import Block, BytesLike
from ipld.errors import IpldError
from mfs.errors import MalformedTable

FORMAT_VERSION = 1
KEY_SIZE_MAX_BYTES = 1024
VALUE_SIZE_MAX_BYTES = 256 << 10
LEVEL_MAX = 15

TARGET_SIZE_BYTES = 8 << 10
"""What a node that must be split is cut into."""
SPLIT_SIZE_BYTES = 12 << 10
"""A node above this is split."""
JOIN_SIZE_BYTES = 2 << 10
"""A rewritten node below this is joined with a neighbour."""

_LEAF_ITEM_BYTES = 6
# Two bytes of key length; tag, head and zero byte of the link; a CID of 36 bytes.
_INNER_ITEM_BYTES = 2 + 5 + 36


class Node:
    """A decoded node, never changed once it is stored or in a cache."""

    __slots__ = ("items", "keys", "level", "size_bytes")

    def __init__(self, level: int, keys: list[bytes], items: list[bytes]) -> None:
        self.level = level
        self.keys = keys
        self.items = items
        """Values in a leaf, CIDs of the children otherwise; as many as keys."""
        if level:
            self.size_bytes = sum(map(len, keys)) + _INNER_ITEM_BYTES * len(keys)
        else:
            lengths = sum(map(len, keys)) + sum(map(len, items))
            self.size_bytes = lengths + _LEAF_ITEM_BYTES * len(keys)

    def encode(self) -> Block:
        """The block: CID version 1, dag-cbor, sha2-256, whatever the root's profile is."""
        keys, items = self.keys, self.items
        count = len(keys)
        key_lengths = struct.pack(f">I{count}H", count, *map(len, keys))
        if self.level:
            links = [dagcbor.Link(cid) for cid in items]
            packed = b"".join((key_lengths, *keys))
        else:
            links = []
            value_lengths = struct.pack(f">{count}I", *map(len, items))
            packed = b"".join((key_lengths, value_lengths, *keys, *items))
        data = dagcbor.encode([FORMAT_VERSION, self.level, packed, links])
        hashed = multihashes.digest_multihash(multihashes.SHA2_256, data)
        return Block(cids.make(1, cids.DAG_CBOR, hashed), data)

    def split(self) -> Iterator[Node]:
        """This node, or parts of about the target size when it is too large."""
        if self.size_bytes <= SPLIT_SIZE_BYTES or len(self.keys) == 1:
            yield self
            return
        ends = list(accumulate(self.item_sizes()))
        total = ends[-1]
        parts = -(-total // TARGET_SIZE_BYTES)
        cuts = {bisect_left(ends, total * part // parts) + 1 for part in range(1, parts)}
        for start, end in pairwise(sorted({0, len(ends), *cuts})):
            yield Node(self.level, self.keys[start:end], self.items[start:end])

    def joined(self, right: Node) -> Node:
        """Both nodes' content in one."""
        return Node(self.level, self.keys + right.keys, self.items + right.items)

    def item_sizes(self) -> Iterator[int]:
        """What each key and its item take in the encoded node."""
        if self.level:
            return (len(key) + _INNER_ITEM_BYTES for key in self.keys)
        pairs = zip(self.keys, self.items, strict=True)
        return (len(key) + len(value) + _LEAF_ITEM_BYTES for key, value in pairs)


def decode(block: BytesLike) -> Node:
    """The node in a block. Raises MalformedTable."""
    try:
        fields = dagcbor.decode(block)
    except IpldError as error:
        raise MalformedTable(f"table node: {error}") from error
    level, packed, links = _check_fields(fields)
    try:
        count: int = struct.unpack_from(">I", packed)[0]
        # Before the format string is built: a lying count must not make a string of gigabytes.
        if not 0 < count <= len(packed):
            raise MalformedTable(f"table node with {count} keys in {len(packed)} bytes")
        at = 4
        lengths: tuple[int, ...] = struct.unpack_from(f">{count}H", packed, at)
        at += 2 * count
        if level == 0:
            lengths += struct.unpack_from(f">{count}I", packed, at)
            at += 4 * count
    except struct.error:
        raise MalformedTable("table node is cut short") from None
    if at + sum(lengths) != len(packed):
        raise MalformedTable("table node's lengths do not add up to its size")
    # One C call that cuts all pieces: slicing each takes twice as long.
    pieces = list(struct.unpack_from("%ds" * len(lengths) % lengths, packed, at))
    keys, items = pieces[:count], pieces[count:] if level == 0 else links
    if len(items) != count or not all(map(lt, keys, keys[1:])):
        raise MalformedTable("table node's keys do not ascend, or do not match its links")
    return Node(level, keys, items)


def _check_fields(fields: object) -> tuple[int, bytes, list[bytes]]:
    if not isinstance(fields, list) or len(fields) != 4:
        raise MalformedTable("dag-cbor block is no table node")
    version, level, packed, links = fields
    if type(version) is not int or version != FORMAT_VERSION:
        raise MalformedTable(f"table node of version {version!r} (this program reads 1)")
    if type(level) is not int or not 0 <= level <= LEVEL_MAX:
        raise MalformedTable(f"table node of level {level!r}")
    if not isinstance(packed, bytes) or not isinstance(links, list) or (links and not level):
        raise MalformedTable("table node's fields have the wrong types")
    if not all(isinstance(link, dagcbor.Link) for link in links):
        raise MalformedTable("table node has children that are no links")
    return level, packed, [link.cid for link in links]
