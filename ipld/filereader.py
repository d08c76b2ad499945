"""Reading a UnixFS file of any layout: balanced, trickle, old Raw nodes, content beside links.

A reader trusts a parent's blocksizes to find its way and checks each node against them when it gets
there, so a DAG that lies about its sizes ends in MalformedUnixfs and never in shifted bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from ipld import cid as cids
from ipld import dagpb, unixfs
from ipld.errors import MalformedUnixfs, NotAFile, TooDeep
from ipld.nodes import Get, load
from ipld.varint import BytesLike, read_protobuf

# Two links a node and leaves of one byte reach 2**63 bytes at depth 63; deeper is an attack.
DEPTH_MAX = 64
# Decoded nodes kept by one reader: at 1024 links about 150 KiB each.
_INNER_NODES_MAX = 32
_LEAVES_MAX = 4096


class _Node(NamedTuple):
    """Where a node's content lies: its own in its block, then that of its children."""

    own_start: int
    own_size: int
    ends: list[int]
    """Content offset after each child, relative to the end of the node's own content."""
    cids: list[bytes]

    @property
    def size(self) -> int:
        return self.own_size + (self.ends[-1] if self.ends else 0)


class FileReader:
    """Bytes of one file. Holds no blocks, but a bounded number of decoded nodes.

    Safe to use from several threads at once: nodes are immutable, and a lost cache entry is decoded
    again. Raises NotAFile, MalformedNode, TooDeep, and what `get` raises.
    """

    def __init__(self, root_cid: bytes, get: Get) -> None:
        self._root_cid, self._get = root_cid, get
        self._nodes: dict[bytes, _Node] = {}
        self._leaves: dict[bytes, _Node] = {}
        if cids.codec_of(root_cid) == cids.RAW:
            self.size = len(load(root_cid, get))
        else:
            self.size = self._node(root_cid)[0].size

    def read(self, offset: int, length: int) -> bytes:
        """Content from `offset`, shorter than `length` only at the end of the file."""
        pieces: list[BytesLike] = []
        for cid, start, take, block in self._spans(offset, length):
            piece = memoryview(load(cid, self._get) if block is None else block)[
                start : start + take
            ]
            if len(piece) != take:
                raise MalformedUnixfs(f"{cids.to_text(cid)} is shorter than its parent says")
            pieces.append(piece)
        return b"".join(pieces)

    def slices(self, offset: int, length: int) -> Iterator[tuple[bytes, int, int]]:
        """The same content as places in blocks: (cid, start in the block's data, length).

        For callers that map blocks instead of copying them. A raw leaf is not looked at, so a block
        that is shorter than `start + length` means a malformed file.
        """
        for cid, start, take, _ in self._spans(offset, length):
            yield cid, start, take

    def _spans(
        self, offset: int, length: int
    ) -> Iterator[tuple[bytes, int, int, BytesLike | None]]:
        end = min(offset + length, self.size)
        stack = [(self._root_cid, 0, self.size, 0)]
        while stack:
            cid, first, size, depth = stack.pop()
            start, stop = max(offset, first), min(end, first + size)
            if start >= stop:
                continue
            if cids.codec_of(cid) == cids.RAW:
                yield cid, start - first, stop - start, None
                continue
            node, block = self._node(cid)
            if node.size != size:
                raise MalformedUnixfs(f"{cids.to_text(cid)} has {node.size} bytes, not {size}")
            base = first + node.own_size
            if start < base:
                stop_own = min(stop, base)
                yield cid, node.own_start + start - first, stop_own - start, block
            if depth == DEPTH_MAX:
                raise TooDeep(f"file DAG deeper than {DEPTH_MAX}")
            ends = node.ends
            first_child = bisect_right(ends, start - base)
            last_child = min(bisect_left(ends, stop - base), len(ends) - 1)
            for child in range(last_child, first_child - 1, -1):
                begin = ends[child - 1] if child else 0
                stack.append((node.cids[child], base + begin, ends[child] - begin, depth + 1))

    def _node(self, cid: bytes) -> tuple[_Node, BytesLike | None]:
        """The node, and its block if that had to be fetched."""
        node = self._nodes.get(cid) or self._leaves.get(cid)
        if node is not None:
            return node, None
        block = bytes(load(cid, self._get))
        node = _parse(cid, block)
        cache = self._nodes if node.cids else self._leaves
        if len(cache) >= (_INNER_NODES_MAX if node.cids else _LEAVES_MAX):
            cache.clear()
        cache[cid] = node
        return node, block


def _parse(cid: bytes, block: bytes) -> _Node:
    if cids.codec_of(cid) != cids.DAG_PB:
        raise NotAFile(f"{cids.to_text(cid)} is not a UnixFS file")
    data_span = dagpb.only_data(block)
    if data_span is not None:
        links: list[dagpb.Link] = []
        record, content_start = unixfs.decode_span(block, *data_span)
    else:
        links, data = dagpb.decode(block)
        if data is None:
            raise MalformedUnixfs("the node has no UnixFS record")
        record, content_start = unixfs.decode_span(data, 0, len(data))
        # Data stands behind the links, in old blocks before them.
        links_first = block[0] != 0x0A
        content_start += len(block) - len(data) if links_first else read_protobuf(block, 1)[1]
    record = unixfs.check_file(record, len(links))
    if not record.is_file:
        raise NotAFile(f"{cids.to_text(cid)} is a {record.kind.name.lower()}")
    ends = list(accumulate(record.blocksizes))
    return _Node(content_start, len(record.content or b""), ends, [link.cid for link in links])
